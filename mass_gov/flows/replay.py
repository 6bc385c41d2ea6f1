"""Reproduce a recorded change, and say stage by stage whether the digests agree.

The procedure (docs/reference/replay.md carries the same numbers):
  (1) read the recorded artifacts; one that is missing, altered or unreadable is a difference in its stage, and so is a
      stored delta that is another than the leaf names
  (2) check what the change was made from: base model, prompt template, configuration, policy, suite, parent state
  (3) compute again with the lines that `adapt` runs, from the seed or from the recorded samples; from the delta only
      the answers, and the decision on what was recorded
  (4) compare the digests in the order of the sentence; the first difference names the stage
Rules: a stage that was taken from the record and not computed again is `given`, never `equal`. `equal` means: every
stage that was computed agrees, under the same fingerprint. A response replays as the change behind it, and has to have
been served from a state that this change knows. What was erased is not replayable, which says nothing against it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TypeVar

from mass_gov.errors import (
    IntegrityError,
    MassGovError,
    ModelError,
    NotFoundError,
    NotRetainedError,
    PolicyError,
    RefusedError,
    TaskError,
)
from mass_gov.flows.adapt import compute
from mass_gov.flows.answering import answers
from mass_gov.flows.authority import authorise
from mass_gov.flows.exchange import Outcome
from mass_gov.flows.monitoring import watching_again
from mass_gov.flows.replay_difference import Difference
from mass_gov.flows.replay_record import UNKNOWN_FORM, Record, check_made_from, read_record, with_its_model
from mass_gov.flows.replay_report import (
    MissingError,
    Replayed,
    StageResult,
    Start,
    UnreadableError,
    conclude,
    cut_short,
    not_replayable,
)
from mass_gov.flows.replay_response import replay_unadapted
from mass_gov.flows.replay_stages import Said, compare, ungated
from mass_gov.flows.standing import read_again
from mass_gov.flows.workbench import Origin, Workbench, origin_of
from mass_gov.ledger import ChangeView, Ledger, ResponseView
from mass_gov.policy import Facts, load_policy
from mass_gov.records.artifacts import AnswerContent, SampleContent, SamplesContent
from mass_gov.records.change import ChangeBody
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, ReplayPerformed, Stage
from mass_gov.stages.decision import decide_change
from mass_gov.stages.synthesis import ForcedSample
from mass_gov.stages.update import Learned
from mass_gov.tasks.anchors import AnchorPool
from mass_gov.tasks.suites import parse_suite

_T = TypeVar("_T")
GIVEN: dict[Start, tuple[Stage, ...]] = {
    "scratch": (),
    "samples": ("samples",),
    "delta": ("samples", "gates", "delta", "regression"),
}


def replay(target: str, start: Start, bench: Workbench) -> Replayed:
    """Replay one change or response; a response with a change behind it replays as that change.

    Raises:
        NotFoundError: no such change or response.
        IntegrityError: its event is not what was signed.
    """
    try:
        change = bench.ledger.change(target)
    except NotFoundError:
        response = bench.ledger.response(target)
    else:
        return _replay_change(target, change, None, start, bench)
    if response.change_id is None:
        return replay_unadapted(response, start, bench)
    return _replay_change(target, bench.ledger.change(response.change_id), response, start, bench)


def _replay_change(
    target: str, change: ChangeView, response: ResponseView | None, start: Start, bench: Workbench
) -> Replayed:
    change_id, parents = change.change_id, change.body.parents
    bench = with_its_model(bench, parents.base_model)
    present = bench.learner.fingerprint()
    try:
        record = read_record(change, bench)  # (1)
        check_made_from(bench, parents.base_model, parents.prompt_template)  # (2)
        lain = as_recorded(change, record, bench)
        late = start == "delta"
        outcome = _from_delta(change, record, lain) if late else compute_again(change, record, start, lain)  # (3)
    except UnreadableError as unreadable:
        return cut_short(target, change_id, start, unreadable, present)
    except NotRetainedError as gone:
        return not_replayable(target, change_id, start, str(gone), present)
    forced: tuple[Stage, ...] = ("samples",) if record.said.samples.forced else ()
    stages = compare(record.said, said_by(outcome), (*GIVEN[start], *forced))  # (4)
    if response is not None:
        stages = (*stages[:-1], _served(response, outcome.answer, stages[-1]))
    return conclude(target, change_id, start, stages, record.settled.fingerprint, present)


def as_recorded(change: ChangeView, record: Record, bench: Workbench) -> Workbench:
    """Lay the bench as it was: the recorded settings, policy and suite, taken from the ledger by digest."""
    parents, spec = change.body.parents, record.settled.spec
    ledger = bench.ledger
    policy = _registered("gates", "policy", parents.policy, lambda digest: load_policy(ledger.policy_bytes(digest)))
    suite = _registered("regression", "suite", parents.suite, lambda digest: parse_suite(ledger.suite_bytes(digest)))
    runner = bench.runners.again(suite, spec.answer)
    return replace(bench, spec=spec, policy=policy, anchors=_anchors(record, bench), recorded_runner=runner)


def _registered(stage: Stage, kind: str, digest: str, read: Callable[[str], _T]) -> _T:
    """What the ledger holds by its digest: a form that this release cannot read is no fault of the record."""
    try:
        return read(digest)
    except (PolicyError, TaskError) as error:
        raise MissingError(stage, f"{kind} {digest[:12]} cannot be read: {error} {UNKNOWN_FORM}") from error
    except MassGovError as error:
        raise UnreadableError(stage, f"{kind} {digest[:12]}: {error}") from error


def _anchors(record: Record, bench: Workbench) -> AnchorPool:
    """The pool that the change used; where it used two, its delta says otherwise than what comes out."""
    mixed_in, compared_with = record.said.samples.anchor_pool, record.said.content.anchors
    pool = mixed_in or compared_with or bench.anchors.digest
    if pool == bench.anchors.digest:
        return bench.anchors
    if bench.kept is not None and (found := bench.kept.anchors(pool)) is not None:
        return found
    raise MissingError(
        "samples" if mixed_in else "delta",
        f"it used anchors {pool}, which are not the ones at hand. Put their file into HOME/kept, or name it: "
        "MASS_GOV_ANCHORS.",
    )


def compute_again(
    change: ChangeView,
    record: Record,
    start: Start,
    bench: Workbench,
    *,
    seed: int | None = None,
    left_out: Collection[int] = (),
    unscored: bool = False,
) -> Outcome:
    """Run the lines of `adapt` on what was recorded.

    Arguments:
        bench: laid as it was (`as_recorded`).
        seed, left_out, unscored: what a counterfactual changes: another seed, samples (by index) that were not
            written, no scorer. A replay changes nothing.
    """
    body, samples = change.body, record.said.samples
    supplied = [sample for sample in samples.samples if not sample.real] if samples.forced else []
    try:
        return compute(
            record.settled.request.question,
            body.identity.scope,
            int(body.parents.seed) if seed is None else seed,
            _origin(body, bench),
            bench,
            forced=[_forced(sample, bench) for sample in supplied],
            samples=_without(ungated(samples), left_out) if start != "scratch" else None,
            batch=samples.batch,
            unscored=unscored,
            watch=watching_again(body, bench.ledger),
            from_log=lambda _: read_again(body, bench),
        )
    except TaskError as error:  # recorded tokens or texts that this model cannot have written
        raise UnreadableError("samples", str(error)) from error


def _from_delta(change: ChangeView, record: Record, bench: Workbench) -> Outcome:
    """Answer with the recorded delta, and decide again on what was measured."""
    body, said = change.body, record.said
    origin = _origin(body, bench)
    learned = _recorded_update(record, origin, bench)
    by_name = {measure.name: measure for measure in said.measures}
    summary = said.regression[1] if said.regression is not None else None
    facts = Facts(body.identity.scope, said.synthesis, said.update, summary, by_name)
    gates, decision = decide_change(facts, bench.policy)
    try:
        answer = answers(record.settled.request.question, origin, learned, bench, said.samples.batch)
    except TaskError as error:
        raise UnreadableError("answer", str(error)) from error
    return Outcome(said.samples, said.synthesis, learned, said.regression, gates, decision, answer, said.measures)


def _without(samples: SamplesContent, left_out: Collection[int]) -> SamplesContent:
    return samples.model_copy(update={"samples": tuple(one for one in samples.samples if one.index not in left_out)})


def _origin(body: ChangeBody, bench: Workbench) -> Origin:
    parents = body.parents
    try:
        return origin_of(bench, parents.parent_state, parents.pointer_head)
    except RefusedError as error:  # the base model is the recorded one, so it is the state that nothing recorded made
        what = f"parent state {parents.parent_state[:12]} was made by no recorded change of this base model"
        raise UnreadableError("samples", what) from error
    except (IntegrityError, ModelError) as error:
        raise UnreadableError("delta", str(error)) from error


def _forced(sample: SampleContent, bench: Workbench) -> ForcedSample:
    """Take a forced sample's text apart as it was put together."""
    question, _, solution = sample.text.partition(bench.learner.template.separator)
    return ForcedSample(question, solution)


def _recorded_update(record: Record, origin: Origin, bench: Workbench) -> Learned:
    said = record.said
    try:
        adapter = bench.learner.read_adapter(said.files) if said.files is not None else origin.start
    except ModelError as error:
        raise UnreadableError("delta", str(error)) from error
    return Learned(adapter, said.files, said.update, said.content)


def said_by(outcome: Outcome) -> Said:
    """What the stages of a computed change said."""
    learned = outcome.learned
    return Said(
        samples=outcome.samples,
        synthesis=outcome.synthesis,
        files=learned.files,
        update=learned.summary,
        content=learned.content,
        regression=outcome.regression,
        measures=outcome.measures,
        gates=outcome.gates,
        decision=outcome.decision,
        answer=outcome.answer,
    )


def _served(response: ResponseView, answer: AnswerContent, found: StageResult) -> StageResult:
    """The answer's stage with what one response says of it: which state wrote what was served."""
    text = {"adapted": answer.adapted, "parent": answer.parent, "base": answer.base}.get(response.served)
    state = text.state if text is not None else None
    if found.verdict != "equal" or state == response.state:
        return found
    difference = Difference((("response", response.response_id),), f"{response.served} state", response.state, state)
    return replace(found, verdict="differs", detail=str(difference), difference=difference)


def record_replay(replayed: Replayed, ledger: Ledger, actor: Actor) -> None:
    """Append that the replay was performed, and what came out, under the tenant and deployment of what was replayed."""
    change_id = replayed.change_id
    index = ledger.change(change_id).index if change_id else ledger.response(replayed.target).index
    place = ledger.entry(index).predicate
    body = ReplayPerformed(
        target=replayed.target,
        start=replayed.start,
        verdict=replayed.verdict,
        first_difference=replayed.first_difference,
        fingerprint=replayed.fingerprint,
    )
    # A name that is self-asserted looks as an auditor does; a principal acts in the role that it showed a token for.
    who = actor if ledger.has_principals() else Actor(principal=actor.principal, role="auditor")
    authorise(ledger, who, "replay", (place.tenant, place.deployment), change_id=change_id)
    ledger.append([EventDraft(who, place.tenant, place.deployment, body)])
