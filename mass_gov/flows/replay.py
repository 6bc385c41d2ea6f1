"""Reproduce a recorded change, and say stage by stage whether the digests agree.

The procedure (docs/reference/replay.md carries the same numbers):
  (1) read the recorded artifacts; one that is missing, altered or unreadable is a difference in its stage
  (2) check what the change was made from: base model, prompt template, configuration, policy, suite, parent state
  (3) compute again with the lines that `adapt` runs, from the seed, from the recorded samples, or from the delta
  (4) compare the digests in the order of the sentence; the first difference names the stage
Rules: a stage that was taken from the record and not computed again is `given`, never `equal`. `equal` means: every
stage that was computed agrees, under the same fingerprint. A response replays as the change behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from mass_gov.errors import IntegrityError, MassGovError, NotFoundError
from mass_gov.evidence.canonical import canonical_bytes, parse_canonical, sha256_hex
from mass_gov.flows.adapt import Outcome, compute
from mass_gov.flows.workbench import Workbench, delta_files, origin_of
from mass_gov.ledger import ChangeView
from mass_gov.policy import load_policy
from mass_gov.records.artifacts import (
    AnswerContent,
    ArtifactRole,
    RegressionContent,
    RequestContent,
    SampleContent,
    SamplesContent,
    UpdateContent,
)
from mass_gov.records.change import ChangeBody, Decision, GateResult
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, ReplayPerformed, Stage
from mass_gov.records.settings import AdaptationSpec
from mass_gov.stages.regression import RegressionRunner
from mass_gov.stages.synthesis import ForcedSample
from mass_gov.stages.update import Learned
from mass_gov.tasks.suites import parse_suite

Start = Literal["delta", "samples", "scratch"]
Verdict = Literal["equal", "equal, other fingerprint", "differs", "not replayable"]
STAGES: tuple[Stage, ...] = ("samples", "gates", "delta", "regression", "decision", "answer")
_GIVEN: dict[Start, tuple[Stage, ...]] = {
    "scratch": (),
    "samples": ("samples",),
    "delta": ("samples", "delta"),
}


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage, recorded and recomputed."""

    stage: Stage
    recorded: str | None
    recomputed: str | None
    verdict: Literal["equal", "differs", "given", "unreadable", "not reached"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came out of a replay."""

    target: str
    change_id: str
    start: Start
    verdict: Verdict
    stages: tuple[StageResult, ...]
    first_difference: Stage | None
    detail: str
    fingerprint: str
    fingerprint_differs: dict[str, tuple[Any, Any]]
    """Fingerprint entries that differ: recorded and present value."""


@dataclass(frozen=True, slots=True)
class _Record:
    request: RequestContent
    spec: AdaptationSpec
    fingerprint: dict[str, Any]
    samples: SamplesContent
    update: UpdateContent
    regression: RegressionContent | None
    answer: AnswerContent


class _UnreadableError(Exception):
    """An artifact of one stage cannot be used as evidence."""

    def __init__(self, stage: Stage, detail: str) -> None:
        super().__init__(detail)
        self.stage = stage


_STAGE_OF: dict[ArtifactRole, Stage] = {
    "request": "samples",
    "config": "samples",
    "fingerprint": "samples",
    "samples": "samples",
    "update": "delta",
    "delta.adapter_config": "delta",
    "delta.adapter_model": "delta",
    "regression": "regression",
    "answer": "answer",
}


def find_change(target: str, bench: Workbench) -> ChangeView:
    """Find the change that a change id or a response id names."""
    try:
        return bench.ledger.change(target)
    except NotFoundError:
        return bench.ledger.change(bench.ledger.response(target).change_id)


def replay(target: str, start: Start, bench: Workbench) -> Replayed:
    """Replay one change or response.

    Raises:
        NotFoundError: no such change or response.
        NotRetainedError: its content was erased; what is gone is not compared.
    """
    change = find_change(target, bench)
    try:
        record = _read(change, bench)  # (1)
        _check_parents(change, record, bench)  # (2)
        outcome = _compute(change, record, start, _as_recorded(change, record, bench))  # (3)
    except _UnreadableError as unreadable:
        return _cut_short(target, change, start, unreadable, bench)
    stages = _compare(change, record, outcome, _GIVEN[start])  # (4)
    return _conclude(target, change, start, stages, record, bench)


def _read(change: ChangeView, bench: Workbench) -> _Record:
    held = {ref.role for ref in change.entry.predicate.artifacts}

    def content(role: ArtifactRole, parse: Callable[[Any], _T]) -> _T:
        try:
            return parse(parse_canonical(bench.ledger.artifact(change.entry, role)))
        except (IntegrityError, ValueError) as error:
            raise _UnreadableError(_STAGE_OF[role], f"artifact {role}: {error}") from error

    return _Record(
        request=content("request", RequestContent.model_validate),
        spec=content("config", AdaptationSpec.model_validate),
        fingerprint=content("fingerprint", dict),
        samples=content("samples", SamplesContent.model_validate),
        update=content("update", UpdateContent.model_validate),
        regression=content("regression", RegressionContent.model_validate) if "regression" in held else None,
        answer=content("answer", AnswerContent.model_validate),
    )


def _check_parents(change: ChangeView, record: _Record, bench: Workbench) -> None:
    parents = change.body.parents
    for name, recorded, present in (
        ("base model", parents.base_model, bench.learner.base_digest),
        ("prompt template", parents.prompt_template, bench.template_digest),
        ("configuration", parents.config, sha256_hex(canonical_bytes(record.spec.document()))),
    ):
        if recorded != present:
            remedy = "Replay it with the model that it was made with: --model FOLDER."
            detail = f"the change was made with {name} {recorded[:12]}, and here is {present[:12]}. {remedy}"
            raise _UnreadableError("samples", detail)


def _as_recorded(change: ChangeView, record: _Record, bench: Workbench) -> Workbench:
    """Lay the bench as it was: the recorded settings, policy and suite, taken from the ledger by digest."""
    parents = change.body.parents
    try:
        policy = load_policy(bench.ledger.policy_bytes(parents.policy))
    except MassGovError as error:
        raise _UnreadableError("gates", f"policy {parents.policy[:12]}: {error}") from error
    runner = bench.runner
    if (runner.suite.digest, runner.spec) != (parents.suite, record.spec.answer):
        try:
            suite = parse_suite(bench.ledger.suite_bytes(parents.suite))
        except MassGovError as error:
            raise _UnreadableError("regression", f"suite {parents.suite[:12]}: {error}") from error
        runner = RegressionRunner(bench.learner, suite, record.spec.answer)
    return replace(bench, spec=record.spec, policy=policy, runner=runner)


def _compute(change: ChangeView, record: _Record, start: Start, bench: Workbench) -> Outcome:
    body = change.body
    try:
        origin = origin_of(bench, body.parents.parent_state, body.parents.pointer_head)
        learned = _recorded_update(change, record, bench) if start == "delta" else None
    except IntegrityError as error:
        raise _UnreadableError("delta", str(error)) from error
    samples = _ungated(record.samples) if start != "scratch" else None
    forced = (
        [ForcedSample(*_split(sample, bench)) for sample in record.samples.samples] if record.samples.forced else []
    )
    return compute(
        record.request.question,
        body.identity.scope,
        int(body.parents.seed),
        origin,
        bench,
        forced=forced,
        samples=samples,
        learned=learned,
    )


def _split(sample: SampleContent, bench: Workbench) -> tuple[str, str]:
    """Take a forced sample's text apart as it was put together."""
    question, _, solution = sample.text.partition(bench.learner.template.separator)
    return question, solution


def _recorded_update(change: ChangeView, record: _Record, bench: Workbench) -> Learned | None:
    if change.body.update.delta is None:
        return None
    files = delta_files(bench.ledger, change)
    return Learned(bench.learner.read_adapter(files), files, change.body.update, record.update)


def _ungated(samples: SamplesContent) -> SamplesContent:
    bare = tuple(s.model_copy(update={"gates": (), "weight": 0.0, "dropped_by": ()}) for s in samples.samples)
    return samples.model_copy(update={"samples": bare})


def _compare(
    change: ChangeView, record: _Record, outcome: Outcome, given: tuple[Stage, ...]
) -> tuple[StageResult, ...]:
    body = change.body
    recorded = _digests(
        record.samples, body, record.update, record.regression, body.gates, body.decision, record.answer
    )
    recomputed = _digests(
        outcome.samples,
        body.model_copy(update={"update": outcome.learned.summary}),
        outcome.learned.content,
        outcome.regression[0] if outcome.regression else None,
        outcome.gates,
        outcome.decision,
        outcome.answer,
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
) -> dict[Stage, str]:
    """One digest per stage over everything that the stage said."""

    def digest(value: object) -> str:
        return sha256_hex(canonical_bytes(value))

    judged = [{"weight": s.weight, "dropped_by": s.dropped_by, "gates": s.document()["gates"]} for s in samples.samples]
    update = body.update.model_copy(update={"delta_key": None})
    return {
        "samples": digest(_ungated(samples).document()),
        "gates": digest([{**item, "dropped_by": list(item["dropped_by"])} for item in judged]),
        "delta": digest({"summary": update.document(), "content": content.document()}),
        "regression": digest(regression.document() if regression else None),
        "decision": digest({"gates": [gate.document() for gate in gates], "decision": decision.document()}),
        "answer": digest(answer.document()),
    }


def _conclude(
    target: str, change: ChangeView, start: Start, stages: tuple[StageResult, ...], record: _Record, bench: Workbench
) -> Replayed:
    first = next((result for result in stages if result.verdict == "differs"), None)
    present = bench.learner.fingerprint()
    keys = sorted(record.fingerprint.keys() | present.keys())
    other = {
        k: (record.fingerprint.get(k), present.get(k)) for k in keys if record.fingerprint.get(k) != present.get(k)
    }
    verdict: Verdict = "differs" if first else "equal, other fingerprint" if other else "equal"
    return Replayed(
        target=target,
        change_id=change.change_id,
        start=start,
        verdict=verdict,
        stages=stages,
        first_difference=first.stage if first else None,
        detail=f"the first difference is in stage {first.stage}" if first else "every recomputed digest agrees",
        fingerprint=sha256_hex(canonical_bytes(present)),
        fingerprint_differs=other,
    )


def _cut_short(
    target: str, change: ChangeView, start: Start, unreadable: _UnreadableError, bench: Workbench
) -> Replayed:
    """Report a record that cannot be used: the stage that it belongs to differs, what comes after was not reached."""
    at = STAGES.index(unreadable.stage)
    stages = tuple(
        StageResult(stage, None, None, "unreadable", str(unreadable))
        if i == at
        else StageResult(stage, None, None, "not reached")
        for i, stage in enumerate(STAGES)
    )
    return Replayed(
        target=target,
        change_id=change.change_id,
        start=start,
        verdict="differs",
        stages=stages,
        first_difference=unreadable.stage,
        detail=str(unreadable),
        fingerprint=sha256_hex(canonical_bytes(bench.learner.fingerprint())),
        fingerprint_differs={},
    )


def record_replay(replayed: Replayed, bench: Workbench) -> None:
    """Append that the replay was performed, and what came out, under the change's tenant and deployment."""
    identity = bench.ledger.change(replayed.change_id).body.identity
    body = ReplayPerformed(
        target=replayed.target,
        start=replayed.start,
        verdict=replayed.verdict,
        first_difference=replayed.first_difference,
        fingerprint=replayed.fingerprint,
    )
    who = Actor(principal=bench.actor.principal, role="auditor")
    bench.ledger.append([EventDraft(who, identity.tenant, identity.deployment, body)])
