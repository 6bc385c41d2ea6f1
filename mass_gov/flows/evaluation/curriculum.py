"""What a generator writes, and whether its scorer can tell: figures over samples, judged by the domains.

    parsed      share of samples that parse
    right       ... of the parsed ones that state another problem of the domain and answer it rightly
    on_path     ... of the parsed ones that take a step which the task itself takes
    distinct    different questions / parsed samples, within a task
    copies      share of all samples that repeat the task

AUROC is that of the score on right against wrong samples, over all and, since scores are compared within a task, with
each task's mean taken away. Judged after the fact, for figures only: no sample's fate depends on it.

Does not know methods or models.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mass_gov.flows.evaluation.ranks import auroc
from mass_gov.flows.evaluation.surroundings import bare
from mass_gov.mass.rivals.values import Written
from mass_gov.tasks.registry import domain, recognise

Samples = Sequence[Sequence[Written]]
EVERYTHING = "all"


@dataclass(frozen=True)
class Judged:
    """One sample and what the domain says of it."""

    task: int
    domain: str
    question: str | None
    score: float | None
    copy: bool
    right: bool
    on_path: bool


def judge(questions: Sequence[str], samples: Samples) -> list[Judged]:
    """Every sample of every task."""
    return [
        _judged(place, question, one)
        for place, (question, task) in enumerate(zip(questions, samples, strict=True))
        for one in task
    ]


def _judged(place: int, question: str, sample: Written) -> Judged:
    source = domain(recognise(question) or "")
    task, written = bare(question, source), sample.question
    if written is None:
        return Judged(place, source.name, None, sample.score, False, False, False)
    right = source.is_right(task, written, sample.answer or "")
    copy = written == question.strip()
    return Judged(place, source.name, written, sample.score, copy, right, source.on_path(task, written))


def shares(judged: Sequence[Judged]) -> dict[str, dict[str, float]]:
    """domain (and "all") -> figure -> share."""
    return {name: _shares(part) for name, part in _by_domain(judged).items()}


def _shares(judged: Sequence[Judged]) -> dict[str, float]:
    parsed = [one for one in judged if one.question is not None]
    different = len({(one.task, one.question) for one in parsed})
    return {
        "parsed": len(parsed) / len(judged),
        "right": _part(sum(one.right for one in parsed), len(parsed)),
        "on_path": _part(sum(one.on_path for one in parsed), len(parsed)),
        "distinct": _part(different, len(parsed)),
        "copies": sum(one.copy for one in judged) / len(judged),
    }


def scorer_auroc(judged: Sequence[Judged]) -> dict[str, dict[str, float | int | None]]:
    """domain (and "all") -> {"auroc", "within_task", "right", "wrong"}; None where one side is empty."""
    found: dict[str, dict[str, float | int | None]] = {}
    for name, part in _by_domain(judged).items():
        rated = [(one.task, one.score, one.right) for one in part if one.question is not None and one.score is not None]
        tasks, scores, right = (list(column) for column in zip(*rated, strict=True)) if rated else ([], [], [])
        centred = _centred(tasks, scores)
        found[name] = {
            "auroc": _known(auroc(scores, right)),
            "within_task": _known(auroc(centred, right)),
            "right": sum(right),
            "wrong": len(right) - sum(right),
        }
    return found


def _centred(tasks: Sequence[int], scores: Sequence[float]) -> list[float]:
    by_task: dict[int, list[float]] = defaultdict(list)
    for task, score in zip(tasks, scores, strict=True):
        by_task[task].append(score)
    return [score - sum(by_task[t]) / len(by_task[t]) for t, score in zip(tasks, scores, strict=True)]


def _by_domain(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    parts: dict[str, list[Judged]] = {EVERYTHING: list(judged)}
    for one in judged:
        parts.setdefault(one.domain, []).append(one)
    return parts


def _part(count: int, total: int) -> float:
    return count / total if total else 0.0


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
