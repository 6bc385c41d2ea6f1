"""Domain `binary` (practice): a binary operator made of a difference and two look-ups; a chain of it asked for."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace

from mass_gov.tasks.domains import table as tables
from mass_gov.tasks.domains.base import Domain
from mass_gov.tasks.task import MARKER, Split, split_by_hash

_DIGIT = f"[0-{tables.SIZE - 1}]"
_CHAIN = rf"({_DIGIT}(?:&{_DIGIT})+|{_DIGIT}(?:@{_DIGIT})+)"
_PATTERN = re.compile(rf"{tables.TEXT}: {_CHAIN}")
_PRACTICE = re.compile(_CHAIN)
_LOOKUPS = {"&": 1, "@": 2}
_LONGEST = 6


@dataclass(frozen=True, slots=True)
class Cells:
    """`operands` joined from the left: x&y looks the distance |x - y| up once, x@y twice in a row."""

    table: tables.Table
    operands: tuple[int, ...]
    operator: str = "@"

    def cell(self, x: int, y: int) -> list[int]:
        """|x - y| and what the look-ups make of it; the last digit is the result."""
        return tables.walk(self.table, abs(x - y), _LOOKUPS[self.operator])

    def cells(self) -> list[tuple[int, int, int]]:
        """Every (x, y, result) on the way."""
        found, value = [], self.operands[0]
        for operand in self.operands[1:]:
            result = self.cell(value, operand)[-1]
            found.append((value, operand, result))
            value = result
        return found


class BinaryDomain(Domain[Cells]):
    """Asked: `02 16 20 35 41 54 63: 2@5@1`, where x@y = f(f(|x - y|)); the answer names each value on the way.

    Each @ has to be done in the head. Easier: one look-up, `4&3` = f(|4 - 3|), and one cell, `4@3`; practice may do a
    cell on scratch: the distance, then look-up by look-up. Held out: a quarter of the 7! tables for hard tasks, by
    hash, and a quarter for meta-training; hard tasks have two or three cells. Hard space: > 100,000 questions. Chance:
    1/7. Cells of equal distance are looked up alike; those at a distance that the task meets are on its path.
    """

    name = "binary"
    kind = "practice"
    chance = 1 / tables.SIZE

    def draw(self, rng: random.Random, split: Split) -> Cells:
        if split == "easy" and rng.randrange(3) == 0:
            return replace(self._of_length(tables.draw(rng), 1, rng), operator="&")
        return self._of_length(tables.draw(rng), rng.choice((1, 2, 3) if split == "easy" else (2, 3)), rng)

    def _of_length(self, table: tables.Table, length: int, rng: random.Random) -> Cells:
        return Cells(table, tuple(rng.randrange(tables.SIZE) for _ in range(length + 1)))

    def ease(self, problem: Cells, rng: random.Random) -> Cells:
        return self._of_length(problem.table, 1, rng)

    def kin(self, problem: Cells, rng: random.Random) -> Cells:
        return self._of_length(problem.table, rng.choice((1, 1, 2)), rng)

    def split_of(self, problem: Cells) -> Split:
        return split_by_hash(self.name, tables.digits(list(problem.table)))

    def level(self, problem: Cells) -> int:
        return len(problem.operands) - 1

    def render(self, problem: Cells) -> str:
        return f"{tables.render(problem.table)}: {self.practice_text(problem)}"

    def practice_text(self, problem: Cells) -> str:
        return problem.operator.join(map(str, problem.operands))

    def parse(self, question: str) -> Cells | None:
        match = _PATTERN.fullmatch(question)
        if match is None:
            return None
        *values, chain = match.groups()
        return _cells(tuple(map(int, values)), chain)

    def read_practice(self, task: Cells, text: str) -> Cells | None:
        return _cells(task.table, text) if _PRACTICE.fullmatch(text) else None

    def visits(self, task: Cells, practice: Cells) -> bool:
        if practice.operator != task.operator:
            return False
        mine = {abs(x - y) for x, y, _ in task.cells()}
        return any(abs(x - y) in mine for x, y, _ in practice.cells())

    def answer(self, problem: Cells) -> str:
        return str(problem.cells()[-1][2])

    def working(self, problem: Cells) -> str:
        return "".join(f"{MARKER}{result}" for _, _, result in problem.cells()[:-1])

    def scratch(self, problem: Cells) -> str:
        return "".join(tables.digits(problem.cell(x, y)) for x, y, _ in problem.cells())


def _cells(table: tables.Table, chain: str) -> Cells | None:
    operator = chain[1]
    operands = tuple(map(int, chain.split(operator)))
    if len(set(table)) < tables.SIZE or len(operands) - 1 > _LONGEST:
        return None
    return Cells(table, operands, operator)
