"""Domain `operator` (practice): a unary operator given as a table, a chain of it asked for."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from mass_gov.tasks.domains.base import Domain
from mass_gov.tasks.task import Split, share

_SIZE = 7
_TABLE = " ".join(f"{x}>([0-{_SIZE - 1}])" for x in range(_SIZE))
_PATTERN = re.compile(rf"{_TABLE}: (?:(f+)([0-{_SIZE - 1}])|([0-{_SIZE - 1}])((?:>\?)+))")
_LONGEST = 6
_HARD_LENGTHS = (2, 3)
_DIRECT_LENGTHS = (1, 2, 2, 3)
_STEPWISE_LENGTHS = (2, 3, 4)
_HELD_OUT = 0.5


@dataclass(frozen=True, slots=True)
class Chain:
    """f applied `length` times to `start`; `table[x]` is f(x); `stepwise` asks for every value on the way."""

    table: tuple[int, ...]
    length: int
    start: int
    stepwise: bool

    def values(self) -> list[int]:
        """start, f(start), ... : length + 1 values."""
        seen = [self.start]
        for _ in range(self.length):
            seen.append(self.table[seen[-1]])
        return seen


class OperatorDomain(Domain[Chain]):
    """Asked: `0>3 1>5 2>0 3>6 4>1 5>4 6>2: fff2`, the value of f(f(f(2))) under the table of f, in the head.

    Easier: the same table stepwise, `2>?>?>?`, where the working writes every value, or one application. Tables are
    permutations, so no value is likelier than another. Held out: half of the 7! tables, by hash; hard tasks ask for 2
    or 3 applications of those at once. Hard space: > 30,000 questions. Chance: 1/7. Useful practice shares the table,
    not the answer.
    """

    name = "operator"
    kind = "practice"
    chance = 1 / _SIZE

    def draw(self, rng: random.Random, split: Split) -> Chain:
        table = list(range(_SIZE))
        rng.shuffle(table)
        stepwise = split == "easy" and rng.randrange(2) == 0
        lengths = _HARD_LENGTHS if split == "hard" else _STEPWISE_LENGTHS if stepwise else _DIRECT_LENGTHS
        return Chain(tuple(table), rng.choice(lengths), rng.randrange(_SIZE), stepwise)

    def ease(self, problem: Chain, rng: random.Random) -> Chain:
        stepwise = rng.randrange(2) == 0
        length = rng.choice(_STEPWISE_LENGTHS if stepwise else (1, 2))
        return Chain(problem.table, length, rng.randrange(_SIZE), stepwise)

    def held_out(self, problem: Chain) -> bool:
        return share(self.name, "".join(map(str, problem.table))) < _HELD_OUT

    def level(self, problem: Chain) -> int:
        return 1 if problem.stepwise else problem.length

    def render(self, problem: Chain) -> str:
        table = " ".join(f"{x}>{y}" for x, y in enumerate(problem.table))
        if problem.stepwise:
            return f"{table}: {problem.start}{'>?' * problem.length}"
        return f"{table}: {'f' * problem.length}{problem.start}"

    def parse(self, question: str) -> Chain | None:
        match = _PATTERN.fullmatch(question)
        if match is None:
            return None
        *table, direct, start, stepwise_start, marks = match.groups()
        if len(set(table)) < _SIZE:
            return None
        length = len(direct) if direct else len(marks) // 2
        if length > _LONGEST:
            return None
        return Chain(tuple(map(int, table)), length, int(start or stepwise_start), direct is None)

    def answer(self, problem: Chain) -> str:
        return str(problem.values()[-1])

    def working(self, problem: Chain) -> str:
        return ">".join(map(str, problem.values())) if problem.stepwise else ""
