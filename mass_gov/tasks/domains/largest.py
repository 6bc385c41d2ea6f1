"""Domain `largest` (saturated): the largest of a few digits, which the base always gets right."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from mass_gov.tasks.domains.base import Domain
from mass_gov.tasks.task import Split, split_by_hash

_PATTERN = re.compile(r"max( [0-9]){2,8}")


@dataclass(frozen=True, slots=True)
class Digits:
    """The digits that are shown, in their order."""

    values: tuple[int, ...]


class LargestDomain(Domain[Digits]):
    """Asked: `max 3 8 2 5 1`.

    Held out: a quarter of all multisets of five or six digits is hard, by hash, a quarter for meta-training.
    The base is right on nearly all: here adapting can only break something. Hard space: > 500,000 questions.
    Chance: 0.44 (always 9).
    """

    name = "largest"
    kind = "saturated"
    chance = 0.44

    def draw(self, rng: random.Random, split: Split) -> Digits:
        count = rng.choice((2, 3, 4, 5, 6) if split == "easy" else (5, 6))
        return Digits(tuple(rng.randrange(10) for _ in range(count)))

    def ease(self, problem: Digits, rng: random.Random) -> Digits:
        return Digits(tuple(rng.randrange(10) for _ in range(rng.choice((2, 3, 4)))))

    def split_of(self, problem: Digits) -> Split:
        if len(problem.values) < 5:
            return "easy"
        return split_by_hash(self.name, "".join(map(str, sorted(problem.values))))

    def level(self, problem: Digits) -> int:
        return len(problem.values) - 1

    def render(self, problem: Digits) -> str:
        return "max " + " ".join(map(str, problem.values))

    def parse(self, question: str) -> Digits | None:
        if not _PATTERN.fullmatch(question):
            return None
        return Digits(tuple(map(int, question.split()[1:])))

    def answer(self, problem: Digits) -> str:
        return str(max(problem.values))

    def working(self, problem: Digits) -> str:
        return ""
