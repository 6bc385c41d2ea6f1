"""Every problem that the API answers with: one catalogue, RFC 9457, rendered into docs/reference/problems.md.

Rules: `type` is stable and what a program branches on; `detail` is for a person and says what to do next. An exception
that the catalogue does not know is a defect of ours: 500, and no word of it leaves the process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from mass_gov import errors

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:mass-gov:problem:"
_SHOWN = 20
"""Faults of one request that are listed."""


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem: its name behind `PREFIX`, its status, and what it means."""

    name: str
    status: int
    title: str
    means: str


CATALOGUE: tuple[ProblemType, ...] = (
    ProblemType("bad-request", 400, "What was asked cannot be done as asked", "Mend the request: `detail` says how."),
    ProblemType(
        "bad-cursor", 400, "Not a cursor of this list", "Begin at the first page; cursors fit only their own filter."
    ),
    ProblemType(
        "unauthenticated", 401, "Nobody showed who they are", "Send `Authorization: Bearer TOKEN`, a token in use."
    ),
    ProblemType(
        "forbidden", 403, "The principal may not do this", "Let somebody do it whose role or policy allows it."
    ),
    ProblemType(
        "not-found", 404, "There is no such thing", "It is not here, or not for you to see: the answer is the same."
    ),
    ProblemType("method-not-allowed", 405, "No such method here", "See the OpenAPI document."),
    ProblemType("too-slow", 408, "The request did not end in time", "Send its body at once, over a new connection."),
    ProblemType("conflict", 409, "Not as things stand", "Look at the thing again: `detail` says what can be done now."),
    ProblemType("frozen", 409, "Learning is frozen", "An operator ends the freeze; un-adapted serving goes on."),
    ProblemType("paused", 409, "A budget is spent, or a deployment cools down", "Try again later; serving goes on."),
    ProblemType("dependents", 409, "Later changes stand on this one", "Undo those first, or ask with `cascade`."),
    ProblemType(
        "no-answer", 409, "The policy serves nothing for this change", "See the change: it was rejected or undone."
    ),
    ProblemType("no-learner", 409, "This server runs no learner", "Use a server that does, or the command line."),
    ProblemType("in-progress", 409, "The first request with this key is still under way", "Ask again in a moment."),
    ProblemType("not-retained", 410, "Erased, or never kept", "It cannot be read any more by anybody."),
    ProblemType("stale", 412, "It changed since you looked", "Read it again, decide again, and send its new ETag."),
    ProblemType("too-large", 413, "The request is too large", "Send less."),
    ProblemType("unsupported-media-type", 415, "The body is of another kind", "Send JSON, as `application/json`."),
    ProblemType("invalid", 422, "The request does not fit its description", "`errors` lists what and where."),
    ProblemType(
        "key-reused", 422, "The Idempotency-Key stood for another request", "Use a new key for another request."
    ),
    ProblemType(
        "etag-required", 428, "A decision needs the ETag of what was looked at", "Read the change; send `If-Match`."
    ),
    ProblemType("too-many-requests", 429, "Too many requests", "Wait as long as `Retry-After` says."),
    ProblemType("defect", 500, "A defect of ours", "Report it with the `X-Request-Id`."),
    ProblemType("not-intact", 500, "A record is not what was signed", "Run `mass-gov verify`; restore from a back-up."),
    ProblemType(
        "unavailable", 503, "The ledger or its keys cannot be used", "Try again later; nothing was half written."
    ),
)
BY_NAME: Mapping[str, ProblemType] = {kind.name: kind for kind in CATALOGUE}

_OF_ERRORS: tuple[tuple[type[errors.MassGovError], str], ...] = (
    (errors.NotFoundError, "not-found"),
    (errors.TaskReusedError, "key-reused"),
    (errors.MissingExtraError, "no-learner"),
    (errors.InputError, "bad-request"),
    (errors.UnprovenError, "unauthenticated"),
    (errors.PermissionRefusedError, "forbidden"),
    (errors.StaleChangeError, "stale"),
    (errors.FrozenError, "frozen"),
    (errors.PausedError, "paused"),
    (errors.DependentsError, "dependents"),
    (errors.RefusedError, "conflict"),
    (errors.IntegrityError, "not-intact"),
    (errors.NotRetainedError, "not-retained"),
    (errors.OutageError, "unavailable"),
)
"""The first that fits, so narrower ones stand first."""
_OF_STATUS = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    408: "too-slow",
    413: "too-large",
    415: "unsupported-media-type",
}


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An answer that is no success.

    Arguments:
        name: of the catalogue.
        detail: one sentence on what is wrong and one on what to do next; None for the catalogue's own words.
        headers: of the response.
        more: further members of the document.
    """

    def __init__(
        self, name: str, detail: str | None = None, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        self.kind = BY_NAME[name]
        self.detail = detail or self.kind.means
        self.headers, self.more = headers, more
        super().__init__(self.detail)

    def document(self) -> dict[str, Any]:
        """The problem's members."""
        return {
            "type": PREFIX + self.kind.name,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            **self.more,
        }

    def response(self) -> Response:
        """The problem+json of it."""
        return Response(json.dumps(self.document()), self.kind.status, dict(self.headers or {}), media_type=MEDIA_TYPE)


def absent() -> Problem:
    """What is not here and what the caller may not see: one and the same answer, to the byte."""
    return Problem("not-found")


def problem_of(error: errors.MassGovError) -> Problem:
    """The problem that one of the project's errors is over HTTP."""
    name = next((name for kind, name in _OF_ERRORS if isinstance(error, kind)), "defect")
    match name:
        case "not-found":
            return absent()
        case "unauthenticated":
            return Problem(name, headers={"WWW-Authenticate": 'Bearer realm="mass-gov"'})
        case "not-intact" | "defect":
            return Problem(name)  # what exactly is wrong is for whoever runs this, not for whoever asks
        case "unavailable":
            return Problem(name, headers={"Retry-After": "5"})
        case _:
            return Problem(name, str(error))


def install(app: FastAPI) -> None:
    """Let every exception leave the app as a problem; what is none of these is a defect, which `Guard` says."""
    app.add_exception_handler(Problem, _said)
    app.add_exception_handler(errors.MassGovError, _raised)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain)


def _said(_: Request, error: Exception) -> Response:
    return error.response() if isinstance(error, Problem) else Problem("defect").response()


def _raised(_: Request, error: Exception) -> Response:
    return problem_of(error).response() if isinstance(error, errors.MassGovError) else Problem("defect").response()


def _invalid(_: Request, error: Exception) -> Response:
    return (invalid(error) if isinstance(error, RequestValidationError) else Problem("defect")).response()


def invalid(error: RequestValidationError) -> Problem:
    """The problem of a request that does not fit its description."""
    listed = [{"where": _where(one["loc"]), "what": str(one["msg"])} for one in error.errors()[:_SHOWN]]
    return Problem("invalid", errors=listed)


def _where(location: tuple[int | str, ...]) -> str:
    """Where a fault lies, without the names that a caller made up."""
    return ".".join(str(part) if isinstance(part, int) or part.isidentifier() else "?" for part in location)[:200]


def _plain(_: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    headers = getattr(error, "headers", None)
    return Problem(_OF_STATUS.get(status, "bad-request" if status < 500 else "defect"), headers=headers).response()
