"""What the system does: one file per use. Start at `adapt.py`."""
