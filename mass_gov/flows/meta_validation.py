"""How well a model in training does on tasks that it never trains on: as it is, and after adapting.

Rules: the same questions, seeds and method each time (`rivals.catalogue` names it), so that two validations differ by
the weights alone; gold answers are looked at only after all answers are in. Does not know what is being trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mass_gov.flows.evaluation.problems import from_tasks
from mass_gov.flows.evaluation.surroundings import DomainSurroundings
from mass_gov.mass.batched_learner import BatchedLearner
from mass_gov.mass.meta_values import MetaSettings
from mass_gov.mass.rivals.answering import greedy
from mass_gov.mass.rivals.catalogue import find
from mass_gov.mass.rivals.values import Answer, Setup
from mass_gov.tasks.task import Task

AT_ONCE = 60  # tasks


@dataclass(frozen=True, slots=True)
class Accuracies:
    """Shares of right answers, 0 to 1, over all tasks and by domain: (un-adapted, adapted)."""

    n: int
    bare: float
    adapted: float
    domains: Mapping[str, tuple[float, float]]


def validate(
    engine: BatchedLearner, method: str, tasks: Sequence[Task], settings: MetaSettings, answer_tokens: int
) -> Accuracies:
    """Answer every task greedily without an adapter, then by `method`, and grade both."""
    evaluation = from_tasks(tasks)
    setup = Setup(
        samples=settings.test_samples,
        steps=settings.inner_steps,
        temperature=settings.test_temperature,
        practice_tokens=settings.max_new_tokens,
        answer_tokens=answer_tokens,
    )
    world = DomainSurroundings(tuple(dict.fromkeys(problem.domain for problem in evaluation.problems)))
    bare: list[Answer] = []
    adapted: list[Answer] = []
    for first in range(0, len(tasks), AT_ONCE):
        questions = evaluation.questions[first : first + AT_ONCE]
        bare += greedy(engine, questions, setup)
        adapted += find(method).run(engine, questions, setup, settings.seed, world).answers
    domains = [problem.domain for problem in evaluation.problems]
    right = [[one == "right" for one in evaluation.grade(answers)] for answers in (bare, adapted)]
    return _accuracies(domains, right[0], right[1])


def _accuracies(domains: Sequence[str], bare: Sequence[bool], adapted: Sequence[bool]) -> Accuracies:
    sizes = Counter(domains)
    by_domain = {
        name: (_share(domains, bare, name) / size, _share(domains, adapted, name) / size)
        for name, size in sizes.items()
    }
    n = len(domains)
    return Accuracies(n, sum(bare) / n, sum(adapted) / n, by_domain)


def _share(domains: Sequence[str], right: Sequence[bool], name: str) -> int:
    return sum(good for domain, good in zip(domains, right, strict=True) if domain == name)
