"""Domain `operator` (practice): a unary operator given as a table, a chain of it asked for."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from mass_gov.tasks.domains.base import Domain
from mass_gov.tasks.task import Split, share

_SIZE = 8
_TABLE = " ".join(f"{x}>([0-{_SIZE - 1}])" for x in range(_SIZE))
_PATTERN = re.compile(rf"{_TABLE}: ([0-{_SIZE - 1}])((?:>\?){{1,9}})")
_EASY_LENGTHS = (1, 1, 2, 2, 3, 4)
_HARD_LENGTHS = (4, 5)
_HELD_OUT = 0.5


@dataclass(frozen=True, slots=True)
class Chain:
    """f applied `length` times to `start`; `table[x]` is f(x)."""

    table: tuple[int, ...]
    length: int
    start: int

    def values(self) -> list[int]:
        """start, f(start), ... : length + 1 values."""
        seen = [self.start]
        for _ in range(self.length):
            seen.append(self.table[seen[-1]])
        return seen


class OperatorDomain(Domain[Chain]):
    """Asked: `0>3 1>5 ... 7>2: 2>?>?>?`, the last value of f(f(f(2))) under the table of f.

    Held out: half of all tables, by hash (8^8 tables, so about 8 million are held out); hard tasks ask for chains
    of 4 or 5 steps of those. Hard space: > 10^8 questions. Chance: 1/8. Useful practice shares the table, not
    the answer.
    """

    name = "operator"
    kind = "practice"
    chance = 1 / _SIZE

    def draw(self, rng: random.Random, split: Split) -> Chain:
        table = tuple(rng.randrange(_SIZE) for _ in range(_SIZE))
        length = rng.choice(_HARD_LENGTHS if split == "hard" else _EASY_LENGTHS)
        return Chain(table, length, rng.randrange(_SIZE))

    def ease(self, problem: Chain, rng: random.Random) -> Chain:
        return Chain(problem.table, rng.choice((1, 2, 2, 3)), rng.randrange(_SIZE))

    def held_out(self, problem: Chain) -> bool:
        return share(self.name, "".join(map(str, problem.table))) < _HELD_OUT

    def level(self, problem: Chain) -> int:
        return problem.length

    def render(self, problem: Chain) -> str:
        table = " ".join(f"{x}>{y}" for x, y in enumerate(problem.table))
        return f"{table}: {problem.start}{'>?' * problem.length}"

    def parse(self, question: str) -> Chain | None:
        match = _PATTERN.fullmatch(question)
        if match is None:
            return None
        *table, start, chain = match.groups()
        return Chain(tuple(map(int, table)), len(chain) // 2, int(start))

    def answer(self, problem: Chain) -> str:
        return str(problem.values()[-1])

    def working(self, problem: Chain) -> str:
        return ">".join(map(str, problem.values()))
