"""What base training reads: solved easy tasks, and easy sub-problems written for easy tasks.

Rules: example number i is a pure function of (seed, i). Nothing of the hard split is ever drawn here: not as a
question to solve, not as a task to write practice for, not as a practice problem. So the model meets a held-out
operator, rule or composition for the first time when it is adapted or tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mass_gov.mass.pretraining import Example
from mass_gov.tasks.registry import DOMAINS
from mass_gov.tasks.task import TRAINING_SEEDS, counter_rng

SOLVE, PRACTISE, SEPARATOR, MARKER = "Q {question}\nA ", "T {question}\nP ", "\nA ", "#"
TEMPLATE: dict[str, str | bool | list[str]] = {
    "solve": SOLVE,
    "practise": PRACTISE,
    "separator": SEPARATOR,
    "marker": MARKER,
    "stop": [],
    "chat": False,
}
# Of 100 examples. The saturated domain needs few, rules and tables need the most.
SHARES = {"operator": 26, "nested": 24, "linear": 18, "induction": 27, "largest": 5}
_LOT = tuple(name for name, share in SHARES.items() for _ in range(share))


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
        domain = DOMAINS[rng.choice(_LOT)]
        task = domain.sample(TRAINING_SEEDS + rng.randrange(10**11), "easy")
        if rng.randrange(100) >= self.practise_percent:
            return Example(solve_prompt(task.question), task.solution)
        easier = domain.subproblem(task, rng.randrange(10**9))
        return Example(practise_prompt(task.question), f"{easier.question}{SEPARATOR}{easier.solution}")


def solve_prompt(question: str) -> str:
    """What the solver continues."""
    return SOLVE.replace("{question}", question)


def practise_prompt(question: str) -> str:
    """What the generator continues."""
    return PRACTISE.replace("{question}", question)


def final_answer(solution: str) -> str:
    """The text after the last marker, stripped; empty where there is none."""
    return solution.rpartition(MARKER)[2].strip() if MARKER in solution else ""
