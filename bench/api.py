"""How fast lists are filtered, and how fast the log streams, over HTTP.

    python bench/api.py [--events 20000] [--engine sqlite|postgresql] [--repeats 200] [--folder FOLDER] [--json]

Asks a server in a process of its own (`api_server`), one request after another, for the first page and for a page
half-way down, of named filters that match much, little and nothing, and for pages all over the log that nobody asked
for before; then streams the whole log, whose closing line is held to the head that the server signed. Without a FOLDER
that `bench/seed_ledger.py` filled, a small one is made. Bars at 1,000,000 events: p99 of a first page 25 ms, a deep
page 1.5 times the first (medians), 20,000 events/s of export with memory that does not grow. Small runs show that it
works, not that the bars hold.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from rich.console import Console
from rich.table import Table

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import seeded  # noqa: E402 - found by the line above
from peak_memory import peak_mib  # noqa: E402
from seed_ledger import asked_folder, options  # noqa: E402

from mass_gov.api import Service, cursors, lists  # noqa: E402
from mass_gov.api.access import Caller, Identity  # noqa: E402
from mass_gov.records.events import Actor  # noqa: E402

NAMED: dict[str, tuple[str, dict[str, str]]] = {
    "every event": ("events", {}),
    "every event, oldest first": ("events", {"sort": "index"}),
    "events of a tenant": ("events", {"tenant": "acme"}),
    "events by an actor and type": ("events", {"actor": "dora", "type": "replay.performed"}),
    "held changes": ("changes", {"status": "held"}),
    "held changes, oldest first": ("changes", {"status": "held", "sort": "index"}),
    "held changes of a deployment": ("changes", {"status": "held", "tenant": "acme", "deployment": "tutor"}),
    "changes that failed a gate": ("changes", {"failed": "update.step_norm"}),
    "a gate, a verdict and a status": ("changes", {"failed": "regression.base", "verdict": "hold", "status": "held"}),
    "rare: a tenant's changes": ("changes", {"tenant": "rare"}),
    "rare: answers of a subject": ("responses", {"subject": "?"}),
    "none: applied and rejected": ("changes", {"verdict": "apply", "status": "rejected"}),
    "none: two common words": ("responses", {"actor": "ada", "served": "adapted"}),
    "none: an unknown gate": ("changes", {"failed": "update.unheard_of"}),
    "a stretch of time": ("events", {"since": "2020-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z", "actor": "ada"}),
}
BODIES = {"events": lists.EventFilter, "changes": lists.ChangeFilter, "responses": lists.ResponseFilter}
BARS = {"p99_ms": 25.0, "deep": 1.5, "events_per_s": 20_000.0}
COLD = 40
"""Pages from all over the log, each asked once: their events are read and verified for the first time."""


class Client:
    """One connection that is kept, with a token."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=600)
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str, **asked: str | int) -> Any:
        """The answer's JSON; anything but 200 is an error."""
        self._connection.request("GET", f"/v1{path}?{urlencode(asked)}", headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return json.loads(body)

    def pieces(self, path: str, **asked: str | int) -> Iterator[bytes]:
        """The answer as it comes."""
        self._connection.request("GET", f"/v1{path}?{urlencode(asked)}", headers=self._headers)
        answer = self._connection.getresponse()
        assert answer.status == 200, answer.read()
        while piece := answer.read1(1 << 18):
            yield piece

    def timed(self, path: str, asked: dict[str, str]) -> float:
        """Milliseconds of one request."""
        started = time.perf_counter()
        self.get(path, **asked)
        return (time.perf_counter() - started) * 1000


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Client, int]]:
    """A server on a seeded folder, as long as the block lasts: a client of it, and its process."""
    command = [sys.executable, str(Path(__file__).with_name("api_server.py")), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield Client(int(process.stdout.readline()), (folder / "token").read_text()), process.pid
        process.stdin.close()


def measure(folder: Path, repeats: int) -> dict[str, Any]:
    """Ask everything of one folder."""
    with seeded.opened(folder) as ledger:
        key, size, engine = Service.of(ledger).cursor_key, ledger.size, ledger.address.engine
        with serving(folder) as (client, process):
            rows = [_row(client, key, label, name, filters, size, repeats) for label, (name, filters) in NAMED.items()]
            started = peak_mib(process)
            exports = [_export(client, form, size, process) for form in ("ndjson", "csv")]
    return {"engine": engine, "events": size, "rows": rows, "before_export_mib": round(started, 1), "export": exports}


def _row(
    client: Client, key: bytes, label: str, name: str, filters: dict[str, str], size: int, repeats: int
) -> dict[str, Any]:
    asked = filters | ({"subject": _subject(client, size)} if filters.get("subject") == "?" else {})
    everywhere = [asked | {"cursor": _cursor(key, name, asked, size * n // COLD)} for n in range(1, COLD)]
    deep = everywhere[COLD // 2 - 1]
    # Before the others: nothing of them was read yet.
    cold_median, cold_p99 = _middle_and_tail([client.timed(f"/{name}", one) for one in everywhere])
    # In turns, so that what else the machine does falls on both alike; the first turn warms up.
    turns = [(client.timed(f"/{name}", asked), client.timed(f"/{name}", deep)) for _ in range(repeats + 1)][1:]
    (median, p99), (deep_median, deep_p99) = map(_middle_and_tail, zip(*turns, strict=True))
    holds = p99 <= BARS["p99_ms"] and deep_median <= BARS["deep"] * median
    figures = {"p50_ms": median, "p99_ms": p99, "deep_p50_ms": deep_median, "deep_p99_ms": deep_p99}
    figures |= {"cold_p50_ms": cold_median, "cold_p99_ms": cold_p99}
    return {"asked": label, "found": len(client.get(f"/{name}", **asked)[name]), **figures, "holds": holds}


def _middle_and_tail(took: Sequence[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    ordered = sorted(took)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def _cursor(key: bytes, name: str, asked: dict[str, str], behind: int) -> str:
    """The cursor of the page behind an index of the log."""
    caller = Caller(Identity("dora", ("auditor",), None, None), Actor(principal="dora", role="auditor"))
    return cursors.encode(key, behind, lists._what(caller, BODIES[name](**asked)))


def _subject(client: Client, size: int) -> str:
    """Of an answer a third of the way down."""
    (event,) = client.get("/events", type="response.served", limit=1, to_index=size // 3)["events"]
    return str(event["event"]["body"]["unadapted"]["subject"])


def _export(client: Client, form: str, size: int, process: int) -> dict[str, Any]:
    head, length, lines, last = client.get("/log/checkpoint"), 0, 0, b""
    whole, started = hashlib.sha256(), time.perf_counter()
    for piece in client.pieces("/log/export", format=form):
        length, lines, last = length + len(piece), lines + piece.count(b"\n"), (last + piece)[-4096:]
        whole.update(piece)
    seconds = time.perf_counter() - started
    assert head["root"].encode() in last.splitlines()[-1], "the closing line says the root of the signed head"
    assert lines == size + (2 if form == "csv" else 1), lines
    figures = {"events_per_s": size / seconds, "mib": length / 2**20, "peak_mib": round(peak_mib(process), 1)}
    return {"form": form, **figures, "sha256": whole.hexdigest(), "holds": size / seconds >= BARS["events_per_s"]}


def show(result: dict[str, Any]) -> None:
    """Print one table."""
    table = Table("asked", "found", "p50 ms", "p99", "deep p50", "deep p99", "ratio", "cold p50", "cold p99", "")
    for row in result["rows"]:
        first, cold = (
            [f"{row[f'{kind}_ms']:.1f}" for kind in kinds]
            for kinds in (("p50", "p99", "deep_p50", "deep_p99"), ("cold_p50", "cold_p99"))
        )
        ratio = f"{row['deep_p50_ms'] / row['p50_ms']:.2f}"
        table.add_row(row["asked"], str(row["found"]), *first, ratio, *cold, "holds" if row["holds"] else "missed")
    console = Console(width=140)
    console.print(f"{result['events']:,} events on {result['engine']}")
    console.print(table)
    for one in result["export"]:
        rate = f"{one['events_per_s']:,.0f} events/s, {one['mib']:.1f} MiB"
        memory = f"the server's peak memory {one['peak_mib']} MiB ({result['before_export_mib']} before)"
        console.print(f"export as {one['form']}: {rate}; {memory}")


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    asked = parser.parse_args()
    with asked_folder(asked) as folder:
        result = measure(folder, asked.repeats)
    print(json.dumps(result)) if asked.json else show(result)


if __name__ == "__main__":
    main()
