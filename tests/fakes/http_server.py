"""A real `mass-gov serve` in a process of its own, on a free port, with principals who have tokens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx

from mass_gov.config import load_settings
from mass_gov.flows.principals import issue, register
from mass_gov.records.change import Scope
from mass_gov.records.events import Actor, Role
from mass_gov.wiring import initialise, open_ledger

CARL = Actor(principal="carl", role="admin")
PEOPLE: dict[str, tuple[Role, tuple[Scope, ...]]] = {
    "ada": ("requester", ("instance", "deployment")),
    "eve": ("requester", ("instance",)),
    "bob": ("operator", ("instance", "deployment")),
    "dora": ("auditor", ()),
}
"""Who else is registered; Carl is an admin."""


def furnish(home: Path, policy: str | None = None) -> dict[str, str]:
    """Make a ledger with everybody registered; returns their tokens."""
    settings = load_settings(home=home)
    initialise(settings, policy)[0].close()
    with open_ledger(settings) as ledger:
        first = register(ledger, "carl", Actor(principal="local", role="admin"), roles=["admin"], scopes=[]).issued
        assert first is not None
        tokens = {"carl": first.token}
        for name, (role, scopes) in PEOPLE.items():
            register(ledger, name, CARL, roles=[role], scopes=list(scopes))
            tokens[name] = issue(ledger, name, CARL).token
    return tokens


@dataclass
class Server:
    """A server that runs, and how to ask it."""

    home: Path
    process: subprocess.Popen[bytes]
    url: str
    log: Path
    tokens: dict[str, str] = field(repr=False)

    def client(self, name: str | None = "ada", **options: Any) -> httpx.Client:
        """A client with somebody's token."""
        headers = {"Authorization": f"Bearer {self.tokens[name]}"} if name is not None else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, **options)

    def ready(self, patience: float = 120.0) -> None:
        """Wait until it is ready."""
        with self.client(None) as client:
            wait_for(lambda: client.get("/readyz").status_code == 200, patience, self.tail)

    def stop(self, how: int = signal.SIGTERM, patience: float = 60.0) -> int:
        """End it, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(patience)

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8")[-3000:]


def wait_for(what: Any, patience: float = 30.0, about: Any = lambda: "") -> None:
    """Ask until the answer is true."""
    deadline = time.monotonic() + patience
    while not what():
        assert time.monotonic() < deadline, f"waited {patience} s in vain: {about()}"
        time.sleep(0.05)


@contextmanager
def serving(home: Path, tokens: dict[str, str], patience: float = 60.0, **settings: str | int) -> Iterator[Server]:
    """Start a server on a home; it is asked to stop at the end, and must."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MASS_GOV_")}
    env |= {f"MASS_GOV_{name.upper()}": str(value) for name, value in settings.items()} | {"MASS_GOV_HOME": str(home)}
    log = home.parent / f"{home.name}-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "mass_gov.cli.main", "serve", "--port", "0", "--json"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out)
    try:
        listening = re.compile(r"listening on (http://\S+)")
        wait_for(lambda: listening.search(log.read_text("utf-8")) or process.poll() is not None, patience)
        found = listening.search(log.read_text("utf-8"))
        assert found is not None, log.read_text("utf-8")
        yield Server(home, process, found[1], log, tokens)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
