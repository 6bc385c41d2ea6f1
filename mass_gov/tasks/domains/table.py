"""What the practice domains share: a table of seven digits, looked up again and again.

The table stands in the question as `02 16 20 35 41 54 63`: digit x is mapped to the digit beside it. It is a
permutation, so that no value is likelier than another. Which tables are held out is decided by hash, per domain.
"""

from __future__ import annotations

import random

SIZE = 7
CHANCE = 1 / (SIZE - 2)  # the digits of a chain are all different, and the first and the second can be told apart
TEXT = " ".join(f"{x}([0-{SIZE - 1}])" for x in range(SIZE))  # a pattern: seven groups, one a value

Table = tuple[int, ...]


def draw(rng: random.Random) -> Table:
    """A random permutation of the digits 0..6."""
    values = list(range(SIZE))
    rng.shuffle(values)
    return tuple(values)


def render(table: Table) -> str:
    """`02 16 20 35 41 54 63`."""
    return " ".join(f"{x}{y}" for x, y in enumerate(table))


def walk(table: Table, start: int, steps: int) -> list[int]:
    """start, table[start], table[table[start]], ...: steps + 1 digits."""
    seen = [start]
    for _ in range(steps):
        seen.append(table[seen[-1]])
    return seen


def digits(values: list[int]) -> str:
    """The digits without anything between them."""
    return "".join(map(str, values))
