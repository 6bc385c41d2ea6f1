"""How it learns: a causal language model that writes practice, takes a few weighted LoRA steps on it, and answers.

Rules: nothing here imports from the project but `mass_gov.errors`; what goes in and out is plain data (bytes, text,
numbers, frozen dataclasses), so that a remote actor can stand in front of it; torch is imported by the modules that
compute, never by this one.

It does not know about records, policies, databases or people: it neither judges nor stores what it learns.
"""
