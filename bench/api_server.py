"""The audit API on a seeded ledger, in a process of its own: what `bench/api.py` asks over HTTP.

    python bench/api_server.py FOLDER

The app, the server and its settings are those of `mass-gov serve`, without its limits to how often somebody may ask.
The ledger is opened for reading, because whoever opens it to write reads every row and every event first. Prints its
address, and serves until its input ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from pathlib import Path

import uvicorn

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import seeded  # noqa: E402 - found by the line above

from mass_gov.api import Limits, Service, create_app  # noqa: E402
from mass_gov.asgi import keep_out_of_collections  # noqa: E402

UNLIMITED = Limits(per_second=1e9, burst=10**9)


def main() -> None:
    """Serve."""
    with seeded.opened(Path(sys.argv[1])) as ledger:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.bind(("127.0.0.1", 0))
        listening.listen(2048)
        app = create_app(Service.of(ledger, limits=UNLIMITED))
        config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False)
        threading.Thread(target=_stop_at_end, daemon=True).start()
        keep_out_of_collections()
        print(listening.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listening])


def _stop_at_end() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
