"""Reproduce a recorded change, and say stage by stage whether the digests agree.

The procedure (docs/reference/replay.md carries the same numbers):
  (1) read the recorded artifacts; one that is missing, altered or unreadable is a difference in its stage, and so is a
      stored delta that is another than the leaf names
  (2) check what the change was made from: base model, prompt template, configuration, policy, suite, parent state
  (3) compute again with the lines that `adapt` runs, from the seed, from the recorded samples, or from the delta
  (4) compare the digests in the order of the sentence; the first difference names the stage
Rules: a stage that was taken from the record and not computed again is `given`, never `equal`. `equal` means: every
stage that was computed agrees, under the same fingerprint. A response replays as the change behind it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from mass_gov.errors import IntegrityError, MassGovError, NotFoundError, TaskError
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.flows.adapt import compute
from mass_gov.flows.authority import authorise
from mass_gov.flows.exchange import Outcome
from mass_gov.flows.monitoring import watching_again
from mass_gov.flows.replay_record import check_made_from, read_content
from mass_gov.flows.replay_report import (
    STAGES,
    Replayed,
    StageResult,
    Start,
    UnreadableError,
    conclude,
    cut_short,
)
from mass_gov.flows.replay_response import replay_unadapted
from mass_gov.flows.workbench import Workbench, delta_files, origin_of
from mass_gov.ledger import ChangeView
from mass_gov.policy import load_policy
from mass_gov.policy.standing import FROM_THE_LOG
from mass_gov.policy.update_measures import FROM_THE_UPDATE
from mass_gov.records.artifacts import (
    AnswerContent,
    RegressionContent,
    RequestContent,
    SampleContent,
    SamplesContent,
    UpdateContent,
)
from mass_gov.records.change import ChangeBody, Decision, GateResult, Measure
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, ReplayPerformed, Stage
from mass_gov.records.settings import AdaptationSpec
from mass_gov.stages.synthesis import ForcedSample
from mass_gov.stages.update import Learned
from mass_gov.tasks.suites import parse_suite

GIVEN: dict[Start, tuple[Stage, ...]] = {
    "scratch": (),
    "samples": ("samples",),
    "delta": ("samples", "delta"),
}


@dataclass(frozen=True, slots=True)
class Record:
    """What was recorded of a change, read and parsed."""

    request: RequestContent
    spec: AdaptationSpec
    fingerprint: dict[str, Any]
    samples: SamplesContent
    update: UpdateContent
    delta: dict[str, bytes] | None
    regression: RegressionContent | None
    answer: AnswerContent


def replay(target: str, start: Start, bench: Workbench) -> Replayed:
    """Replay one change or response; a response with a change behind it replays as that change.

    Raises:
        NotFoundError: no such change or response.
        NotRetainedError: its content was erased; what is gone is not compared.
    """
    try:
        change = bench.ledger.change(target)
    except NotFoundError:
        response = bench.ledger.response(target)
        if response.change_id is None:
            return replay_unadapted(response, start, bench)
        change = bench.ledger.change(response.change_id)
    return _replay_change(target, change, start, bench)


def _replay_change(target: str, change: ChangeView, start: Start, bench: Workbench) -> Replayed:
    present = bench.learner.fingerprint()
    try:
        record = read_record(change, bench)  # (1)
        parents = change.body.parents
        check_made_from(bench, parents.base_model, parents.prompt_template, parents.config, record.spec)  # (2)
        outcome = compute_again(change, record, start, as_recorded(change, record, bench))  # (3)
    except UnreadableError as unreadable:
        return cut_short(target, change.change_id, start, unreadable, present)
    stages = compare_stages(change, record, outcome, GIVEN[start])  # (4)
    return conclude(target, change.change_id, start, stages, record.fingerprint, present)


def read_record(change: ChangeView, bench: Workbench) -> Record:
    """Read every artifact that a replay is held against; UnreadableError names the first that cannot be used."""
    entry = change.entry
    tested = any(ref.role == "regression" for ref in entry.predicate.artifacts)
    return Record(
        request=read_content(bench, entry, "request", RequestContent.model_validate),
        spec=read_content(bench, entry, "config", AdaptationSpec.model_validate),
        fingerprint=read_content(bench, entry, "fingerprint", dict),
        samples=read_content(bench, entry, "samples", SamplesContent.model_validate),
        update=read_content(bench, entry, "update", UpdateContent.model_validate),
        delta=_stored_delta(change, bench),
        regression=read_content(bench, entry, "regression", RegressionContent.model_validate) if tested else None,
        answer=read_content(bench, entry, "answer", AnswerContent.model_validate),
    )


def _stored_delta(change: ChangeView, bench: Workbench) -> dict[str, bytes] | None:
    """Wherever the replay starts from: these are the bytes that later changes and answers are made from."""
    if change.body.update.delta is None:
        return None
    try:
        return delta_files(bench.ledger, change)
    except (IntegrityError, NotFoundError) as error:
        raise UnreadableError("delta", str(error)) from error


def as_recorded(change: ChangeView, record: Record, bench: Workbench) -> Workbench:
    """Lay the bench as it was: the recorded settings, policy and suite, taken from the ledger by digest."""
    parents = change.body.parents
    try:
        policy = load_policy(bench.ledger.policy_bytes(parents.policy))
    except MassGovError as error:
        raise UnreadableError("gates", f"policy {parents.policy[:12]}: {error}") from error
    pool = record.samples.anchor_pool
    if pool not in (None, bench.anchors.digest):
        raise UnreadableError("samples", f"anchors {str(pool)[:12]} are not the ones at hand. Name their file.")
    try:
        suite = parse_suite(bench.ledger.suite_bytes(parents.suite))
    except MassGovError as error:
        raise UnreadableError("regression", f"suite {parents.suite[:12]}: {error}") from error
    runner = bench.runners.again(suite, record.spec.answer)
    return replace(bench, spec=record.spec, policy=policy, recorded_runner=runner)


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
        seed, left_out, unscored: what a counterfactual changes: another seed, samples (by index) that were not
            written, no scorer. A replay changes nothing.
    """
    body = change.body
    try:
        origin = origin_of(bench, body.parents.parent_state, body.parents.pointer_head)
        learned = _recorded_update(change, record, bench) if start == "delta" else None
    except IntegrityError as error:
        raise UnreadableError("delta", str(error)) from error
    if record.update.anchors not in (None, bench.anchors.digest):
        what = f"its divergence was measured on anchors {str(record.update.anchors)[:12]}, which this release has not"
        raise UnreadableError("delta", what, compared=False)
    samples = _without(_ungated(record.samples), left_out) if start != "scratch" else None
    forced = (
        [ForcedSample(*_split(sample, bench)) for sample in record.samples.samples if not sample.real]
        if record.samples.forced
        else []
    )
    try:
        return compute(
            record.request.question,
            body.identity.scope,
            int(body.parents.seed) if seed is None else seed,
            origin,
            bench,
            forced=forced,
            samples=samples,
            learned=learned,
            unscored=unscored,
            watch=watching_again(body, bench.ledger),
            from_log=lambda _: _recorded_measures(body, FROM_THE_LOG),
        )
    except TaskError as error:  # recorded tokens or texts that this model cannot have written
        raise UnreadableError("samples", str(error)) from error


def _split(sample: SampleContent, bench: Workbench) -> tuple[str, str]:
    """Take a forced sample's text apart as it was put together."""
    question, _, solution = sample.text.partition(bench.learner.template.separator)
    return question, solution


def _recorded_update(change: ChangeView, record: Record, bench: Workbench) -> Learned | None:
    if record.delta is None:
        return None
    adapter = bench.learner.read_adapter(record.delta)
    measures = _recorded_measures(change.body, FROM_THE_UPDATE)
    return Learned(adapter, record.delta, change.body.update, record.update, measures)


def _recorded_measures(body: ChangeBody, names: Collection[str]) -> tuple[Measure, ...]:
    return tuple(measure for measure in body.measures or () if measure.name in names)


def _ungated(samples: SamplesContent) -> SamplesContent:
    """As they were written: how they were scored, measured and judged is found again."""
    nothing: dict[str, object] = {"score": None, "gates": (), "weight": 0.0, "dropped_by": (), "measures": None}
    bare = tuple(sample.model_copy(update=nothing) for sample in samples.samples)
    return samples.model_copy(update={"samples": bare})


def _without(samples: SamplesContent, left_out: Collection[int]) -> SamplesContent:
    return samples.model_copy(update={"samples": tuple(one for one in samples.samples if one.index not in left_out)})


_JUDGED = ("score", "weight", "dropped_by", "gates", "measures")


def compare_stages(
    change: ChangeView, record: Record, outcome: Outcome, given: tuple[Stage, ...]
) -> tuple[StageResult, ...]:
    """Hold what was computed against the record, stage by stage; a stage of `given` was not computed."""
    body = change.body
    recorded = _digests(
        record.samples,
        body,
        record.update,
        record.regression,
        body.gates,
        body.decision,
        record.answer,
        body.measures or (),
    )
    recomputed = _digests(
        outcome.samples,
        body.model_copy(update={"synthesis": outcome.synthesis, "update": outcome.learned.summary}),
        outcome.learned.content,
        outcome.regression[0] if outcome.regression else None,
        outcome.gates,
        outcome.decision,
        outcome.answer,
        outcome.measures,
    )
    forced: tuple[Stage, ...] = ("samples",) if record.samples.forced else ()
    return tuple(
        StageResult(stage, recorded[stage], None, "given", "taken from the record")
        if stage in (*given, *forced)
        else StageResult(
            stage, recorded[stage], recomputed[stage], "equal" if recorded[stage] == recomputed[stage] else "differs"
        )
        for stage in STAGES
    )


def _digests(
    samples: SamplesContent,
    body: ChangeBody,
    content: UpdateContent,
    regression: RegressionContent | None,
    gates: tuple[GateResult, ...],
    decision: Decision,
    answer: AnswerContent,
    measures: tuple[Measure, ...],
) -> dict[Stage, str]:
    """One digest per stage over everything that the stage said."""

    def digest(value: object) -> str:
        return sha256_hex(canonical_bytes(value))

    documents = [sample.document() for sample in samples.samples]
    judged = [{key: document.get(key) for key in _JUDGED} for document in documents]
    update = body.update.model_copy(update={"delta_key": None})
    return {
        "samples": digest(_ungated(samples).document()),
        "gates": digest({"summary": body.synthesis.document(), "samples": judged}),
        "delta": digest({"summary": update.document(), "content": content.document()}),
        "regression": digest(regression.document() if regression else None),
        "decision": digest(
            {
                "gates": [gate.document() for gate in gates],
                "decision": decision.document(),
                "measures": {measure.name: measure.document() for measure in measures},
            }
        ),
        "answer": digest(answer.document()),
    }


def record_replay(replayed: Replayed, bench: Workbench) -> None:
    """Append that the replay was performed, and what came out, under the tenant and deployment of what was replayed."""
    change_id, ledger = replayed.change_id, bench.ledger
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
    who = bench.actor if ledger.has_principals() else Actor(principal=bench.actor.principal, role="auditor")
    authorise(ledger, who, "replay", (place.tenant, place.deployment), change_id=change_id)
    bench.ledger.append([EventDraft(who, place.tenant, place.deployment, body)])
