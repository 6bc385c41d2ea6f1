"""One line of the log and one count for each request: its ids, never its contents.

Plain ASGI around everything else. A path is told by its route's template, because what somebody writes into a path is
theirs; what nobody routes is `unrouted`. A caller who went away before the answer is told as status 499.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mass_gov.api.metrics import Metrics

GONE = 499
_log = logging.getLogger("mass_gov.requests")
_SHOWN = ("x-request-id", "x-mass-gov-change", "x-mass-gov-response", "x-mass-gov-served")


class Watch:
    """The middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, and say that it was served."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, said = time.monotonic(), {"status": "500"}

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                said["status"] = str(message["status"])
                said.update(_ids(message))
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            if scope.get("state", {}).get("abandoned"):
                said["status"] = str(GONE)
            self._tell(scope, said, time.monotonic() - started)

    def _tell(self, scope: Scope, said: dict[str, str], seconds: float) -> None:
        route = _template(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, said["status"]).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        level = logging.DEBUG if route in ("/healthz", "/readyz", "/metrics") else logging.INFO
        more = {"method": method, "route": route, "seconds": round(seconds, 4), **said, "status": int(said["status"])}
        _log.log(level, "request", extra=more)


def _template(scope: Scope) -> str:
    """The route's template, with the prefix that routers are mounted under."""
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        return "unrouted"
    return path if not scope["path"].startswith("/v1/") or path.startswith("/v1/") else f"/v1{path}"


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _ids(message: Message) -> dict[str, str]:
    found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message.get("headers", ())}
    return {name.removeprefix("x-").replace("-", "_"): found[name] for name in _SHOWN if name in found}


class JsonLines(logging.Formatter):
    """A record as one JSON object a line. Of an exception it says the kind and where, never its words."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        document: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().splitlines()[0][:500] if record.getMessage() else "",
        }
        document |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info and record.exc_info[0] is not None:
            frames = traceback.extract_tb(record.exc_info[2])[-3:]
            document["exception"] = record.exc_info[0].__name__
            document["at"] = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(document, default=str)


_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message", "websocket"}


def log_to_stderr(level: int = logging.INFO) -> None:
    """Let everything that this process logs go to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # its lines hold paths as they were sent
