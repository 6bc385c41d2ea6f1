"""Reproduce an answer that had no change behind it: one stage, the answer, by the steps of `replay`."""

from __future__ import annotations

from dataclasses import replace

from mass_gov.errors import IntegrityError
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.flows.adapt import answer_from
from mass_gov.flows.replay_record import check_made_from, read_content
from mass_gov.flows.replay_report import Replayed, StageResult, Start, UnreadableError, conclude, cut_short
from mass_gov.flows.workbench import Workbench, origin_of
from mass_gov.ledger import ResponseView
from mass_gov.records.artifacts import AnswerText, RequestContent
from mass_gov.records.events import ResponseServed
from mass_gov.records.settings import AdaptationSpec


def replay_unadapted(response: ResponseView, start: Start, bench: Workbench) -> Replayed:
    """Answer the recorded question again from the recorded state, and compare.

    Raises:
        NotRetainedError: its content was erased.
    """
    present = bench.learner.fingerprint()
    try:
        stage, recorded = _compare(response, bench)
    except UnreadableError as unreadable:
        return cut_short(response.response_id, None, start, unreadable, present, ("answer",))
    return conclude(response.response_id, None, start, (stage,), recorded, present)


def _compare(response: ResponseView, bench: Workbench) -> tuple[StageResult, dict[str, object]]:
    entry = bench.ledger.entry(response.index)
    body = entry.predicate.body
    if not isinstance(body, ResponseServed) or body.unadapted is None:
        raise UnreadableError("answer", f"event {response.index} is no answer without a change")
    origin = body.unadapted
    request = read_content(bench, entry, "request", RequestContent.model_validate, "answer")
    spec = read_content(bench, entry, "config", AdaptationSpec.model_validate, "answer")
    fingerprint: dict[str, object] = read_content(bench, entry, "fingerprint", dict, "answer")
    recorded = read_content(bench, entry, "answer", AnswerText.model_validate, "answer")
    check_made_from(bench, origin.base_model, origin.prompt_template, origin.config, spec, "answer")
    as_recorded = replace(bench, spec=spec)
    try:
        state = origin_of(as_recorded, body.state, origin.pointer_head)
    except IntegrityError as error:
        raise UnreadableError("answer", str(error)) from error
    again = answer_from(request.question, state.state, state.adapter, as_recorded)
    was, now = (sha256_hex(canonical_bytes(answer.document())) for answer in (recorded, again))
    return StageResult("answer", was, now, "equal" if was == now else "differs"), fingerprint
