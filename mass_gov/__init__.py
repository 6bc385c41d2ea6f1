"""mass-gov: every test-time update of a language model is a change event.

A newcomer starts at `mass_gov/flows/adapt.py`, which reads as the sentence
request -> synthesis -> gates -> update -> regression -> decision -> ledger -> answer.
"""

__version__ = "0.1.0"
