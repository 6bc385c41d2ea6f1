"""200 readers while 20 writers append, over HTTP: is anybody refused, and is anything lost?

    python bench/api_crowd.py [--events 20000] [--engine sqlite|postgresql] [--seconds 60] [--folder FOLDER]
                              [--only tree|signatures] [--json]

A real `mass-gov serve` without a learner, on a ledger that `seed_ledger.py --crowd 200` filled. Everybody has a token
and a connection. Readers ask for pages by rare and common filters, for heads, proofs and whole exports, one after
another; writers open incidents, write to them, and reject held changes. Whatever is not answered as it should be is a
fault, a refusal for asking too often too. Afterwards everything that was acknowledged has to be in the log, once, and
the log has to verify: all of it but the artifacts, which seeded changes do not have; of a long log `--only` its tree
and signatures, beside what every opening checks. Exit status 1 if it does not hold.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
from rich.console import Console

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import seeded  # noqa: E402 - found by the line above
from api import NAMED  # noqa: E402
from peak_memory import peak_mib  # noqa: E402
from seed_ledger import asked_folder, options  # noqa: E402

from mass_gov.evidence.keystore import KeyStore  # noqa: E402
from mass_gov.flows.audit import verify  # noqa: E402
from mass_gov.flows.audit_scan import Only  # noqa: E402
from mass_gov.ledger import Ledger  # noqa: E402
from tests.fakes.http_server import Server, serving  # noqa: E402

CROWD = 200
EXPORTERS = 2
"""Readers who copy the whole log again and again."""
PATIENCE = 1200.0
"""Seconds that the server gets to open: it reads every row and every event first."""
LISTS = [(name, asked) for name, asked in NAMED.values() if asked.get("subject") != "?"]


@dataclass
class Seen:
    """What clients got: requests by kind, their seconds, faults, and what was acknowledged."""

    requests: Counter[str] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    incidents: dict[str, int] = field(default_factory=dict)
    """Incident -> updates that were acknowledged."""
    rejected: list[str] = field(default_factory=list)


class Person:
    """One client: a token, a connection, and what it does until it is time."""

    until = 0.0

    def __init__(self, server: Server, name: str, seen: Seen) -> None:
        self.name, self.seen = name, seen
        self.chance = random.Random(name)
        headers = {"Authorization": f"Bearer {server.tokens[name]}"}
        self.client = httpx.AsyncClient(base_url=f"{server.url}/v1", headers=headers, timeout=120, verify=False)

    async def ask(self, kind: str, method: str, path: str, **more: Any) -> httpx.Response | None:
        """The answer; None where it is a fault."""
        started = time.perf_counter()
        try:
            answer = await self.client.request(method, path, **more)
        except httpx.HTTPError as error:
            self.seen.faults.append(f"{kind}: {type(error).__name__}")
            return None
        self.seen.requests[kind] += 1
        self.seen.took.append(time.perf_counter() - started)
        if answer.status_code not in (200, 201):
            self.seen.faults.append(f"{kind}: {answer.status_code} {answer.text[:200]}")
            return None
        return answer

    async def read(self, size: int) -> None:
        """Ask for one thing after another."""
        while time.monotonic() < self.until:
            kind = self.chance.random()
            if kind < 0.6:
                await self._walk(*self.chance.choice(LISTS))
            elif kind < 0.7:
                await self.ask("incidents", "GET", "/incidents")
            elif kind < 0.8:
                await self.ask("checkpoint", "GET", "/log/checkpoint")
            elif kind < 0.9:
                await self.ask("inclusion", "GET", "/log/inclusion", params={"index": self.chance.randrange(size)})
            else:
                old = self.chance.randrange(1, size)
                await self.ask("consistency", "GET", "/log/consistency", params={"from": old})

    async def _walk(self, name: str, asked: dict[str, str]) -> None:
        cursor: dict[str, str] = {}
        for _ in range(3):
            page = await self.ask(name, "GET", f"/{name}", params=asked | cursor)
            if page is None or page.json()["next"] is None:
                return
            cursor = {"cursor": page.json()["next"]}

    async def export(self) -> None:
        """Copy the log; without its closing line it is not whole."""
        while time.monotonic() < self.until:
            form, last = self.chance.choice(("csv", "ndjson")), b""
            try:
                async with self.client.stream("GET", "/log/export", params={"format": form}) as copy:
                    async for piece in copy.aiter_bytes():  # gigabytes, where the log is long
                        last = (last + piece)[-4096:]
            except httpx.HTTPError as error:
                self.seen.faults.append(f"export as {form}: {type(error).__name__}")
                return
            self.seen.requests["export"] += 1
            if copy.status_code != 200 or b"mass-gov:export:v1" not in last:
                self.seen.faults.append(f"export as {form}: {copy.status_code}, or it was cut off")

    async def write(self, held: list[str]) -> None:
        """Open an incident, write to it twice, and reject a change, again and again."""
        while time.monotonic() < self.until:
            said = {"tenant": "acme", "deployment": "tutor", "title": "Wrong sums", "severity": "serious"}
            opened = await self.ask("open incident", "POST", "/incidents", json=said)
            if opened is not None:
                incident = opened.json()["incident"]["incident_id"]
                self.seen.incidents[incident] = 0
                for number in range(2):
                    note = {"note": f"note {number}"}
                    if await self.ask("note", "POST", f"/incidents/{incident}:update", json=note) is not None:
                        self.seen.incidents[incident] += 1
            if held:
                await self._reject(held.pop())

    async def _reject(self, change: str) -> None:
        shown = await self.ask("change", "GET", f"/changes/{change}", params={"fields": "status"})
        if shown is None:
            return
        match, body = {"If-Match": shown.headers["etag"]}, {"reason": "Not needed."}
        if await self.ask("reject", "POST", f"/changes/{change}:reject", json=body, headers=match) is not None:
            self.seen.rejected.append(change)


async def crowd(server: Server, seconds: float, held: list[str], size: int) -> Seen:
    """Let everybody in, and wait until they have done."""
    seen = Seen()
    people = {name: Person(server, name, seen) for name in server.tokens}
    Person.until = time.monotonic() + seconds
    readers = [one for name, one in people.items() if not name.startswith("writer")]
    writers = [one for name, one in people.items() if name.startswith("writer")]
    doing = [one.export() for one in readers[:EXPORTERS]] + [one.read(size) for one in readers[EXPORTERS:]]
    doing += [one.write(held[n :: len(writers)]) for n, one in enumerate(writers)]
    await asyncio.gather(*doing)
    for one in people.values():
        await one.client.aclose()
    return seen


def lost(ledger: Ledger, seen: Seen) -> list[str]:
    """What was acknowledged and is not there."""
    found = [f"incident {one}" for one in seen.incidents if len(ledger.incident_updates(one)) != seen.incidents[one]]
    return found + [f"rejection of {one}" for one in seen.rejected if ledger.change(one).status != "rejected"]


def measure(folder: Path, seconds: float, only: Only | None) -> dict[str, Any]:
    """Serve one folder to the crowd, and verify all of the log afterwards or a part of it."""
    tokens = json.loads((folder / "tokens.json").read_text())
    with seeded.opened(folder) as ledger:
        before, address = ledger.size, ledger.address
        held = [one.change_id for one in ledger.changes(status="held", limit=1000)]
        where = {"database_url": address.url} if address.path is None else {}
        with serving(folder, tokens, patience=PATIENCE, serve_learners=0, serve_verify="tree", **where) as server:
            server.ready(PATIENCE)
            seen = asyncio.run(crowd(server, seconds, held, before))
            memory = peak_mib(server.process.pid)
            status = server.stop()
        gone, after = lost(ledger, seen), ledger.size
        keys, checkpoints = KeyStore.open(folder / "keys"), folder / "checkpoints"
        Ledger.open(address, keys=keys, checkpoints=checkpoints).close()  # which every row has to agree to
        report = verify(address, keys=keys, checkpoints=checkpoints, only=only)
    wrong = [step.title for step in report.steps if step.verdict == "wrong" and step.title != "artifacts"]
    took = sorted(seen.took)
    appended = len(seen.incidents) + sum(seen.incidents.values()) + len(seen.rejected)
    if appended != after - before:
        gone.append(f"{appended} events were acknowledged, and the log grew by {after - before}")
    return {
        "engine": address.engine,
        "events": before,
        "seconds": seconds,
        "requests": dict(seen.requests),
        "p50_ms": round(took[len(took) // 2] * 1000, 1),
        "p99_ms": round(took[int(len(took) * 0.99)] * 1000, 1),
        "appended": appended,
        "faults": Counter(seen.faults).most_common(20),
        "lost": gone,
        "wrong": wrong,
        "verified": only or "everything",
        "exit_status": status,
        "server_peak_mib": round(memory, 1),
        "holds": not (seen.faults or gone or wrong or status) and appended > 0,
    }


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", choices=("tree", "signatures"), help="verify no more than that: of a long log")
    asked = parser.parse_args()
    with asked_folder(asked, CROWD) as folder:
        result = measure(folder, asked.seconds, asked.only)
    print(json.dumps(result)) if asked.json else Console().print(result)
    sys.exit(0 if result["holds"] else 1)


if __name__ == "__main__":
    main()
