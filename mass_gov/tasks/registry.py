"""Which task domains exist, and fresh tasks from all of them.

Rules: no two tasks of one call ask the same question; the same call gives the same tasks. Not known here: what a
domain asks, what a model answers.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from mass_gov.errors import NotFoundError, TaskError
from mass_gov.tasks.domains.base import Domain
from mass_gov.tasks.domains.binary import BinaryDomain
from mass_gov.tasks.domains.induction import InductionDomain
from mass_gov.tasks.domains.largest import LargestDomain
from mass_gov.tasks.domains.linear import LinearDomain
from mass_gov.tasks.domains.nested import NestedDomain
from mass_gov.tasks.domains.operator import OperatorDomain
from mass_gov.tasks.task import Split, Task

AnyDomain = Domain[Any]  # each domain has its own problem type, which callers never see
_ALL: tuple[AnyDomain, ...] = (
    OperatorDomain(),
    BinaryDomain(),
    NestedDomain(),
    LinearDomain(),
    InductionDomain(),
    LargestDomain(),
)
DOMAINS: MappingProxyType[str, AnyDomain] = MappingProxyType({one.name: one for one in _ALL})
_SEED_SPAN = 10**6


def domain(name: str) -> AnyDomain:
    """The domain of this name.

    Raises:
        NotFoundError: unknown name; the message lists the known ones.
    """
    if name not in DOMAINS:
        raise NotFoundError(f"there is no task domain {name!r}. Use one of: {', '.join(DOMAINS)}.")
    return DOMAINS[name]


def recognise(question: str) -> str | None:
    """The name of the domain whose question this is, or None. No text belongs to two domains."""
    return next((name for name, one in DOMAINS.items() if one.parse(question) is not None), None)


def sample_tasks(n: int, seed: int, domain: str | None = None, split: Split = "hard") -> list[Task]:
    """n fresh tasks, round-robin over the domains (or all of one), no question twice.

    Args:
        n: 0 .. 100,000.
        seed: 0 .. 999,999; other seeds, other tasks. Every task seed lies in the test range (see task.py).

    Raises:
        NotFoundError: unknown domain.
        TaskError: n or seed out of range, or the domain has no further distinct questions.
    """
    if not 0 <= n <= 100_000 or not 0 <= seed < _SEED_SPAN:
        raise TaskError(f"cannot sample {n} tasks with seed {seed}: use 0 <= n <= 100000 and 0 <= seed < 10^6")
    sources = [_named(domain)] if domain is not None else list(DOMAINS.values())
    tasks: list[Task] = []
    seen: set[str] = set()
    counters = dict.fromkeys((source.name for source in sources), 0)
    while len(tasks) < n:
        source = sources[len(tasks) % len(sources)]
        tasks.append(_next_unseen(source, seed, split, counters, seen))
    return tasks


_named = domain  # `sample_tasks` has a parameter of that name


def _next_unseen(source: AnyDomain, seed: int, split: Split, counters: dict[str, int], seen: set[str]) -> Task:
    while counters[source.name] < _SEED_SPAN:
        task = source.sample(seed * _SEED_SPAN + counters[source.name], split)
        counters[source.name] += 1
        if task.question not in seen:
            seen.add(task.question)
            return task
    raise TaskError(f"{source.name} has no further {split} questions for seed {seed}: ask for fewer tasks")
