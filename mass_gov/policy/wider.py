"""In which direction a setting of a policy lets more pass: a mark that stands beside the setting's type.

Rules: every setting is marked where it is declared. One without a mark widens whenever it changes: when in doubt, two
people look at it. This module does not know policies; `mass_gov.policy.widening` compares them.
"""

from __future__ import annotations

from enum import StrEnum


class Wider(StrEnum):
    """What of two values of a setting lets more pass."""

    HIGHER = "higher"
    """The larger number; none at all, or `unused`, is no limit."""
    GRANTED = "granted"
    """The larger number; none at all grants nothing."""
    LOWER = "lower"
    """The smaller number."""
    MORE = "more"
    """The set that has a member more."""
    FEWER = "fewer"
    """The set that has a member less."""
    LATER = "later"
    """The word that stands later in the type's own list."""
    EARLIER = "earlier"
    """The word that stands earlier in the type's own list."""
    YES = "yes"
    NO = "no"
    NEITHER = "neither"
    """Says nothing about what passes: a name, a version, a person's words."""
