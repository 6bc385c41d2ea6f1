"""Sets methods side by side on the same tasks: `evaluate` in `run`, what it reports in `report`.

Rules: every method gets the same questions and never a gold answer (`problems` keeps them apart); outcomes are graded
afterwards; every interval is a paired bootstrap against the base.
"""
