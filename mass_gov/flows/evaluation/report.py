"""What an evaluation found, as JSON values.

Shares are 0..1; `ci` and `delta_vs_base` are 95% paired bootstrap intervals (`bootstrap`), the middle of
`delta_vs_base` the difference itself; `unparseable` and `timeout` count tasks; FLOPs, tokens and seconds are per task.

Does not know how answers came about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mass_gov.flows.evaluation.bootstrap import Interval, intervals
from mass_gov.flows.evaluation.problems import Evaluation
from mass_gov.flows.evaluation.run import Request, Row
from mass_gov.mass.rivals.catalogue import BASE

Mask = npt.NDArray[np.bool_]


def document(request: Request, evaluation: Evaluation, rows: Mapping[str, Row]) -> dict[str, Any]:
    """{"n", "seed", "batch", "methods": {name: ...}}, as docs/reference/evaluation.md lists it."""
    parts = _parts(evaluation)
    right = {
        name: np.array([outcome == "right" for outcome in row.outcomes], dtype=np.float64) for name, row in rows.items()
    }
    found = intervals(right, BASE, parts, request.seed)
    return {
        "n": len(evaluation.problems),
        "seed": request.seed,
        "batch": request.batch,
        "methods": {name: _method(row, found, parts, rows[BASE], evaluation) for name, row in rows.items()},
    }


def task_rows(evaluation: Evaluation, rows: Mapping[str, Row]) -> Iterator[dict[str, Any]]:
    """One {"id", "domain", "method", "answer", "outcome"} per task and method."""
    for name, row in rows.items():
        for problem, answer, outcome in zip(evaluation.problems, row.replies.answers, row.outcomes, strict=True):
            yield {
                "id": problem.problem_id,
                "domain": problem.domain,
                "method": name,
                "answer": answer.key,
                "outcome": outcome,
            }


def _parts(evaluation: Evaluation) -> dict[str, Mask]:
    """Which tasks each part holds: all of them under the empty name, "domain NAME" and "kind NAME"."""
    problems = evaluation.problems
    parts: dict[str, Mask] = {"": np.ones(len(problems), dtype=bool)}
    for label in dict.fromkeys(problem.domain for problem in problems):
        parts[f"domain {label}"] = np.array([problem.domain == label for problem in problems])
    for label in dict.fromkeys(problem.kind for problem in problems if problem.kind):
        parts[f"kind {label}"] = np.array([problem.kind == label for problem in problems])
    return parts


def _method(
    row: Row,
    found: Mapping[str, Mapping[str, Interval]],
    parts: Mapping[str, Mask],
    base: Row,
    evaluation: Evaluation,
) -> dict[str, Any]:
    def group(label: str) -> dict[str, Any]:
        named = {part.removeprefix(label): part for part in parts if part.startswith(label)}
        return {name: _part(row, found[part][row.name], parts[part]) for name, part in named.items()}

    overall = _part(row, found[""][row.name], parts[""])
    del overall["n"]
    return {
        **overall,
        "domains": group("domain "),
        "kinds": group("kind "),
        "flops_per_task": row.flops,
        "tokens_per_task": row.tokens,
        "seconds_per_task": row.seconds,
        "flops_per_gained_point": _per_point(row, base),
        "weights": row.weights,
        "settings": _settings(row),
        **({"forgetting": _forgetting(row, evaluation)} if row.crossed else {}),
    }


def _part(row: Row, interval: Interval, mask: Mask) -> dict[str, Any]:
    outcomes = [outcome for outcome, held in zip(row.outcomes, mask, strict=True) if held]
    return {
        "n": len(outcomes),
        "accuracy": interval.accuracy,
        "ci": [interval.low, interval.high],
        "delta_vs_base": [interval.delta_low, interval.delta, interval.delta_high],
        **{name: outcomes.count(name) for name in ("right", "wrong", "unparseable", "timeout")},
    }


def _per_point(row: Row, base: Row) -> float | None:
    """FLOPs per task beyond the base's for each percentage point gained; None where nothing was gained."""
    gained = 100 * (row.accuracy - base.accuracy)
    return (row.flops - base.flops) / gained if gained > 0 else None


def _settings(row: Row) -> dict[str, Any]:
    setup = row.fitted.setup
    return {
        "samples": setup.samples,
        "steps": setup.steps,
        "step_size": setup.step_size,
        "votes": setup.votes,
        "temperature": setup.temperature,
        "vote_temperature": setup.vote_temperature,
        "tuned": row.fitted.tuned,
        "equal_to": row.fitted.equal_to,
    }


def _forgetting(row: Row, evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """stream -> domain -> share right under the adapter that the stream ended with."""
    table: dict[str, dict[str, float]] = {}
    for stream, outcomes in row.crossed.items():
        by_domain: dict[str, list[bool]] = {}
        for problem, outcome in zip(evaluation.problems, outcomes, strict=True):
            by_domain.setdefault(problem.domain, []).append(outcome == "right")
        table[stream] = {name: sum(values) / len(values) for name, values in by_domain.items()}
    return table
