"""Domain `binary` (practice): a two-place operator given by a formula modulo ten, applied from left to right."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from mass_gov.tasks.domains.base import Domain
from mass_gov.tasks.task import Split, share

_PATTERN = re.compile(r"a@b=([1-9])a\+([1-9])b mod 10: ([0-9](?:@[0-9]){1,6})")
_HELD_OUT = 0.35


@dataclass(frozen=True, slots=True)
class Formula:
    """((x0 @ x1) @ x2) ... with a @ b = (left*a + right*b) mod 10."""

    left: int
    right: int
    operands: tuple[int, ...]


class BinaryDomain(Domain[Formula]):
    """Asked: `a@b=2a+7b mod 10: 4@1@5`, evaluated from the left.

    Held out: about 35% of the 81 coefficient pairs, by hash; hard tasks chain 2 or 3 applications of those.
    Hard space: > 200,000 questions. Chance: 1/10.
    """

    name = "binary"
    kind = "practice"
    chance = 0.1

    def draw(self, rng: random.Random, split: Split) -> Formula:
        count = rng.choice((3, 4) if split == "hard" else (2, 2, 2, 3))
        return self._with_operands(rng.randrange(1, 10), rng.randrange(1, 10), count, rng)

    def ease(self, problem: Formula, rng: random.Random) -> Formula:
        return self._with_operands(problem.left, problem.right, rng.choice((2, 2, 3)), rng)

    def _with_operands(self, left: int, right: int, count: int, rng: random.Random) -> Formula:
        return Formula(left, right, tuple(rng.randrange(10) for _ in range(count)))

    def held_out(self, problem: Formula) -> bool:
        return share(self.name, f"{problem.left},{problem.right}") < _HELD_OUT

    def level(self, problem: Formula) -> int:
        return len(problem.operands) - 1

    def render(self, problem: Formula) -> str:
        chain = "@".join(map(str, problem.operands))
        return f"a@b={problem.left}a+{problem.right}b mod 10: {chain}"

    def parse(self, question: str) -> Formula | None:
        match = _PATTERN.fullmatch(question)
        if match is None:
            return None
        return Formula(int(match[1]), int(match[2]), tuple(map(int, match[3].split("@"))))

    def answer(self, problem: Formula) -> str:
        value = problem.operands[0]
        for operand in problem.operands[1:]:
            value = (problem.left * value + problem.right * operand) % 10
        return str(value)

    def working(self, problem: Formula) -> str:
        first, *rest = problem.operands
        lines = []
        while rest:
            one, two = problem.left * first, problem.right * rest.pop(0)
            first = (one + two) % 10
            lines.append(f"{one}+{two} " + "@".join(map(str, [first, *rest])))
        return " ".join(lines)
