"""MASS as it is served: every task through gates, regression and decision, recorded in a log of its own.

The same questions as the other methods get, one by one, by the very flow that serves them (`mass_gov.flows.adapt`); the
answer that counts is the one that was served. What was decided, and which gates stood in the way, is counted beside it.

Rules: no gold answer reaches the flow; it is graded when all answers are in. The log is a scratch one that the caller
opened. A policy that serves nothing while a change waits leaves a task without an answer: `unparseable`.

Does not know how tasks are graded or reported.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from mass_gov.flows.adapt import adapt
from mass_gov.flows.evaluation.fitting import Fitted
from mass_gov.flows.evaluation.problems import Evaluation
from mass_gov.flows.evaluation.run import Row
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.workbench import Workbench
from mass_gov.mass.prompting import parse_answer
from mass_gov.mass.rivals.values import Answer, Replies, Setup, derived_seed
from mass_gov.records.change import Verdict

NAME = "governed"
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Progress = Callable[[str, int, int], None]


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

    Raises:
        TaskError: a question cannot be posed to this model.
    """
    questions, started = evaluation.questions, time.perf_counter()
    served: list[Answered] = []
    for place, question in enumerate(questions):
        progress(NAME, place, len(questions))
        own = derived_seed(seed, NAME, question)
        task_id = f"{NAME}-{place}-{evaluation.problems[place].problem_id}"
        served.append(adapt(Request(question, task_id, source="evaluation", seed=own), bench))
    progress(NAME, len(questions), len(questions))
    seconds = time.perf_counter() - started
    answers = tuple(_answer(one, bench) for one in served)
    outcomes = tuple(evaluation.grade(answers))
    costs = [one.change.body.cost for one in served]
    row = Row(
        name=NAME,
        weights=weights,
        fitted=Fitted(_setup(bench)),
        replies=Replies(answers),
        outcomes=outcomes,
        flops=sum(int(cost.flops) for cost in costs) / len(costs),
        tokens=sum(cost.generated_tokens for cost in costs) / len(costs),
        seconds=seconds / len(costs),
        crossed={},
    )
    return Governed(row, _decisions(served, outcomes, evaluation, bench))


def _answer(one: Answered, bench: Workbench) -> Answer:
    if one.served is None:
        return Answer("", None)
    return Answer(one.served, parse_answer(one.served, bench.learner.template))


def _decisions(
    served: Sequence[Answered], outcomes: Sequence[str], evaluation: Evaluation, bench: Workbench
) -> dict[str, Any]:
    """Verdicts and what stood in the way, and what the adapted answers would have been worth had all been served."""
    would = tuple(
        one.answer.adapted.answer if one.answer.adapted is not None else one.answer.parent.answer for one in served
    )
    adapted = evaluation.grade([Answer("", key) for key in would])
    bases = evaluation.grade([Answer("", one.answer.base.answer) for one in served])
    verdicts = [one.change.body.decision.verdict for one in served]
    return {
        "policy": bench.policy.label,
        "policy_digest": bench.policy.digest,
        "reasons": dict(Counter(one.change.body.decision.reason for one in served).most_common()),
        "right": {
            "served": outcomes.count("right"),
            "adapted": adapted.count("right"),
            "base": bases.count("right"),
        },
        "by_verdict": {
            verdict: _worth(verdict, verdicts, adapted, bases) | {"violated": _violated(verdict, served)}
            for verdict in VERDICTS
        },
    }


def _violated(verdict: str, served: Sequence[Answered]) -> dict[str, int]:
    """How often each gate or limit stood in the way."""
    decisions = [one.change.body.decision for one in served]
    named = (name for decision in decisions if decision.verdict == verdict for name in decision.violated)
    return dict(Counter(named).most_common())


def _worth(verdict: str, verdicts: Sequence[str], adapted: Sequence[str], bases: Sequence[str]) -> dict[str, Any]:
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
