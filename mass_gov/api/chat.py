"""Serving: what an OpenAI client asks and gets, each answer with the change behind it.

Rules: an answer leaves when its event is durable, streamed or not; a stream is the finished answer in pieces, so that
its status and its headers are true. A change that waits for a person is answered as the policy says: by the base,
marked, or by 202 with where to ask again. An error is a problem document with OpenAI's `error` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from uuid6 import uuid7

from mass_gov.api.access import Caller, Route, may
from mass_gov.api.answering import Answering
from mass_gov.api.chat_shapes import (
    ChatRequest,
    Completion,
    Wanted,
    chunks_of,
    completion_of,
    status_url,
)
from mass_gov.api.problems import MEDIA_TYPE, Problem, absent, invalid, problem_of
from mass_gov.api.schemas import problems
from mass_gov.api.service import Service, Serving
from mass_gov.errors import MassGovError
from mass_gov.policy.permissions import may as role_may
from mass_gov.records.asked import Again, Given, Solve
from mass_gov.records.base import Uuid
from mass_gov.tasks.text import clean_task_text

_OPENAI_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error"}
_OPENAI_TYPES |= {404: "not_found_error", 422: "invalid_request_error", 429: "rate_limit_error"}


class OpenAIRoute(Route):
    """A route whose problems carry what OpenAI's clients read besides."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with its exceptions as such problems."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                return told(invalid(error))
            except MassGovError as error:
                return told(problem_of(error))
            except Problem as problem:
                return told(problem)

        return handled


def told(problem: Problem) -> Response:
    """A problem with OpenAI's `error` beside it."""
    status = problem.kind.status
    error = {
        "message": problem.detail,
        "type": _OPENAI_TYPES.get(status, "server_error" if status >= 500 else "conflict_error"),
        "code": problem.kind.name,
        "param": None,
    }
    headers = {**(problem.headers or {})}
    if status == 409:
        headers["X-Should-Retry"] = "false"  # asked again at once, it would be as it is
    return JSONResponse({**problem.document(), "error": error}, status, headers, media_type=MEDIA_TYPE)


router = APIRouter(tags=["serving"], route_class=OpenAIRoute, responses=problems(409, 410, 412))
_WAITING = ("held", "pending")
Asker = Annotated[Caller, Depends(may("solve"))]
_KEY = Header(
    alias="Idempotency-Key",
    min_length=1,
    max_length=200,
    pattern=r"^[\x21-\x7e]+$",
    description="Names the task: asked again under the same key, the recorded change is served, and none is made.",
)


@router.post("/chat/completions", response_model=Completion, responses={202: {"model": Completion}})
async def complete(
    asked: ChatRequest,
    request: Request,
    service: Serving,
    caller: Asker,
    idempotency_key: Annotated[str | None, _KEY] = None,
) -> Response:
    """Answer a problem: the model practises, takes a step within the policy's limits, and answers; or answers as it is.

    The change behind the answer comes in `X-Mass-Gov-Change` and in `mass_gov`; a response without one in
    `X-Mass-Gov-Response`. 202: the change waits for a person and the policy serves nothing meanwhile; ask again where
    `Location` says. `stream` sends the finished answer as server-sent events.
    """
    answering = _answering(service, caller)
    if asked.model != answering.deployment:
        raise Problem("not-found", f"There is no model {asked.model[:60]!r} here. `GET /v1/models` lists them.")
    ignored, wanted = asked.ignored, asked.mass_gov or Wanted()
    order = Solve(
        actor=caller.actor,
        question=clean_task_text(asked.question),
        task_id=f"{caller.identity.principal}/{idempotency_key}" if idempotency_key is not None else str(uuid7()),
        scope=wanted.scope,
        adaptation=wanted.adaptation,
        seed=str(asked.seed) if asked.seed is not None else None,
        subject=wanted.subject,
        unrecorded=answering.unrecorded,
    )
    given = await answering.ask(order, request)
    return _answer(given, asked.model, ignored, stream=bool(asked.stream), service=service)


@router.get("/chat/completions/{change_id}", response_model=Completion, responses={202: {"model": Completion}})
async def completion(change_id: Uuid, request: Request, service: Serving, caller: Asker) -> Response:
    """What a recorded change serves now, for whoever asked for it, and for operators: 202 while it waits."""
    await run_in_threadpool(_insist, service, caller, change_id)
    answering = _answering(service, caller)
    given = await answering.ask(Again(actor=caller.actor, change_id=change_id), request)
    return _answer(given, answering.deployment, [], stream=False, service=service)


def deployments(service: Service, caller: Caller) -> list[dict[str, Any]]:
    """What the caller can ask, as OpenAI's clients know models: the state it stands on, whether learning is frozen."""
    if service.answering is None or not caller.sees(service.answering.tenant):
        return []
    tenant, deployment = service.answering.tenant, service.answering.deployment
    pointer = service.ledger.pointer(tenant, deployment)
    frozen = service.ledger.frozen(tenant, deployment) is not None
    about = {"tenant": tenant, "state": pointer.state, "change_id": pointer.change_id, "frozen": frozen}
    return [{"id": deployment, "object": "model", "created": 0, "owned_by": tenant, "mass_gov": about}]


def _answering(service: Service, caller: Caller) -> Answering:
    if service.answering is None:
        raise Problem("no-learner")
    caller.insist(service.answering.tenant)
    return service.answering


def _insist(service: Service, caller: Caller, change_id: str) -> None:
    """The change has to be there, of the deployment that is served, and the caller's own, or the caller may read."""
    change, answering = service.ledger.change(change_id), service.answering
    identity = change.body.identity
    caller.insist(identity.tenant)
    own = identity.requester == caller.identity.principal
    served = answering is None or (identity.tenant, identity.deployment) == (answering.tenant, answering.deployment)
    if not (served and (own or role_may(caller.actor.role, "read"))):
        raise absent()


def _answer(given: Given, model: str, ignored: list[str], *, stream: bool, service: Service) -> Response:
    service.metrics.answered(given)
    if given.text is None and given.status not in _WAITING:
        raise Problem("no-answer", change_id=given.change_id, headers=_headers(given))
    document = completion_of(given, model, ignored)
    headers, status = _headers(given), 200
    if given.text is None:
        status, headers["Location"] = 202, status_url(given) or ""
    if stream:
        return StreamingResponse(_events(document), status, headers, media_type="text/event-stream")
    return JSONResponse(document.model_dump(), status, headers)


def _events(document: Completion) -> Iterator[str]:
    for chunk in chunks_of(document):
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


def _headers(given: Given) -> dict[str, str]:
    named = {"X-Mass-Gov-Change": given.change_id, "X-Mass-Gov-Response": given.response_id}
    return {name: value for name, value in named.items() if value is not None} | {"X-Mass-Gov-Served": given.served}
