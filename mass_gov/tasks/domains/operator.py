"""Domain `operator` (practice): a unary operator modulo ten defined in the task, a chain of it asked for."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from itertools import product

from mass_gov.tasks.domains.base import Domain
from mass_gov.tasks.task import Split, share

_TERM = r"([1-9])\*([1-9])-([1-9])\*([1-9])"
_PATTERN = re.compile(rf"f\(x\)=(?:([1-9])|\({_TERM}\))x\+(?:([0-9])|\({_TERM}\)) mod 10: (f{{1,4}})([0-9])")
_HELD_OUT = 0.3
_HARD_LENGTHS = (2, 3)


def _ways() -> dict[int, list[tuple[int, ...]]]:
    """For each digit, all (a, b, c, d) of 1..9 with a*b - c*d equal to it."""
    found: dict[int, list[tuple[int, ...]]] = {value: [] for value in range(10)}
    for a, b, c, d in product(range(1, 10), repeat=4):
        if 0 <= a * b - c * d <= 9:
            found[a * b - c * d].append((a, b, c, d))
    return found


_WAYS = _ways()


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A digit, stated plainly or as `(7*8-6*9)`: the four `factors`, None where it is plain."""

    value: int
    factors: tuple[int, ...] | None = None

    def text(self) -> str:
        if self.factors is None:
            return str(self.value)
        return "({}*{}-{}*{})".format(*self.factors)


@dataclass(frozen=True, slots=True)
class Chain:
    """f(x) = (slope*x + offset) mod 10, applied `length` times to `start`."""

    slope: Coefficient
    offset: Coefficient
    length: int
    start: int


class OperatorDomain(Domain[Chain]):
    """Asked: `f(x)=(7*8-6*9)x+(6*4-3*7) mod 10: ff2`, the value of f(f(2)).

    Easier: the same operator with its coefficients stated plainly, `f(x)=3x+5 mod 10: f4`. Held out: 30% of the 90
    operators (slope 1..9, offset 0..9), by hash; hard tasks chain 2 or 3 applications of those, both coefficients to
    be worked out first. Hard space: > 10^6 questions. Chance: 1/10. Useful practice shares the
    operator, not the answer.
    """

    name = "operator"
    kind = "practice"
    chance = 0.1

    def draw(self, rng: random.Random, split: Split) -> Chain:
        slope, offset = rng.randrange(1, 10), rng.randrange(10)
        hidden = 3 if split == "hard" else rng.choice((0, 0, 1, 2, 3))  # bit 1: the slope, bit 2: the offset
        length = rng.choice(_HARD_LENGTHS if split == "hard" else (1, 1, 2, 2, 3))
        return Chain(
            self._stated(slope, hidden & 1 > 0, rng),
            self._stated(offset, hidden & 2 > 0, rng),
            length,
            rng.randrange(10),
        )

    def ease(self, problem: Chain, rng: random.Random) -> Chain:
        """The same operator, plainly stated, applied once or twice."""
        slope, offset = Coefficient(problem.slope.value), Coefficient(problem.offset.value)
        return Chain(slope, offset, rng.choice((1, 1, 2)), rng.randrange(10))

    def _stated(self, value: int, hidden: bool, rng: random.Random) -> Coefficient:
        return Coefficient(value, rng.choice(_WAYS[value])) if hidden else Coefficient(value)

    def held_out(self, problem: Chain) -> bool:
        return share(self.name, f"{problem.slope.value},{problem.offset.value}") < _HELD_OUT

    def level(self, problem: Chain) -> int:
        hidden = (problem.slope.factors is not None) + (problem.offset.factors is not None)
        return 1 + hidden + (problem.length > 1)

    def render(self, problem: Chain) -> str:
        definition = f"{problem.slope.text()}x+{problem.offset.text()}"
        return f"f(x)={definition} mod 10: {'f' * problem.length}{problem.start}"

    def parse(self, question: str) -> Chain | None:
        match = _PATTERN.fullmatch(question)
        if match is None:
            return None
        slope, offset = _coefficient(match.groups()[:5]), _coefficient(match.groups()[5:10])
        if not 1 <= slope.value <= 9 or not 0 <= offset.value <= 9:
            return None
        return Chain(slope, offset, len(match[11]), int(match[12]))

    def answer(self, problem: Chain) -> str:
        value = problem.start
        for _ in range(problem.length):
            value = (problem.slope.value * value + problem.offset.value) % 10
        return str(value)

    def working(self, problem: Chain) -> str:
        """The plain operator, then `product+offset=value` for each application; the last value is the answer."""
        value, steps = problem.start, []
        for _ in range(problem.length):
            product = problem.slope.value * value
            value = (product + problem.offset.value) % 10
            steps.append(f"{product}+{problem.offset.value}")
            steps.append(f"={value} ")
        return f"{problem.slope.value}x+{problem.offset.value} " + "".join(steps[:-1])


def _coefficient(groups: tuple[str | None, ...]) -> Coefficient:
    """From the match's groups: a plain digit, or None and four factors."""
    plain, *rest = groups
    if plain is not None:
        return Coefficient(int(plain))
    a, b, c, d = (int(digit or 0) for digit in rest)
    return Coefficient(a * b - c * d, (a, b, c, d))
