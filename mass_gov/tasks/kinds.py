"""Which kind of its domain a problem is: its level and where its answer lies.

Rules: a kind is read from the question alone, so that whoever holds a text finds the same; kinds are coarse on purpose,
because a monitor has to see each of them in a window of some hundred samples. Practice that leans on its task is read
with the task. Not known here: which kinds are rare (`mass_gov.policy.monitors.reference`), models, prompts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mass_gov.tasks.registry import DOMAINS, AnyDomain, recognise
from mass_gov.tasks.task import Task

_WIDTH = {"nested": 3, "induction": 10}
"""How many neighbouring answers are one bucket; 1 elsewhere, where answers are digits."""
_NUMBER = re.compile(r"[0-9]+")


def kind_of(task: Task) -> str:
    """`level/bucket` of a generated problem: the bucket is the last number of its answer, by the domain's width."""
    return _kind(DOMAINS[task.domain], DOMAINS[task.domain].read(task.question))


def practice_kind(task: str, practice: str) -> tuple[str, str | None] | None:
    """(domain, kind) of a practice text that was written for the question `task`; None where no domain knows either.

    A text that the task's own domain cannot read has no kind, and counts for that domain.
    """
    return practice_kinds(task, [practice])[0]


def practice_kinds(task: str, practices: Sequence[str]) -> list[tuple[str, str | None] | None]:
    """`practice_kind` of several texts for one task, which is read once."""
    name = recognise(task)
    if name is None:
        return [_alone(practice) for practice in practices]
    one = DOMAINS[name]
    given = one.read(task)
    read = [(practice, one.read_practice(given, practice)) for practice in practices]
    return [
        (name, _kind(one, problem)) if problem is not None else _alone(practice) or (name, None)
        for practice, problem in read
    ]


def _alone(practice: str) -> tuple[str, str | None] | None:
    name = recognise(practice)
    return None if name is None else (name, _kind(DOMAINS[name], DOMAINS[name].read(practice)))


def _kind(one: AnyDomain, problem: object) -> str:
    value = int(_NUMBER.findall(one.answer(problem))[-1])
    return f"{one.level(problem)}/{value // _WIDTH.get(one.name, 1)}"
