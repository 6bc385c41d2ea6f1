"""Two people who may be one: whoever gave somebody the means to act can have kept them.

A log proves that two principals said yes, not that two people did. An admin who registers a second name, issues its
token and keeps it is one person with two voices. Nothing can refuse that: admins are there to issue tokens. `verify`
therefore says wherever of two people that a decision needs one had issued a token to the other.

Rules: a warning, never a failure; each pair of one decision once. What this does not know: who holds a token.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from mass_gov.flows.audit_report import Findings
from mass_gov.ledger import Entry
from mass_gov.records.events import TokenIssued


class Handovers:
    """Remembers who issued whose tokens, as the events pass by."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._issued: set[tuple[str, str]] = set()

    def look(self, entry: Entry, body: TokenIssued) -> None:
        """Note who gave a token to whom."""
        self._issued.add((entry.predicate.actor.principal, body.principal))

    def together(self, index: int, what: str, people: Iterable[str]) -> None:
        """Warn of pairs among the people behind one decision of which one had the other's token to give."""
        for one, other in combinations(sorted(set(people)), 2):
            for giver, taker in ((one, other), (other, one)):
                if (giver, taker) in self._issued:
                    self._findings.warn(
                        f"{what} (event {index}) took {giver} and {taker}, and {giver} had issued {taker}'s token: "
                        "make sure that they are two people."
                    )
