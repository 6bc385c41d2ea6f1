"""`evaluate`: every method on the same tasks, in batches, metered, and graded when all answers are in.

    (1) find the methods and their weights; refuse before computing anything
    (2) base first, then MASS, since others are held to what it spends; then the rest, folder by folder
    (3) per method: fix its settings (`fitting`), answer all questions in batches, meter FLOPs, tokens and seconds
    (4) grade

Rules: batches are near-equal parts of at most `batch` tasks in task order, the same for every method (decoding is not
batch-invariant, so this is part of a result). A method sees question texts and `Surroundings`, nothing else. What
tuning and calibration cost is not charged to a method. One model is held at a time.

Does not know how results are reported.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from mass_gov.flows.evaluation.engines import Engines
from mass_gov.flows.evaluation.fitting import Fitted, Fitting
from mass_gov.flows.evaluation.problems import Evaluation, OutcomeName
from mass_gov.flows.evaluation.weights import Weights
from mass_gov.mass.rivals.answering import posable
from mass_gov.mass.rivals.catalogue import BASE, Spec, find
from mass_gov.mass.rivals.values import Answer, Engine, Replies, Setup, Surroundings

T = TypeVar("T")

Progress = Callable[[str, int, int], None]
"""(method, tasks done, tasks in all)"""


@dataclass(frozen=True)
class Request:
    """What to compare and how.

    Args:
        methods: names; `base` is added where it is missing, since every difference is to it.
        seed: of samples and votes; the tasks were drawn by the caller.
        setup: settings where neither a core nor a method's name says otherwise.
        fixed: fields of `setup` that a core does not change.
        batch: tasks at a time.
        validation: tasks that tuned settings are chosen on; None leaves the setup's values.
        threads: CPU threads; they decide bits.
    """

    methods: tuple[str, ...]
    seed: int = 0
    setup: Setup = field(default_factory=Setup)
    fixed: tuple[str, ...] = ()
    batch: int = 60
    validation: Evaluation | None = None
    threads: int = 1


@dataclass(frozen=True)
class Row:
    """One method's run over all tasks: answers, outcomes, what was spent, and how it came about.

    flops, tokens: per task. crossed: of `/accumulated`, stream -> outcome of every task by that stream's last adapter.
    """

    name: str
    weights: str
    fitted: Fitted
    replies: Replies
    outcomes: tuple[OutcomeName, ...]
    flops: float
    tokens: float
    seconds: float
    crossed: dict[str, tuple[OutcomeName, ...]]

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.outcomes.count("right") / len(self.outcomes)


def evaluate(
    request: Request,
    evaluation: Evaluation,
    surroundings: Surroundings,
    weights: Weights,
    progress: Progress = lambda *_: None,
) -> dict[str, Row]:
    """One row per method, in the order asked for. Raises NotFoundError and ModelError before computing anything."""
    specs = [find(name) for name in dict.fromkeys([BASE, *request.methods])]
    weights.require(spec.weights for spec in specs)
    engines = Engines(weights, request.threads)
    fitting = Fitting(request.setup, request.fixed, request.seed, request.validation, surroundings, engines)
    rows: dict[str, Row] = {}
    for spec in _in_order(specs, fitting.reference):
        fitted = fitting.fit(spec, batches(evaluation.questions, request.batch)[0])
        rows[spec.name] = _run(spec, fitted, request, evaluation, surroundings, engines, progress)
        if spec.name == fitting.reference:
            fitting.spent(rows[spec.name].flops, rows[spec.name].tokens)
    return {spec.name: rows[spec.name] for spec in specs}


def _in_order(specs: Sequence[Spec], reference: str) -> list[Spec]:
    """Base, MASS, and the rest by folder, so that each model is opened as seldom as can be."""
    first = [spec for name in (BASE, reference) for spec in specs if spec.name == name]
    rest = [spec for spec in specs if spec not in first]
    return first + sorted(rest, key=lambda spec: (spec.weights != first[-1].weights, spec.weights))


def batches(questions: Sequence[str], size: int) -> list[list[str]]:
    """Near-equal consecutive parts of at most `size`."""
    count = math.ceil(len(questions) / size)
    cuts = [round(i * len(questions) / count) for i in range(count + 1)]
    return [list(questions[a:b]) for a, b in itertools.pairwise(cuts)]


def _run(
    spec: Spec,
    fitted: Fitted,
    request: Request,
    evaluation: Evaluation,
    surroundings: Surroundings,
    engines: Engines,
    progress: Progress,
) -> Row:
    engine, questions = engines.open(spec.weights), evaluation.questions
    parts: list[Replies] = []
    done, started = 0, time.perf_counter()
    with engine.meter() as cost:
        for batch in [list(questions)] if spec.whole else batches(questions, request.batch):
            progress(spec.name, done, len(questions))
            parts.append(_answered(spec, engine, batch, fitted.setup, request.seed, surroundings))
            done += len(batch)
    seconds = time.perf_counter() - started
    progress(spec.name, done, len(questions))
    replies = _joined(parts)
    crossed = {name: tuple(evaluation.grade(answers)) for name, answers in replies.crossed().items()}
    n = len(questions)
    outcomes = tuple(evaluation.grade(replies.answers))
    per_task = (cost.flops / n, cost.generated_tokens / n, seconds / n)
    return Row(spec.name, spec.weights, fitted, replies, outcomes, *per_task, crossed)


def _answered(
    spec: Spec, engine: Engine, batch: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """The method's replies; a question that the model cannot read or has no room for gets none, whatever the method."""
    able = [row for row, question in enumerate(batch) if posable(engine, question, setup)]
    if len(able) == len(batch):
        return spec.run(engine, batch, setup, seed, surroundings)
    found = spec.run(engine, [batch[row] for row in able], setup, seed, surroundings) if able else Replies(())
    none = Answer("", None)
    return Replies(
        _spread(found.answers, able, len(batch), none),
        _spread(found.samples, able, len(batch), ()) if found.samples else (),
        _spread(found.deltas, able, len(batch), "") if found.deltas else (),
        lambda: {name: _spread(one, able, len(batch), none) for name, one in found.crossed().items()},
    )


def _spread(values: Sequence[T], places: Sequence[int], length: int, missing: T) -> tuple[T, ...]:
    whole = [missing] * length
    for place, value in zip(places, values, strict=True):
        whole[place] = value
    return tuple(whole)


def _joined(parts: Sequence[Replies]) -> Replies:
    answers: tuple[Answer, ...] = tuple(answer for part in parts for answer in part.answers)
    whole = Replies(
        answers,
        tuple(samples for part in parts for samples in part.samples),
        tuple(delta for part in parts for delta in part.deltas),
    )
    return replace(whole, crossed=parts[0].crossed)
