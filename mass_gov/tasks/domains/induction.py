"""Domain `induction`: a rule is shown by demonstrations and has to be applied to a new number."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from mass_gov.tasks.domains.base import Domain
from mass_gov.tasks.task import Split, share

_PATTERN = re.compile(r"([0-9])>([0-9]{1,2}) ([0-9])>([0-9]{1,2}) ([0-9])>([0-9]{1,2}) ([0-9])>\?")
_HELD_OUT = 0.4


@dataclass(frozen=True, slots=True)
class Rule:
    """y = slope*x + offset, shown at three `shown` digits, asked at `query`."""

    slope: int
    offset: int
    shown: tuple[int, int, int]
    query: int

    def at(self, x: int) -> int:
        return self.slope * x + self.offset


class InductionDomain(Domain[Rule]):
    """Asked: `2>7 3>9 6>15 8>?`, by the affine rule that the three demonstrations show.

    Held out: 40% of the 90 rules (slope 1..9, offset 0..9), by hash; hard tasks use those with slope >= 2.
    Hard space: > 100,000 questions. Chance: below 1/30.
    """

    name = "induction"
    kind = "induction"
    chance = 1 / 30

    def draw(self, rng: random.Random, split: Split) -> Rule:
        slope = rng.randrange(2, 10) if split == "hard" else rng.choice((1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9))
        return self._shown(slope, rng.randrange(10), rng)

    def ease(self, problem: Rule, rng: random.Random) -> Rule:
        """The same rule, asked at a small number."""
        while True:
            easier = self._shown(problem.slope, problem.offset, rng)
            if easier.query <= 4:
                return easier

    def _shown(self, slope: int, offset: int, rng: random.Random) -> Rule:
        first = rng.randrange(9)
        digits = [x for x in range(10) if x not in (first, first + 1)]
        third = digits.pop(rng.randrange(len(digits)))
        return Rule(slope, offset, (first, first + 1, third), rng.choice(digits))

    def held_out(self, problem: Rule) -> bool:
        return problem.slope > 1 and share(self.name, f"{problem.slope},{problem.offset}") < _HELD_OUT

    def level(self, problem: Rule) -> int:
        return 1 if problem.slope < 3 else 2

    def render(self, problem: Rule) -> str:
        shown = " ".join(f"{x}>{problem.at(x)}" for x in problem.shown)
        return f"{shown} {problem.query}>?"

    def parse(self, question: str) -> Rule | None:
        match = _PATTERN.fullmatch(question)
        if match is None:
            return None
        x0, y0, x1, y1, x2, _, query = map(int, match.groups())
        if x1 - x0 != 1:
            return None
        slope = y1 - y0
        problem = Rule(slope, y0 - slope * x0, (x0, x1, x2), query)
        valid = 1 <= slope <= 9 and 0 <= problem.offset <= 9 and len({x0, x1, x2, query}) == 4
        return problem if valid and self.render(problem) == question else None

    def answer(self, problem: Rule) -> str:
        return str(problem.at(problem.query))

    def working(self, problem: Rule) -> str:
        slope, offset = problem.slope, problem.offset
        return f"{slope} {slope * problem.shown[0]}+{offset} {slope * problem.query}+{offset}"
