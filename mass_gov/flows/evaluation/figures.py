"""What goes beside the table: learned curriculum, scorer, attribution, cost per gained point, amortised use.

`figures.json` holds:

    curriculum   {"before" (base), "after" (mass-gold)} -> domain -> share (`curriculum`)
    scorer       domain -> AUROC on right against wrong samples, of mass-gold
    attribution  mean rank correlations of attribution, leave-one-out and score (`attribution`), over `tasks` tasks
    cost         method -> FLOPs beyond base per percentage point gained (null: nothing gained)
    amortised    domain -> curve by way of use, and where promoting breaks even (`amortised`)

Rules: needs a run of mass-gold on generated tasks. Reference solutions and the domains' judgement are used here, after
all answers are in. Does not know plots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mass_gov.flows.evaluation.amortised import amortised, break_even, streams_of
from mass_gov.flows.evaluation.attribution import AttributionJudge, Practised
from mass_gov.flows.evaluation.curriculum import judge, scorer_auroc, shares
from mass_gov.flows.evaluation.engines import Engines
from mass_gov.flows.evaluation.run import Request, Row
from mass_gov.mass.rivals.catalogue import BASE, GOLD
from mass_gov.mass.rivals.practice import write_practice
from mass_gov.mass.rivals.values import Setup, Surroundings
from mass_gov.tasks.registry import DOMAINS
from mass_gov.tasks.task import Task


@dataclass(frozen=True)
class Sizes:
    """How much is spent on a figure: tasks whose samples are attributed, streams per domain, tasks per stream."""

    attributed: int = 60
    streams: int = 16
    length: int = 8


def figures(
    request: Request,
    tasks: Sequence[Task],
    rows: Mapping[str, Row],
    report: Mapping[str, Any],
    surroundings: Surroundings,
    engines: Engines,
    sizes: Sizes = Sizes(),
) -> dict[str, Any]:
    """All of it as JSON values. `rows` holds mass-gold; `report` is what `report.document` made of it."""
    mass = rows[GOLD]
    questions, setup = [task.question for task in tasks], mass.fitted.setup
    before = write_practice(engines.open(BASE), questions, setup, request.seed, scored=False)
    judged = judge(questions, mass.replies.samples)
    return {
        "curriculum": {"before": shares(judge(questions, before)), "after": shares(judged)},
        "scorer": scorer_auroc(judged),
        "attribution": _attribution(tasks[: sizes.attributed], mass, engines),
        "cost": {name: row["flops_per_gained_point"] for name, row in report["methods"].items()},
        "amortised": _amortised({task.domain for task in tasks}, sizes, setup, request.seed, surroundings, engines),
    }


def _attribution(tasks: Sequence[Task], mass: Row, engines: Engines) -> dict[str, Any]:
    pairs = zip(tasks, mass.replies.samples, strict=False)  # the first tasks only
    practised = [Practised(task.question, task.solution, samples) for task, samples in pairs]
    found = asdict(AttributionJudge(engines.weights.of(GOLD)).agreement(practised))
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _amortised(
    asked: set[str], sizes: Sizes, setup: Setup, seed: int, surroundings: Surroundings, engines: Engines
) -> dict[str, Any]:
    found = {}
    for name, source in DOMAINS.items():
        first = source.sample(seed, "hard")
        if name not in asked or source.sibling(first, 0) is None:
            continue
        streams = streams_of(name, sizes.streams, sizes.length, seed)
        curves = amortised(streams, setup, seed, surroundings, engines)
        found[name] = {
            "curves": {way: asdict(curve) for way, curve in curves.items()},
            "break_even": break_even(curves),
        }
    return found
