"""Idempotency-Key: the same request again gets the first answer, and is done once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Header, Response
from fastapi.responses import JSONResponse

from mass_gov.api.access import Caller
from mass_gov.api.problems import MEDIA_TYPE, Problem, problem_of
from mass_gov.api.service import Service
from mass_gov.errors import MassGovError
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.ledger.replies import Reply

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[A-Za-z0-9._~-]{1,200}$",
        description="Name of this request: sent again, it gets the first answer.",
    ),
]
Done = tuple[dict[str, Any], str | None]
"""A document and its ETag."""


def once(
    service: Service, caller: Caller, key: str | None, asked: Any, do: Callable[[], Done], status: int = 200
) -> Response:
    """Do something, or give the answer of the time it was done.

    Arguments:
        asked: what was asked, as JSON values: the same key with anything else is refused.
        status: of the answer once it is done.
    """
    if key is None:
        return _response(_reply(do, status))
    replies, principal = service.ledger.replies, caller.identity.principal
    claimed = replies.claim(principal, key, sha256_hex(canonical_bytes(asked)), service.ledger.now())
    if isinstance(claimed, Reply):
        return _response(claimed)
    if claimed != "claimed":
        raise Problem("key-reused" if claimed == "other" else "in-progress", headers={"Retry-After": "1"})
    try:
        with replies.working(principal, key, service.ledger.now):
            reply = _reply(do, status)
    except BaseException:
        replies.settle(principal, key, None)
        raise
    replies.settle(principal, key, reply if reply.status < 500 else None)
    return _response(reply)


def _reply(do: Callable[[], Done], status: int) -> Reply:
    """A refusal is an answer too, and is given again as it was."""
    try:
        document, tag = do()
        return Reply(status, tag, json.dumps(document))
    except MassGovError as error:
        problem = problem_of(error)
    except Problem as raised:
        problem = raised
    if problem.kind.status >= 500 or problem.headers:
        raise problem
    return Reply(problem.kind.status, None, json.dumps(problem.document()))


def _response(reply: Reply) -> Response:
    headers = {"ETag": reply.etag} if reply.etag is not None else {}
    media_type = JSONResponse.media_type if reply.status < 400 else MEDIA_TYPE
    return Response(reply.body, reply.status, headers, media_type=media_type)
