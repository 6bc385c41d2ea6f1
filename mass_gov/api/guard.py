"""Around every request: an id, a limit to what is read of it and for how long, and headers that browsers are told.

Plain ASGI, so that streams stay streams. CORS is off: no answer names an origin that may read it. What no route knows
how to say becomes the problem of a defect here, where it still gets its id and its headers.
"""

from __future__ import annotations

import asyncio
import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid6 import uuid7

from mass_gov.api.problems import Problem

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Unless a route says otherwise (a page of the console has a policy of its own)."""
_log = logging.getLogger("mass_gov.defects")
OVER_TLS = {"Strict-Transport-Security": "max-age=31536000"}


class Guard:
    """The middleware. `scope["state"]["request_id"]` is the id that the answer's `X-Request-Id` says."""

    def __init__(self, app: ASGIApp, body_bytes: int, body_seconds: float) -> None:
        self._app, self._most, self._patience = app, body_bytes, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = str(uuid7())
        scope.setdefault("state", {})["request_id"] = request_id
        more = {"X-Request-Id": request_id, **SECURITY_HEADERS, **(OVER_TLS if scope.get("scheme") == "https" else {})}

        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in more.items():
                    headers.setdefault(name, value)
            await send(message)

        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or len(length) > 18 or int(length) > self._most:
            await Problem("too-large").response()(scope, receive, sent)
            return
        try:
            await self._app(scope, self._bounded(receive), sent)
        except Exception:
            if begun:
                raise  # half an answer is none: the server cuts the connection
            _log.exception("defect", extra={"request_id": request_id})
            await Problem("defect").response()(scope, receive, sent)

    def _bounded(self, receive: Receive) -> Receive:
        """What comes without saying how long it is ends at the limit too, and so does what never ends."""
        read, deadline, whole = 0, asyncio.get_running_loop().time() + self._patience, False

        async def received() -> Message:
            nonlocal read, whole
            if whole:  # from here on it is only heard whether the caller goes away
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, headers={"Connection": "close"}) from None
            read, whole = read + len(message.get("body", b"")), not message.get("more_body", False)
            if read > self._most:
                raise HTTPException(413)
            return message

        return received
