"""A real line to PostgreSQL that breaks when a COMMIT passes it: before it arrives, or before its answer does.

It listens on a socket beside the server's, in a folder of its own, and copies bytes both ways. `break_next` arms it
once: `"before"` drops the COMMIT and both ends, `"after"` passes it on, waits for the server's answer and drops that.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

Moment = Literal["before", "after"]


class LossyLine:
    """Copy bytes between a client and the server until it is told to lose some."""

    def __init__(self, url: str, folder: Path) -> None:
        parts = urlsplit(url)
        host = parse_qs(parts.query).get("host", [""])[0]
        here = f"{host}/.s.PGSQL.5432"
        self._server: tuple[str, int] | str = here if host else (parts.hostname or "", parts.port or 5432)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        credentials = parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(parts._replace(netloc=f"{credentials}@", query=f"host={quote(str(folder), safe='')}"))
        self._armed: Moment | None = None
        self._down = False
        self.losses = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def break_next(self, moment: Moment, *, stay_down: bool = False) -> None:
        """Lose the next COMMIT, or its answer; with `stay_down` nobody gets through afterwards."""
        self._armed, self._stay_down = moment, stay_down

    def mend(self) -> None:
        """Let everybody through again."""
        self._down = False

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                if self._down:
                    client.close()
                    continue
                server = self._connect()
                threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _connect(self) -> socket.socket:
        if isinstance(self._server, tuple):
            return socket.create_connection(self._server)
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._server)
        return server

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        threading.Thread(target=self._back, args=(server, client), daemon=True).start()
        with suppress(OSError):
            while data := client.recv(65536):
                if self._armed and b"COMMIT\0" in data:
                    self._lose(client, server, data)
                    break
                if self._down:
                    break
                server.sendall(data)
        _hang_up(client, server)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        _hang_up(client, server)

    def _lose(self, client: socket.socket, server: socket.socket, data: bytes) -> None:
        moment, self._armed = self._armed, None
        self._down = self._stay_down
        self.losses += 1
        client.shutdown(socket.SHUT_RDWR)  # whatever comes back is not heard
        if moment == "after":
            server.sendall(data)
            with suppress(OSError):
                server.settimeout(5)
                server.recv(65536)


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
