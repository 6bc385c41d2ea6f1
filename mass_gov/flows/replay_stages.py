"""What each stage of a change said, as one document per stage, and how the recorded and the recomputed ones compare.

Rules: a stage's digest is over its whole document, whose fields stand in the order in which the stage comes about, so
that the first difference of two documents is the earliest one. How a sample was scored, measured and judged belongs to
the gates, not to the samples. Of the delta, the bytes come before what is reported of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.flows.replay_difference import Difference, delta_difference, first_difference
from mass_gov.flows.replay_report import STAGES, StageResult
from mass_gov.records.artifacts import (
    AnswerContent,
    AnswerText,
    CaseContent,
    RegressionContent,
    SampleContent,
    SamplesContent,
    UpdateContent,
)
from mass_gov.records.change import (
    Decision,
    GateResult,
    Measure,
    RegressionSummary,
    SynthesisSummary,
    UpdateSummary,
)
from mass_gov.records.events import Stage

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """Everything that the stages of one change said, from the record or computed again."""

    samples: SamplesContent
    synthesis: SynthesisSummary
    files: Mapping[str, bytes] | None
    update: UpdateSummary
    content: UpdateContent
    regression: tuple[RegressionContent, RegressionSummary] | None
    measures: tuple[Measure, ...]
    gates: tuple[GateResult, ...]
    decision: Decision
    answer: AnswerContent


def compare(recorded: Said, recomputed: Said, given: Collection[Stage]) -> tuple[StageResult, ...]:
    """Compare stage by stage; a stage of `given` was taken from the record and is not compared."""
    was, now = _documents(recorded), _documents(recomputed)
    return tuple(
        StageResult(stage, digest_of(was[stage]), None, "given", "taken from the record")
        if stage in given
        else compared(stage, was[stage], now[stage], _weights(stage, recorded, recomputed))
        for stage in STAGES
    )


def compared(stage: Stage, recorded: Document, recomputed: Document, first: Difference | None = None) -> StageResult:
    """One stage by the digests of its documents; `first` is a difference that comes before any of them."""
    was, now = digest_of(recorded), digest_of(recomputed)
    if was == now and first is None:
        return StageResult(stage, was, now, "equal")
    difference = first or first_difference(recorded, recomputed)
    return StageResult(stage, was, now, "differs", str(difference), difference)


def digest_of(document: Document) -> str:
    """The digest that stands for what a stage said."""
    return sha256_hex(canonical_bytes(document))


def ungated(samples: SamplesContent) -> SamplesContent:
    """As they were written: how they were scored, measured and judged is found again."""
    nothing: dict[str, object] = {"score": None, "gates": (), "weight": 0.0, "dropped_by": (), "measures": None}
    bare = tuple(sample.model_copy(update=nothing) for sample in samples.samples)
    return samples.model_copy(update={"samples": bare})


def answer_document(answer: AnswerText | None) -> Document | None:
    """One answer: what was written first, and the state that wrote it last, which is another after any other delta."""
    if answer is None:
        return None
    document = answer.document()
    return {key: document[key] for key in ("tokens", "text", "answer", "finished", "state")}


def _weights(stage: Stage, recorded: Said, recomputed: Said) -> Difference | None:
    if stage != "delta" or recorded.files is None or recomputed.files is None:
        return None
    return delta_difference(recorded.files, recomputed.files)


def _documents(said: Said) -> dict[Stage, Document]:
    update = said.update.model_copy(update={"delta_key": None})  # whose key signed it is no result
    return {
        "samples": ungated(said.samples).document(),
        "gates": {"samples": [_judged(one) for one in said.samples.samples], "summary": said.synthesis.document()},
        "delta": {"content": said.content.document(), "summary": update.document()},
        "regression": _regression(said.regression),
        "decision": {
            "measures": [one.document() for one in sorted(said.measures, key=lambda measure: measure.name)],
            "gates": [gate.document() for gate in said.gates],
            "decision": said.decision.document(),
        },
        "answer": {name: answer_document(getattr(said.answer, name)) for name in ("adapted", "parent", "base")},
    }


def _judged(sample: SampleContent) -> Document:
    measures = (sample.measures or {}).items()
    return {
        "score": sample.score,
        "measures": [{"name": name, "value": value} for name, value in sorted(measures)],
        "gates": [gate.document() for gate in sample.gates],
        "dropped_by": list(sample.dropped_by),
        "weight": sample.weight,
    }


def _regression(found: tuple[RegressionContent, RegressionSummary] | None) -> Document:
    if found is None:
        return {"suite": None}
    content, summary = found
    return {
        "suite": content.suite,
        "batch_size": content.batch_size,
        "cases": [_case(case) for case in content.cases],
        "probe": [_case(case) for case in content.probe] if content.probe is not None else None,
        "summary": summary.document(),
    }


def _case(case: CaseContent) -> Document:
    outcomes = {
        state: {"right": getattr(case, state), "answer": getattr(case, f"{state}_answer")}
        for state in ("base", "before", "after")
    }
    return {"case_id": case.case_id, "domain": case.domain, "critical": case.critical, **outcomes}
