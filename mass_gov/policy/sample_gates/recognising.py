"""Recognisers of what must not be learned: a pattern, and where that alone would cry wolf a check of the find.

Rules: no download, no model, no network. Patterns are bounded everywhere and start only at the edge of a run, so that
reading a text takes time in proportion to its length, whatever the text. What was found is never repeated: a hit says
its kind and where it stands. Characters that nobody sees are taken out first, and compatibility forms are read as what
they look like; positions are those of the text so read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mass_gov.policy.sample_gates.finding import Finding
from mass_gov.policy.similarity import shown
from mass_gov.records.artifacts import SampleContent

Check = Callable[[re.Match[str]], bool]


@dataclass(frozen=True, slots=True)
class Recogniser:
    """One kind of thing. `check` looks at what the pattern found, in its text."""

    kind: str
    pattern: re.Pattern[str]
    check: Check | None = None
    least: int = 0
    """Characters that a find has at least: a shorter text is not looked through. Most practice is short."""
    needs: str = ""
    """Characters of which every find has one: a text without any of them is not looked through either."""

    def may_find(self, read: str) -> bool:
        """Whether it is worth looking: it never finds anything where this says no."""
        return len(read) >= self.least and (not self.needs or any(one in read for one in self.needs))


@dataclass(frozen=True, slots=True)
class Hit:
    """A kind, and where: [start, end) in the text as read."""

    kind: str
    start: int
    end: int


def as_read(text: str) -> str:
    """The text as a reader sees it: compatibility forms resolved, invisible characters gone."""
    return shown(unicodedata.normalize("NFKC", shown(text)))


def hits(text: str, recognisers: Sequence[Recogniser]) -> list[Hit]:
    """What the recognisers find, in the order of the text; the first kind that claims a stretch keeps it."""
    read, found = as_read(text), list[Hit]()
    taken = bytearray(len(read))
    for one in recognisers:
        for match in one.pattern.finditer(read) if one.may_find(read) else ():
            start, end = match.span()
            if not any(taken[start:end]) and (one.check is None or one.check(match)):
                taken[start:end] = b"\1" * (end - start)
                found.append(Hit(one.kind, start, end))
    return sorted(found, key=lambda hit: (hit.start, hit.end))


def look(sample: SampleContent, recognisers: Sequence[Recogniser]) -> Finding:
    """Look through what would be trained on: the question and the solution."""
    found = [
        f"{hit.kind} at {part} {hit.start}-{hit.end}"
        for part, text in (("question", sample.question), ("solution", sample.solution))
        for hit in hits(text or "", recognisers)
    ]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return Finding(float(len(found)), not found, ("; ".join(found[:SHOWN]) + more) or "none")


SHOWN = 8
"""Hits that a detail names."""


def arithmetic(match: re.Match[str]) -> bool:
    """Whether the digits stand in a calculation: 123-45-6789 after `What is` is a difference, not a person's number."""
    if named(match):
        return False
    before, after = match.string[: match.start()].rstrip(" "), match.string[match.end() :].lstrip(" ")
    if before.endswith("(") and after.startswith(")"):  # in brackets of its own
        before, after = before[:-1].rstrip(), after[1:].lstrip()
    asked = _ASKED.search(before[-24:]) is not None
    return asked or before[-1:] in tuple("=+-*/^<>(~@") or after[:1] in tuple("=+*/^<>)~@")


def named(match: re.Match[str]) -> bool:
    """Whether the digits are assigned to a name of what they would be: `SSN = 123-45-6789`, `<ip>10.0.0.1</ip>`."""
    return _NAMED.search(match.string[max(match.start() - 40, 0) : match.start()]) is not None


_NAMED = re.compile(
    r"(?<![A-Za-z])(?:ssn|social security|(?:(?:credit|debit|payment|bank)[ _-]?)?card|cc|pan|visa|mastercard|amex"
    r"|phone|telephone|tel|mobile|cell|fax|contact|ip|ip[ _-]?v?[46]|host|server|client|remote|gateway|addr(?:ess)?)"
    r"(?:[ _-]?(?:number|no|num|nr|addr(?:ess)?)\.?)?[\"' ]{0,3}(?:=|:=|=>|->|>)[\"' \[]{0,3}$",
    re.I,
)
_ASKED = re.compile(
    r"(?:what is|what's|compute|calculate|evaluate|simplify|solve|value of|result of|difference)\s{0,3}:?\s{0,3}$", re.I
)
