"""Domain `linear` (rewrite): linear equations in x, worked by simpler equivalent equations."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from mass_gov.tasks.domains.base import Domain
from mass_gov.tasks.task import Split, split_by_hash

_PATTERN = re.compile(r"([2-9]?)x(?:\+([1-9][0-9]?))?=(?:([2-9]?)x(?:\+([0-9]{1,2}))?|([0-9]{1,2}))")
_LARGEST = 7  # coefficients are 1..7


@dataclass(frozen=True, slots=True)
class Equation:
    """left*x + add = right*x + total; a missing term is 0; left > right >= 0 and x is a digit."""

    left: int
    add: int
    right: int
    total: int

    @property
    def x(self) -> int:
        """The solution."""
        return (self.total - self.add) // (self.left - self.right)


def side(coefficient: int, constant: int) -> str:
    """`3x+5`, `x`, `7`: terms that are zero are left out (a lone zero stays)."""
    x = "" if coefficient == 0 else "x" if coefficient == 1 else f"{coefficient}x"
    if not x:
        return str(constant)
    return x if constant == 0 else f"{x}+{constant}"


class LinearDomain(Domain[Equation]):
    """Asked: `7x+2=3x+18`, the digit x.

    Held out: by composition. Equations with the unknown on both sides AND a constant on the left are hard for a
    quarter of the 21 coefficient pairs (left, right), by hash, and for meta-training for another quarter.
    Hard space: > 800 questions. Chance: 1/10.
    """

    name = "linear"
    kind = "rewrite"
    chance = 0.1

    def draw(self, rng: random.Random, split: Split) -> Equation:
        full = split != "easy" or rng.randrange(4) == 0
        form = (1, 1) if full else rng.choice(((0, 1), (1, 0), (1, 0), (0, 0)))
        return self._of_form(*form, rng)

    def ease(self, problem: Equation, rng: random.Random) -> Equation:
        """The equation with one term less on each side, or a fresh one of that simpler form."""
        near = []
        if problem.right:
            near.append(Equation(problem.left - problem.right, problem.add, 0, problem.total))
        if problem.add:
            near.append(Equation(problem.left, 0, problem.right, problem.total - problem.add))
        if near and rng.randrange(4):
            return rng.choice(near)
        return self._of_form(*rng.choice(((1, 0), (0, 1))), rng)

    def _of_form(self, has_add: int, has_right: int, rng: random.Random) -> Equation:
        left = rng.randrange(2, _LARGEST + 1)
        right = rng.randrange(1, left) if has_right else 0
        gap = (left - right) * rng.randrange(10)
        add = rng.randrange(1, min(20, 99 - gap) + 1) if has_add else 0  # no constant has three digits
        return Equation(left, add, right, gap + add)

    def split_of(self, problem: Equation) -> Split:
        if not (problem.add > 0 and problem.right > 0):
            return "easy"
        return split_by_hash(self.name, f"{problem.left},{problem.right}")

    def level(self, problem: Equation) -> int:
        return 1 + (problem.add > 0) + (problem.right > 0)

    def render(self, problem: Equation) -> str:
        return f"{side(problem.left, problem.add)}={side(problem.right, problem.total)}"

    def parse(self, question: str) -> Equation | None:
        match = _PATTERN.fullmatch(question)
        if match is None:
            return None
        right = 0 if match[5] is not None else int(match[3] or 1)
        total = int(match[5] if match[5] is not None else match[4] or 0)
        left, add = int(match[1] or 1), int(match[2] or 0)
        if right >= left or (total - add) % (left - right):
            return None
        problem = Equation(left, add, right, total)
        return problem if 0 <= problem.x <= 9 and self.render(problem) == question else None

    def answer(self, problem: Equation) -> str:
        return str(problem.x)

    def working(self, problem: Equation) -> str:
        gap = problem.left - problem.right
        steps = [side(gap, problem.add) + f"={problem.total}"] if problem.right else []
        if problem.add and gap > 1:
            steps.append(f"{side(gap, 0)}={problem.total - problem.add}")
        return " ".join(steps)
