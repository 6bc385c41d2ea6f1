"""What would have come out otherwise: a recorded change computed again with exactly one thing changed.

It is not a replay, and is never written to the log as one; nothing is written at all. The procedure:

  (1) compute the change again with nothing changed, from where the question starts: the control. Where that does not
      give what was recorded, a difference would say nothing about what was changed, and the report says so
  (2) compute it with the change asked for, by the same lines
  (3) compare with the record: whether the decision, what is served, and the new weights' answer are others

Rules: samples that are left out were not written; the others are judged, weighed and learned from anew. Another policy
judges by its own gates and suites; what the log said of the change (depth, budget, cooldown) stays as it was recorded,
and a gate that wants more than that is told that it is not known. Another seed writes other samples. What is measured
of single samples (`attribute`) is the effect on the recorded adapted answer: no gold answer is known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mass_gov.errors import InputError
from mass_gov.flows.answering import answer_from
from mass_gov.flows.drafting import served_text
from mass_gov.flows.exchange import Outcome
from mass_gov.flows.replay import GIVEN, as_recorded, compute_again, said_by
from mass_gov.flows.replay_record import Record, check_made_from, read_record, with_its_model
from mass_gov.flows.replay_report import Start, UnreadableError
from mass_gov.flows.replay_stages import compare
from mass_gov.flows.workbench import Workbench, origin_of
from mass_gov.ledger import ChangeView
from mass_gov.mass.values import Adapter, TrainingSample, UpdateSettings
from mass_gov.policy import Policy
from mass_gov.records.artifacts import AnswerContent, SampleContent
from mass_gov.records.change import Decision, RegressionSummary


@dataclass(frozen=True, slots=True)
class Otherwise:
    """What is changed; exactly one of them."""

    left_out: tuple[int, ...] = ()
    """Samples by their index."""
    unscored: bool = False
    policy: Policy | None = None
    seed: int | None = None

    @property
    def start(self) -> Start:
        """Another seed starts from nothing; the others keep the recorded samples."""
        return "samples" if self.seed is None else "scratch"

    def check(self, record: Record) -> None:
        """Raise InputError where nothing or several things are changed, or what this change does not have."""
        asked = (bool(self.left_out), self.unscored, self.policy is not None, self.seed is not None)
        if sum(asked) != 1:
            raise InputError("change exactly one thing: --drop-sample, --without-scorer, --policy or --seed.")
        known = [sample.index for sample in record.said.samples.samples]
        if missing := sorted(set(self.left_out) - set(known)):
            raise InputError(
                f"this change has no sample {missing[0]}; it has {known[0]} to {known[-1]}. "
                "`mass-gov changes show --samples` lists them."
            )
        if self.unscored and all(sample.score is None for sample in record.said.samples.samples):
            raise InputError("no sample of this change was scored, so that it was made without a scorer already.")
        if self.seed is not None and record.said.samples.forced:
            raise InputError("the requester supplied the samples of this change, so that no seed decides them.")


@dataclass(frozen=True, slots=True)
class Course:
    """One course of events: what was decided, served and learned."""

    decision: Decision
    served_from: str
    served: str | None
    answer: str | None
    """The new weights' answer; None where nothing was learned, or where it could not be read."""
    kept: int
    step_norm: float | None
    regression: RegressionSummary | None


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The record beside what would have been. `reproduced`: the control gave what was recorded."""

    change_id: str
    start: Start
    recorded: Course
    otherwise: Course
    reproduced: bool

    @property
    def decision_differs(self) -> bool:
        """Whether the verdict would have been another one."""
        return self.recorded.decision.verdict != self.otherwise.decision.verdict

    @property
    def served_differs(self) -> bool:
        """Whether another text would have been served, as the verdict and the policy have it."""
        return self.recorded.served != self.otherwise.served

    @property
    def answer_differs(self) -> bool:
        """Whether the new weights would have given another answer, served or not."""
        return self.recorded.answer != self.otherwise.answer


@dataclass(frozen=True, slots=True)
class SampleEffect:
    """What one sample did to the recorded adapted answer, in nats of its token-mean loss; negative: it was for it."""

    index: int
    question: str
    weight: float
    score: float | None
    leave_one_out: float
    attribution: float | None
    """None for an anchor, which has no score."""
    answer: str | None
    """What the new weights answer without it."""
    answer_differs: bool


@dataclass(frozen=True, slots=True)
class Attributed:
    """What each sample did. `reproduced`: the steps taken again here gave the recorded weights, or as many of them as
    a policy's projection left to compare: the recorded answer."""

    effects: tuple[SampleEffect, ...]
    reproduced: bool


def counterfactual(change: ChangeView, otherwise: Otherwise, bench: Workbench) -> Counterfactual:
    """Compute a recorded change with one thing changed.

    Raises:
        InputError: it cannot be asked of this change.
        NotRetainedError: its content was erased.
    """
    bench = with_its_model(bench, change.body.parents.base_model)
    record = _readable(change, bench)
    otherwise.check(record)
    try:
        lain = as_recorded(change, record, bench)
        control = compute_again(change, record, otherwise.start, lain)  # (1)
        other = lain if otherwise.policy is None else _under(otherwise.policy, lain)
        found = compute_again(  # (2)
            change,
            record,
            otherwise.start,
            other,
            seed=otherwise.seed,
            left_out=otherwise.left_out,
            unscored=otherwise.unscored,
        )
    except UnreadableError as unreadable:
        raise InputError(f"{change.change_id} cannot be computed again: {unreadable}") from unreadable
    stages = compare(record.said, said_by(control), GIVEN[otherwise.start])
    return Counterfactual(  # (3)
        change.change_id,
        otherwise.start,
        _recorded(change, record, lain.policy),
        _course(found, other.policy),
        reproduced=all(stage.verdict != "differs" for stage in stages),
    )


def attribute(change: ChangeView, bench: Workbench) -> Attributed:
    """Say of every sample that was learned from what it did, by leaving it out and by the meta-gradient.

    Raises:
        InputError: nothing was learned, or the change cannot be computed again here.
        NotRetainedError: its content was erased.
    """
    bench = with_its_model(bench, change.body.parents.base_model)
    record = _readable(change, bench)
    adapted, question = record.said.answer.adapted, record.settled.request.question
    learned = [sample for sample in record.said.samples.samples if sample.weight > 0]
    if adapted is None or not learned:
        raise InputError(f"change {change.change_id} learned nothing, so that no sample had an effect.")
    parents, spec = change.body.parents, record.settled.spec.update
    origin = origin_of(replace(bench, spec=record.settled.spec), parents.parent_state, parents.pointer_head)
    sizes = tuple(sorted((spec.step_sizes or {}).items()))
    settings = UpdateSettings(spec.steps, spec.step_size, sizes, spec.softening)
    target, training = (question, adapted.text), [_training(sample) for sample in learned]
    scored = [not sample.real for sample in learned]
    attributions = bench.learner.attribute(training, origin.start, settings, target, scored)

    def practise(samples: Sequence[TrainingSample]) -> tuple[float, str | None, Adapter]:
        """The loss of the recorded answer, and the answer, after steps on these."""
        adapter = bench.learner.update(samples, origin.start, settings).adapter
        (losses,) = bench.learner.nll([target], adapter)
        answer = answer_from(question, change.body.update.state, adapter, replace(bench, spec=record.settled.spec))
        return sum(losses) / len(losses), answer.answer, adapter

    whole, answered, adapter = practise(training)
    projected = change.body.update.projected
    reproduced = answered == adapted.answer if projected else bench.learner.write_adapter(adapter) == record.said.files
    effects = []
    for place, (sample, value) in enumerate(zip(learned, attributions, strict=True)):
        without, answer, _ = practise(_without(training, scored, place))
        effects.append(
            SampleEffect(
                sample.index,
                sample.question or "",
                sample.weight,
                sample.score,
                whole - without,
                value if scored[place] else None,
                answer,
                answer != answered,
            )
        )
    return Attributed(tuple(effects), reproduced)


def _readable(change: ChangeView, bench: Workbench) -> Record:
    try:
        record = read_record(change, bench)
        parents = change.body.parents
        check_made_from(bench, parents.base_model, parents.prompt_template)
    except UnreadableError as unreadable:
        raise InputError(f"{change.change_id} cannot be computed again: {unreadable}") from unreadable
    return record


def _under(policy: Policy, bench: Workbench) -> Workbench:
    return replace(bench, policy=policy, recorded_runner=None)


def _course(outcome: Outcome, policy: Policy) -> Course:
    regression = outcome.regression[1] if outcome.regression else None
    return _of(
        policy,
        outcome.answer,
        outcome.decision,
        outcome.synthesis.kept,
        outcome.learned.summary.step_norm,
        regression,
    )


def _recorded(change: ChangeView, record: Record, policy: Policy) -> Course:
    body = change.body
    return _of(policy, record.said.answer, body.decision, body.synthesis.kept, body.update.step_norm, body.regression)


def _of(
    policy: Policy,
    answer: AnswerContent,
    decision: Decision,
    kept: int,
    step_norm: float | None,
    regression: RegressionSummary | None,
) -> Course:
    """Serve as right after the decision: what people made of a held change later is not part of it."""
    served_from, served = served_text("applied" if decision.verdict == "apply" else "held", answer, policy)
    adapted = answer.adapted.answer if answer.adapted is not None else None
    return Course(decision, served_from, served, adapted, kept, step_norm, regression)


def _training(sample: SampleContent) -> TrainingSample:
    return TrainingSample(sample.question or "", sample.solution or "", sample.weight)


def _without(samples: Sequence[TrainingSample], scored: Sequence[bool], place: int) -> list[TrainingSample]:
    """The other samples, weighed as a policy weighs: scored ones and anchors keep their shares where any is left."""
    kind = scored[place]
    alike = sum(one.weight for at, one in enumerate(samples) if scored[at] == kind)
    rest = alike - samples[place].weight
    factor = alike / rest if rest > 0 else 1.0
    left = [
        replace(one, weight=one.weight * factor) if scored[at] == kind else one
        for at, one in enumerate(samples)
        if at != place
    ]
    whole = sum(one.weight for one in left) or 1.0
    return [replace(one, weight=one.weight / whole) for one in left]
