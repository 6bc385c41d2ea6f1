"""MASS as it is served: every task through gates, regression and decision, recorded in a log of its own.

The same questions as the other methods get, one by one, by the very flow that serves them (`mass_gov.flows.adapt`); the
answer that counts is the one that was served. What was decided, and which gates stood in the way, is counted beside it.

Rules: no gold answer reaches the flow; it is graded when all answers are in. The log is a scratch one that the caller
opened. Answers are read as every other method's are: one that was cut off is none. A task without an answer, because
the policy serves nothing while a change waits or because the model cannot read the question, is `unparseable`. Where a
budget is spent the rest is answered without an update, as `solve` would.

Does not know how tasks are graded or reported.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from mass_gov.errors import TaskError
from mass_gov.flows.evaluation.fitting import Fitted
from mass_gov.flows.evaluation.problems import Evaluation
from mass_gov.flows.evaluation.run import Row
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.respond import Responded, adapt_or_respond
from mass_gov.flows.workbench import Workbench
from mass_gov.mass.rivals.values import Answer, Replies, Setup, derived_seed
from mass_gov.records.artifacts import AnswerText
from mass_gov.records.change import Cost, Verdict

NAME = "governed"
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Progress = Callable[[str, int, int], None]
Served = Answered | Responded | None
"""A change, an answer without one, or None where the question cannot be posed to this model."""


@dataclass(frozen=True)
class Governed:
    """What came of governing: one row like any method's, and the decisions behind it."""

    row: Row
    decisions: dict[str, Any]


def evaluate_governed(
    bench: Workbench, weights: str, evaluation: Evaluation, seed: int, progress: Progress = lambda *_: None
) -> Governed:
    """Adapt to every question under the bench's policy, and grade what was served.

    Arguments:
        bench: the model under test, with a scratch ledger.
        weights: name of the model's folder, for the report.
    """
    questions, started = evaluation.questions, time.perf_counter()
    served: list[Served] = []
    for place, question in enumerate(questions):
        progress(NAME, place, len(questions))
        own = derived_seed(seed, NAME, question)
        task_id = f"{NAME}-{place}-{evaluation.problems[place].problem_id}"
        served.append(_serve(Request(question, task_id, source="evaluation", seed=own), bench))
    progress(NAME, len(questions), len(questions))
    seconds = time.perf_counter() - started
    answers = tuple(map(_answer, served))
    outcomes = tuple(evaluation.grade(answers))
    costs = [cost for one in served if (cost := _cost(one)) is not None]
    row = Row(
        name=NAME,
        weights=weights,
        fitted=Fitted(_setup(bench)),
        replies=Replies(answers),
        outcomes=outcomes,
        flops=sum(int(cost.flops) for cost in costs) / len(served),
        tokens=sum(cost.generated_tokens for cost in costs) / len(served),
        seconds=seconds / len(served),
        crossed={},
    )
    return Governed(row, _decisions(served, outcomes, evaluation, bench))


def _serve(request: Request, bench: Workbench) -> Served:
    try:
        return adapt_or_respond(request, bench)
    except TaskError:
        return None


def _answer(one: Served) -> Answer:
    """What was served."""
    if one is None or isinstance(one, Responded):
        return _read(one.answer if one is not None else None)
    if one.served is None:
        return _read(None)
    said = {"adapted": one.answer.adapted, "parent": one.answer.parent, "base": one.answer.base}
    return _read(said[one.served_from])


def _would(one: Served) -> tuple[Answer, Answer]:
    """What would have been served had every update been, and none."""
    if not isinstance(one, Answered):
        return _answer(one), _answer(one)
    return _read(one.answer.adapted or one.answer.parent), _read(one.answer.base)


def _read(said: AnswerText | None) -> Answer:
    return Answer("", None) if said is None else Answer(said.text, said.answer if said.finished else None)


def _cost(one: Served) -> Cost | None:
    if one is None:
        return None
    return one.origin.cost if isinstance(one, Responded) else one.change.body.cost


def _decisions(
    served: Sequence[Served], outcomes: Sequence[str], evaluation: Evaluation, bench: Workbench
) -> dict[str, Any]:
    """Verdicts and what stood in the way, and what the adapted answers would have been worth had all been served."""
    would, first = zip(*map(_would, served), strict=True)
    adapted, bases = evaluation.grade(would), evaluation.grade(first)
    changes = [one if isinstance(one, Answered) else None for one in served]
    made = [one for one in changes if one is not None]
    verdicts = [one.change.body.decision.verdict if one is not None else None for one in changes]
    return {
        "policy": bench.policy.label,
        "policy_digest": bench.policy.digest,
        "changes": len(made),
        "unadapted": sum(isinstance(one, Responded) for one in served),
        "reasons": dict(Counter(one.change.body.decision.reason for one in made).most_common()),
        "right": {
            "served": outcomes.count("right"),
            "adapted": adapted.count("right"),
            "base": bases.count("right"),
        },
        "by_verdict": {
            verdict: _worth(verdict, verdicts, adapted, bases) | {"violated": _violated(verdict, made)}
            for verdict in VERDICTS
        },
    }


def _violated(verdict: str, served: Sequence[Answered]) -> dict[str, int]:
    """How often each gate or limit stood in the way."""
    decisions = [one.change.body.decision for one in served]
    named = (name for decision in decisions if decision.verdict == verdict for name in decision.violated)
    return dict(Counter(named).most_common())


def _worth(
    verdict: str, verdicts: Sequence[str | None], adapted: Sequence[str], bases: Sequence[str]
) -> dict[str, Any]:
    """What adapting was worth among the changes of one verdict: whether the gates stop the right ones."""
    pairs = [
        (base == "right", after == "right")
        for one, base, after in zip(verdicts, bases, adapted, strict=True)
        if one == verdict
    ]
    return {
        "n": len(pairs),
        "gained": pairs.count((False, True)),
        "lost": pairs.count((True, False)),
    }


def _setup(bench: Workbench) -> Setup:
    spec = bench.spec
    return Setup(
        samples=spec.sampling.count,
        steps=spec.update.steps,
        step_size=spec.update.step_size,
        temperature=spec.sampling.temperature,
        practice_tokens=spec.sampling.max_new_tokens,
        answer_tokens=spec.answer.max_new_tokens,
    )
