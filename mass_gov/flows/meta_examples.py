"""What meta-training reads: tasks of the `meta` split, each with what its adaptation is judged on.

Rules: task number i of step n is a pure function of (seed, n, i), so that processes and resumed runs agree; all tasks
of a step are of one family, whose texts are about equally long, so that little is padded; nothing of the hard split is
drawn. `other` queries are solved easy tasks, which base training reads as well.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mass_gov.flows.evaluation.surroundings import DomainSurroundings
from mass_gov.mass.meta_values import MetaTask, Query, Role
from mass_gov.tasks.registry import DOMAINS
from mass_gov.tasks.task import META_SEEDS, TRAINING_SEEDS, Task, counter_rng

# Of 100 steps, and of 100 tasks in such a step. Practice domains need the most: there the update carries everything.
FAMILIES = (
    (75, {"operator": 50, "binary": 50}),
    (25, {"nested": 27, "linear": 27, "induction": 32, "largest": 14}),
)
SIBLINGS, OTHERS = 3, 2
_LOTS = tuple(tuple(name for name, share in shares.items() for _ in range(share)) for _, shares in FAMILIES)
_STEPS = tuple(lot for lot, (share, _) in zip(_LOTS, FAMILIES, strict=True) for _ in range(share))
_KEPT = tuple(name for name, one in DOMAINS.items() if one.kind != "practice")
_SPAN = 10**9
_WORLD = DomainSurroundings(tuple(DOMAINS))
VALIDATION_SEEDS = META_SEEDS + 10**11


@dataclass(frozen=True, slots=True)
class MetaSource:
    """The tasks of every outer step of the run with this seed."""

    seed: int
    tasks: int

    def step(self, step: int, first: int = 0, count: int | None = None) -> list[MetaTask]:
        """Tasks first .. first+count-1 of a step (all by default)."""
        return [self.task(step, index) for index in range(first, first + (count or self.tasks))]

    def task(self, step: int, index: int) -> MetaTask:
        """Task number `index` of a step."""
        rng = counter_rng("meta-example", self.seed, step, index)
        lot = counter_rng("meta-family", self.seed, step).choice(_STEPS)
        domain = DOMAINS[rng.choice(lot)]
        task = domain.sample(META_SEEDS + rng.randrange(_SPAN), "meta")
        siblings = [domain.sibling(task, rng.randrange(_SPAN)) for _ in range(SIBLINGS)]
        queries = [_query("task", task), *[_query("sibling", one) for one in siblings if one is not None]]
        missing = 1 + SIBLINGS + OTHERS - len(queries)
        return MetaTask(
            task.question,
            (*queries, *[_other(rng) for _ in range(missing)]),
            tuple(_WORLD.demonstrations(task.question)),
        )


def validation_tasks(n: int) -> list[Task]:
    """n tasks of the meta split with seeds that no step draws, round-robin over the domains.

    Where a domain has few questions, a step can draw the same one with another seed.
    """
    domains = list(DOMAINS.values())
    return [domains[i % len(domains)].sample(VALIDATION_SEEDS + i, "meta") for i in range(n)]


def _other(rng: random.Random) -> Query:
    domain = DOMAINS[rng.choice(_KEPT)]
    return _query("other", domain.sample(TRAINING_SEEDS + rng.randrange(_SPAN), "easy"))


def _query(role: Role, task: Task) -> Query:
    return Query(role, task.question, task.solution, task.answer)
