"""What the process that holds the learner does with what the HTTP server asks: one flow, and what came of it.

Rules: who acts was authenticated by the server and is checked again by the flow, against the log. What a client has to
be told travels as a record (`records.asked`); an error travels as an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mass_gov.errors import LedgerUnavailableError
from mass_gov.flows.adapt import serve_again
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.respond import Responded, adapt_or_respond, respond, respond_unrecorded
from mass_gov.flows.workbench import Workbench
from mass_gov.records.artifacts import AnswerText
from mass_gov.records.asked import Again, Given, Solve

SOURCE = "http"
"""What a request's artifact says of where it came from."""


def answer(asked: Solve | Again, bench: Workbench, wanted: Callable[[], None]) -> Given:
    """Answer one request.

    Arguments:
        wanted: raises AbandonedError where nobody waits any more.

    Raises:
        MassGovError: as the flows `adapt` and `respond`; nothing is served then.
    """
    own = replace(bench, actor=asked.actor, wanted=wanted)
    if isinstance(asked, Again):
        return _of_change(serve_again(asked.change_id, own))
    try:
        given = _recorded(asked, own)
    except LedgerUnavailableError as outage:
        if not asked.unrecorded or asked.adaptation == "mass":
            raise  # nothing is learned that nobody can record
        given = _unrecorded(asked, own, str(outage))
    return given.model_copy(update={"prompt_tokens": bench.learner.prompt_tokens(asked.question)})


def _recorded(asked: Solve, bench: Workbench) -> Given:
    answered = adapt_or_respond(_request(asked), bench) if asked.adaptation == "mass" else None
    if isinstance(answered, Answered):
        return _of_change(answered)
    return _of_response(answered or respond(_request(asked), bench))


def _unrecorded(asked: Solve, bench: Workbench, why: str) -> Given:
    text = respond_unrecorded(_request(asked), bench)
    return Given(
        change_id=None,
        response_id=None,
        served="unadapted",
        status=None,
        verdict=None,
        scope=None,
        recorded=False,
        note=why,
        **_said(text),
    )


def _request(asked: Solve) -> Request:
    seed = int(asked.seed) if asked.seed is not None else None
    return Request(asked.question, asked.task_id, SOURCE, asked.scope, seed, subject=asked.subject)


def _of_change(answered: Answered) -> Given:
    change, texts = answered.change, answered.answer
    of = {"adapted": texts.adapted, "parent": texts.parent, "base": texts.base}
    said = of.get(answered.served_from) if answered.served is not None else None
    return Given(
        change_id=change.change_id,
        response_id=None,
        served=answered.served_from,
        status=change.status,
        verdict=change.body.decision.verdict,
        scope=change.body.identity.scope,
        repeated=answered.repeated,
        **_said(said),
    )


def _of_response(responded: Responded) -> Given:
    return Given(
        change_id=None,
        response_id=responded.response.response_id,
        served="unadapted",
        status=None,
        verdict=None,
        scope=None,
        note=responded.note,
        **_said(responded.answer),
    )


def _said(text: AnswerText | None) -> dict[str, object]:
    if text is None:
        return {"text": None, "state": None, "tokens": 0, "finished": False}
    return {
        "text": text.text,
        "answer": text.answer,
        "state": text.state,
        "tokens": len(text.tokens),
        "finished": text.finished,
    }
