"""`mass-gov serve`: the HTTP server with the learner's processes behind it."""

from __future__ import annotations

import logging
import os
import signal
import socket
from types import FrameType
from typing import Annotated

import typer

from mass_gov.cli.options import DeploymentOption, JsonFlag, ModelOption, settings
from mass_gov.cli.output import emit, say
from mass_gov.errors import OutageError


def serve(
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Address to listen on (MASS_GOV_SERVE_HOST).")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65_535, help="Port; 0 takes a free one (MASS_GOV_SERVE_PORT).")
    ] = None,
    deployment: DeploymentOption = None,
    model: ModelOption = None,
    as_json: JsonFlag = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log probes of health and metrics too.")] = False,
) -> None:
    """Serve the audit API and chat completions over HTTP until SIGINT or SIGTERM.

    Needs a ledger (`mass-gov init`) and registered principals: over HTTP a name alone is never believed. Put a proxy
    with TLS before it where others reach it. Logs are JSON lines on stderr, with ids and without contents. At a stop
    what is under way is finished and recorded, and what waits is told to come back.
    """
    import uvicorn

    from mass_gov.api import create_app
    from mass_gov.api.watch import log_to_stderr
    from mass_gov.asgi import keep_out_of_collections, make_service
    from mass_gov.executors.pool import Pool
    from mass_gov.wiring import unattended

    class Server(uvicorn.Server):
        """Tells the pool at the first signal, so that nothing new begins while connections are waited for."""

        pool: Pool | None = None

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """Stop taking orders, then as uvicorn does."""
            if self.pool is not None:
                self.pool.drain()
            super().handle_exit(sig, frame)

    chosen = unattended(settings(serve_host=host, serve_port=port, deployment=deployment, model=model))
    log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    listening = _listen(chosen.serve_host, chosen.serve_port)
    service = make_service(chosen)
    config = uvicorn.Config(
        create_app(service),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=chosen.serve_grace,
    )
    server = Server(config)
    server.pool = service.answering.pool if service.answering is not None else None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # uvicorn raises it once more after a clean stop, which is status 0
    url = f"http://{chosen.serve_host}:{listening.getsockname()[1]}"
    if as_json:
        emit({"url": url, "model": chosen.deployment, "pid": os.getpid()}, line=True)
    say(f"listening on {url}")
    keep_out_of_collections()
    server.run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP: of a socket that is not, asyncio leaves Nagle's algorithm on, and each answer waits 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
        return listening
    except OSError as error:
        listening.close()
        raise OutageError(f"{host} port {port} cannot be listened on: {error.strerror}. Choose another.") from None
