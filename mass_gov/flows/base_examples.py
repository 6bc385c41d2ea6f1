"""What base training reads: solved easy tasks, easy sub-problems written for easy tasks, and two kinds of drill.

Rules: example number i is a pure function of (seed, i). Nothing of the hard split is ever drawn here: not as a
question to solve, not as a task to write practice for, not as a practice problem. So the model meets a held-out
operator, rule or composition for the first time when it is adapted or tested.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mass_gov.mass.pretraining import Example
from mass_gov.tasks.domains import table as tables
from mass_gov.tasks.registry import DOMAINS
from mass_gov.tasks.task import TRAINING_SEEDS, Task, counter_rng, split_by_hash

SOLVE, PRACTISE, SCRATCH, SEPARATOR, MARKER = "Q {question}\nA ", "T {question}\nP ", "\nW ", "\nA ", "#"
TEMPLATE: dict[str, str | bool | list[str]] = {
    "solve": SOLVE,
    "practise": PRACTISE,
    "scratch": SCRATCH,
    "separator": SEPARATOR,
    "marker": MARKER,
    "stop": [],
    "chat": False,
}
WALK, DISTANCES = "walk", "distances"
# Of 100 examples. The saturated domain needs few, rules the most. Drills are there because looking up and subtracting
# are learned suddenly, and sooner from dense examples: walks, `02 16 ...: 4~` worked as the ten digits from 4 on, and
# distances, `3-5 6-6 ...~` worked as the digits |3 - 5|, |6 - 6|, ...
SHARES = {
    "operator": 14,
    "binary": 16,
    "nested": 15,
    "linear": 14,
    "induction": 20,
    "largest": 4,
    WALK: 12,
    DISTANCES: 5,
}
_LOT = tuple(name for name, share in SHARES.items() for _ in range(share))
_WALK_STEPS, _PAIRS = 9, 7
_TABLE_DOMAINS = ("operator", "binary")


@dataclass(frozen=True, slots=True)
class ExampleSource:
    """Calls as a `pretraining.Source`.

    Args:
        seed: other seeds draw other examples, from the same distribution.
        practise_percent: of 100 examples, how many teach the generator; the others teach the solver.
    """

    seed: int
    practise_percent: int

    def __call__(self, first: int, count: int) -> Sequence[Example]:
        return [self.example(index) for index in range(first, first + count)]

    def example(self, index: int) -> Example:
        """Example number `index` of the run."""
        rng = counter_rng("base-example", self.seed, index)
        name = rng.choice(_LOT)
        if name in _DRILLS:
            return _DRILLS[name](rng)
        domain = DOMAINS[name]
        task = domain.sample(TRAINING_SEEDS + rng.randrange(10**11), "easy")
        if rng.randrange(100) >= self.practise_percent:
            return Example(solve_prompt(task.question), task.solution)
        easier = domain.subproblem(task, rng.randrange(10**9))
        return Example(practise_prompt(task.question), practice_text(easier))


def _walk(rng: random.Random) -> Example:
    """Ten look-ups in a row in a table that no domain holds out."""
    table = tables.draw(rng)
    while any(split_by_hash(name, tables.digits(list(table))) != "easy" for name in _TABLE_DOMAINS):
        table = tables.draw(rng)
    seen = tables.walk(table, rng.randrange(tables.SIZE), _WALK_STEPS)
    question = f"{tables.render(table)}: {seen[0]}~"
    return Example(solve_prompt(question), f"{tables.digits(seen)}{MARKER}{seen[-1]}")


def _distances(rng: random.Random) -> Example:
    """Seven distances between digits."""
    pairs = [(rng.randrange(tables.SIZE), rng.randrange(tables.SIZE)) for _ in range(_PAIRS)]
    found = [abs(x - y) for x, y in pairs]
    question = " ".join(f"{x}-{y}" for x, y in pairs) + "~"
    return Example(solve_prompt(question), f"{tables.digits(found)}{MARKER}{found[-1]}")


_DRILLS: dict[str, Callable[[random.Random], Example]] = {WALK: _walk, DISTANCES: _distances}


def practice_text(easier: Task) -> str:
    """What the generator writes for a sub-problem: its question, scratch working if it has any, its solution."""
    scratch = f"{SCRATCH}{easier.scratch}" if easier.scratch else ""
    return f"{easier.practice}{scratch}{SEPARATOR}{easier.solution}"


def solve_prompt(question: str) -> str:
    """What the solver continues."""
    return SOLVE.replace("{question}", question)


def practise_prompt(question: str) -> str:
    """What the generator continues."""
    return PRACTISE.replace("{question}", question)


def final_answer(solution: str) -> str:
    """The text after the last marker, stripped; empty where there is none."""
    return solution.rpartition(MARKER)[2].strip() if MARKER in solution else ""
