"""Ways of answering that the evaluation sets side by side: MASS, its ablations, and every sensible rival.

Rules: a method is a function (engine, questions, setup, seed) -> replies. It is given question texts and never a gold
answer, an outcome or a checker, so no label can reach a sample, a weight or a delta. Whatever a method may know about
a domain comes through `Surroundings`, whose functions take question texts too.

It does not know folders, tasks, grading or what an answer is worth.
"""
