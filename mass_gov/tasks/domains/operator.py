"""Domain `operator` (practice): a unary operator made of three look-ups, a chain of it asked for."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from mass_gov.tasks.domains import table as tables
from mass_gov.tasks.domains.base import Domain
from mass_gov.tasks.task import MARKER, Split, split_by_hash

_CHAIN = rf"([fF]+)([0-{tables.SIZE - 1}])"
_PATTERN = re.compile(rf"{tables.TEXT}: {_CHAIN}")
_PRACTICE = re.compile(_CHAIN)
_LOOKUPS = {"f": 1, "F": 3}
_LONGEST = 6


@dataclass(frozen=True, slots=True)
class Chain:
    """An operator applied `length` times to `start`: `f` looks a digit up once, `F` three times in a row."""

    table: tables.Table
    operator: str
    length: int
    start: int

    def values(self) -> list[int]:
        """start, F(start), F(F(start)), ...: length + 1 digits."""
        step = _LOOKUPS[self.operator]
        return tables.walk(self.table, self.start, step * self.length)[::step]


class OperatorDomain(Domain[Chain]):
    """Asked: `02 16 20 35 41 54 63: FF2`, where f is the table and F = fff; the answer names each value of the chain.

    Each F has to be done in the head. Easier: `F2` alone; practice may do it on scratch, look-up by look-up. Tables
    are permutations and the values of a chain are all different. Held out: a quarter of the 7! tables for hard
    tasks, by hash, and a quarter for meta-training; hard tasks apply F two or three times. Hard space: > 10,000
    questions. Chance: 1/5. Useful practice shares the table, not the answer.
    """

    name = "operator"
    kind = "practice"
    chance = tables.CHANCE

    def draw(self, rng: random.Random, split: Split) -> Chain:
        if split == "easy" and rng.randrange(3) == 0:
            return Chain(tables.draw(rng), "f", 1, rng.randrange(tables.SIZE))
        return self._distinct(rng.choice((1, 2, 3) if split == "easy" else (2, 3)), rng) or self.draw(rng, split)

    def _distinct(self, length: int, rng: random.Random, table: tables.Table | None = None) -> Chain | None:
        """A chain whose values all differ, or None where the table has none as long."""
        table = table or tables.draw(rng)
        starts = list(range(tables.SIZE))
        rng.shuffle(starts)
        chains = (Chain(table, "F", length, start) for start in starts)
        return next((one for one in chains if len(set(one.values())) == length + 1), None)

    def ease(self, problem: Chain, rng: random.Random) -> Chain:
        return Chain(problem.table, "F", 1, rng.randrange(tables.SIZE))

    def kin(self, problem: Chain, rng: random.Random) -> Chain:
        return self._distinct(rng.choice((1, 1, 2)), rng, problem.table) or self.ease(problem, rng)

    def split_of(self, problem: Chain) -> Split:
        return split_by_hash(self.name, tables.digits(list(problem.table)))

    def level(self, problem: Chain) -> int:
        return problem.length

    def render(self, problem: Chain) -> str:
        return f"{tables.render(problem.table)}: {self.practice_text(problem)}"

    def practice_text(self, problem: Chain) -> str:
        return f"{problem.operator * problem.length}{problem.start}"

    def parse(self, question: str) -> Chain | None:
        match = _PATTERN.fullmatch(question)
        if match is None:
            return None
        *values, operators, start = match.groups()
        return _chain(tuple(map(int, values)), operators, start)

    def read_practice(self, task: Chain, text: str) -> Chain | None:
        match = _PRACTICE.fullmatch(text)
        return None if match is None else _chain(task.table, *match.groups())

    def visits(self, task: Chain, practice: Chain) -> bool:
        return practice.operator == task.operator and not {*practice.values()[:-1]}.isdisjoint(task.values()[:-1])

    def answer(self, problem: Chain) -> str:
        return str(problem.values()[-1])

    def working(self, problem: Chain) -> str:
        return "".join(f"{MARKER}{value}" for value in problem.values()[1:-1])

    def scratch(self, problem: Chain) -> str:
        return tables.digits(tables.walk(problem.table, problem.start, _LOOKUPS[problem.operator] * problem.length))


def _chain(table: tables.Table, operators: str, start: str) -> Chain | None:
    if len(set(table)) < tables.SIZE or len(set(operators)) > 1 or len(operators) > _LONGEST:
        return None
    return Chain(table, operators[0], len(operators), int(start))
