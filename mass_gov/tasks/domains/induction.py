"""Domain `induction`: a rule is shown by demonstrations and has to be applied to a new number."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from mass_gov.tasks.domains.base import Domain
from mass_gov.tasks.task import Split, split_by_hash

_PATTERN = re.compile(r"((?:[0-9]>[0-9]{1,2} ){2,3})([0-9])>\?")
_OFFSETS = 10
_SLOPES = 9
_HELD_OUT = 0.15


@dataclass(frozen=True, slots=True)
class Rule:
    """y = slope*x + offset, shown at two or three digits, asked at `query`."""

    slope: int
    offset: int
    shown: tuple[int, ...]
    query: int

    def at(self, x: int) -> int:
        """What the rule makes of x."""
        return self.slope * x + self.offset


class InductionDomain(Domain[Rule]):
    """Asked: `2>7 4>11 9>21 6>?`, by the affine rule that the demonstrations show.

    Held out: a seventh of the 90 rules (slope 1..9, offset 0..9) is hard, by hash, a seventh for meta-training; there
    the demonstrations are two apart instead of adjacent. Hard space: > 2,000 questions. Chance: below 1/30. Leaving a
    demonstration out makes practice whose answer is known.
    """

    name = "induction"
    kind = "induction"
    chance = 1 / 30

    def draw(self, rng: random.Random, split: Split) -> Rule:
        count = rng.choice((2, 3)) if split == "easy" else 3
        gap = rng.choice((1, 1, 1, 2)) if split == "easy" else 2
        return self._shown(rng.randrange(1, _SLOPES + 1), rng.randrange(_OFFSETS), gap, count, rng)

    def ease(self, problem: Rule, rng: random.Random) -> Rule:
        """The same rule: one demonstration asked instead of shown, or two adjacent ones shown."""
        if len(problem.shown) > 2 and rng.randrange(2):
            *rest, left_out = problem.shown
            return Rule(problem.slope, problem.offset, tuple(rest), left_out)
        return self._shown(problem.slope, problem.offset, 1, 2, rng)

    def kin(self, problem: Rule, rng: random.Random) -> Rule:
        """The same rule, as hard, shown elsewhere."""
        return self._shown(problem.slope, problem.offset, 2, 3, rng)

    def _shown(self, slope: int, offset: int, gap: int, count: int, rng: random.Random) -> Rule:
        first = rng.randrange(10 - gap)
        digits = [x for x in range(10) if x not in (first, first + gap)]
        rng.shuffle(digits)
        return Rule(slope, offset, (first, first + gap, *digits[: count - 2]), digits[-1])

    def split_of(self, problem: Rule) -> Split:
        return split_by_hash(self.name, f"{problem.slope},{problem.offset}", held_out=_HELD_OUT)

    def level(self, problem: Rule) -> int:
        return problem.shown[1] - problem.shown[0]

    def render(self, problem: Rule) -> str:
        shown = " ".join(f"{x}>{problem.at(x)}" for x in problem.shown)
        return f"{shown} {problem.query}>?"

    def parse(self, question: str) -> Rule | None:
        match = _PATTERN.fullmatch(question)
        if match is None:
            return None
        pairs = [tuple(map(int, pair.split(">"))) for pair in match[1].split()]
        (x0, y0), (x1, y1) = pairs[:2]
        if not x0 < x1 or (y1 - y0) % (x1 - x0):
            return None
        slope = (y1 - y0) // (x1 - x0)
        problem = Rule(slope, y0 - slope * x0, tuple(x for x, _ in pairs), int(match[2]))
        distinct = len({*problem.shown, problem.query}) == len(pairs) + 1
        valid = distinct and 1 <= slope <= _SLOPES and 0 <= problem.offset < _OFFSETS
        return problem if valid and self.render(problem) == question else None

    def answer(self, problem: Rule) -> str:
        return str(problem.at(problem.query))

    def working(self, problem: Rule) -> str:
        slope, offset = problem.slope, problem.offset
        return f"{slope} {slope * problem.shown[0]}+{offset} {slope * problem.query}+{offset}"
