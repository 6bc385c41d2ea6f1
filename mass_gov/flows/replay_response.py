"""Reproduce an answer that had no change behind it: one stage, the answer, by the steps of `replay`."""

from __future__ import annotations

from dataclasses import replace

from mass_gov.errors import IntegrityError, ModelError, NotRetainedError, RefusedError
from mass_gov.flows.answering import answer_from
from mass_gov.flows.replay_record import check_made_from, read_content, read_settled, with_its_model
from mass_gov.flows.replay_report import (
    Replayed,
    StageResult,
    Start,
    UnreadableError,
    conclude,
    cut_short,
    not_replayable,
)
from mass_gov.flows.replay_stages import answer_document, compared
from mass_gov.flows.workbench import Workbench, origin_of
from mass_gov.ledger import Entry, ResponseView
from mass_gov.records.artifacts import AnswerText
from mass_gov.records.events import ResponseServed


def replay_unadapted(response: ResponseView, start: Start, bench: Workbench) -> Replayed:
    """Answer the recorded question again from the recorded state, and compare."""
    entry, target = bench.ledger.entry(response.index), response.response_id
    body = entry.predicate.body
    if isinstance(body, ResponseServed) and body.unadapted is not None:
        bench = with_its_model(bench, body.unadapted.base_model)
    present = bench.learner.fingerprint()
    try:
        stage, recorded = _compare(response, entry, bench)
    except UnreadableError as unreadable:
        return cut_short(target, None, start, unreadable, present, ("answer",))
    except NotRetainedError as gone:
        return not_replayable(target, None, start, str(gone), present, ("answer",))
    return conclude(target, None, start, (stage,), recorded, present)


def _compare(response: ResponseView, entry: Entry, bench: Workbench) -> tuple[StageResult, dict[str, object]]:
    body = entry.predicate.body
    if not isinstance(body, ResponseServed) or body.unadapted is None:
        raise UnreadableError("answer", f"event {response.index} is no answer without a change")
    origin = body.unadapted
    settled = read_settled(bench, entry, origin.config, origin.fingerprint, "answer")
    recorded = read_content(bench, entry, "answer", AnswerText.model_validate, "answer")
    check_made_from(bench, origin.base_model, origin.prompt_template, "answer")
    as_recorded = replace(bench, spec=settled.spec)
    try:
        state = origin_of(as_recorded, body.state, origin.pointer_head)
    except (IntegrityError, ModelError, RefusedError) as error:
        raise UnreadableError("answer", str(error)) from error
    again = answer_from(settled.request.question, state.state, state.adapter, as_recorded)
    was, now = ({"answer": answer_document(answer)} for answer in (recorded, again))
    return compared("answer", was, now), settled.fingerprint
