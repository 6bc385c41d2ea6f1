"""Clients that ask a real server until they are told to stop, and what the log knows of the answers that they got."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx

from mass_gov.config import load_settings
from mass_gov.flows.audit import verify
from mass_gov.wiring import read_ledger
from tests.fakes.http_server import Server

CLIENTS = 3


@dataclass
class Load:
    """Clients that ask until they are told to stop, and the answers that they got."""

    server: Server
    given: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask from several threads inside the block."""
        threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join(120)

    def _ask(self, number: int) -> None:
        chance = random.Random(f"{number}/{time.monotonic_ns()}")
        with self.server.client() as client:
            while not self.stop.is_set():
                question = f"03 14 21 32 45 56 60: {''.join(chance.choices('F', k=3))}{chance.randrange(7)}"
                adaptation = "mass" if chance.random() < 0.8 else "none"
                body = {"model": "default", "messages": [{"role": "user", "content": question}]}
                with suppress(httpx.HTTPError):  # the server was killed: nothing was given
                    answer = client.post(
                        "/v1/chat/completions", json=body | {"mass_gov": {"adaptation": adaptation}}, timeout=60
                    )
                    if answer.status_code in (200, 202):
                        self.given.append(answer.json()["mass_gov"])
                        continue
                    self.refused += 1
                time.sleep(0.05)


def missing(home: Path, given: list[dict[str, Any]]) -> list[str]:
    """What of the log is wrong, and which of the answers given it does not know."""
    lost = []
    with read_ledger(load_settings(home=home)) as ledger:
        report = verify(ledger, only="signatures")
        if report.first_wrong is not None:
            lost.append(f"the log does not verify: {report.first_wrong}")
        changes = {one.change_id for one in ledger.changes(limit=1_000_000)}
        answered = {(one.change_id, one.served) for one in ledger.responses()}
        responses = {one.response_id for one in ledger.responses()}
        for one in given:
            if one["change_id"] is not None and one["change_id"] not in changes:
                lost.append(f"change {one['change_id']} was acknowledged and is not there")
            elif one["change_id"] is not None and one["served"] != "none":
                if (one["change_id"], one["served"]) not in answered:
                    lost.append(f"the {one['served']} answer of change {one['change_id']} has no event")
            elif one["change_id"] is None and one["response_id"] not in responses:
                lost.append(f"answer {one['response_id']} has no event")
    return lost
