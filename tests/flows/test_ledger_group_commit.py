"""Processes that race, each with threads of its own, on both engines; and a verification whose memory stays flat."""

from __future__ import annotations

import multiprocessing
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from mass_gov.errors import StaleChangeError
from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.audit import verify
from mass_gov.ledger import Ledger
from mass_gov.records.events import AccessDenied
from tests.fakes.engines import address_of
from tests.fakes.ledger_world import BOB, BOTH_SCOPES, LedgerWorld

FORK = multiprocessing.get_context("fork")
PROCESSES, THREADS, SECONDS = 4, 4, 2.0


def denial(world: LedgerWorld, name: str) -> Any:
    return world.draft(AccessDenied(action=name, policy=world.policy.digest, change_id=None, count=1), BOB)


def race(folder: Path, name: str, start: Any, answer: Connection) -> None:
    world = LedgerWorld.make(folder, BOTH_SCOPES)
    start.wait()
    until = time.monotonic() + SECONDS

    def produce(number: int) -> list[tuple[int, str]]:
        written = []
        while time.monotonic() < until:
            name_of_this = f"{name}-{number}-{len(written)}"
            entry = world.ledger.append([denial(world, name_of_this)])[0]
            written.append((entry.index, name_of_this))
        return written

    with ThreadPoolExecutor(THREADS) as pool:
        answer.send([one for written in pool.map(produce, range(THREADS)) for one in written])
    with suppress(StaleChangeError):  # of those who read the same head, one moves it
        world.record(f"{name}-moves", scope="deployment")
    world.close()


@pytest.mark.both_engines
def test_processes_with_threads_that_race_share_one_log_and_lose_nothing(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path, BOTH_SCOPES)
    before = world.ledger.size
    world.close()
    start, pipes = FORK.Barrier(PROCESSES), [FORK.Pipe() for _ in range(PROCESSES)]
    children = [
        FORK.Process(target=race, args=(tmp_path, f"p{number}", start, there))
        for number, (_, there) in enumerate(pipes)
    ]
    for child in children:
        child.start()
    acknowledged = [one for here, _ in pipes for one in here.recv()]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * PROCESSES
    assert len({index for index, _ in acknowledged}) == len(acknowledged) >= PROCESSES * THREADS
    keys = KeyStore.open(tmp_path / "keys")
    report = verify(address_of(tmp_path), keys=keys, checkpoints=tmp_path / "checkpoints")
    assert report.ok, report.first_wrong
    assert report.size >= before + len(acknowledged)
    with Ledger.open(address_of(tmp_path), keys=None, checkpoints=tmp_path / "checkpoints") as ledger:
        said = {entry.index: getattr(entry.predicate.body, "action", "") for entry in ledger.entries()}
    assert all(said[index] == name for index, name in acknowledged)


def peak(folder: Path, keys: KeyStore) -> int:
    """Bytes that Python held at most while it verified."""
    tracemalloc.start()
    report = verify(folder / "ledger.db", keys=keys, checkpoints=folder / "checkpoints")
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.ok, report.first_wrong
    return held


def test_what_a_verification_holds_does_not_grow_with_the_log(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path)
    for number in range(2):
        world.record(f"task-{number}")
    world.ledger.append([denial(world, "few")] * 20)
    world.close()
    verify(tmp_path / "ledger.db", keys=world.keys)  # what is loaded once is loaded now
    few = peak(tmp_path, world.keys)
    world = LedgerWorld.make(tmp_path)
    for number in range(4):
        world.record(f"more-{number}")
    for _ in range(30):  # what is held is an append and not a log: its end is judged as one
        world.ledger.append([denial(world, "many")] * 20)
    world.close()
    assert peak(tmp_path, world.keys) < few + 300_000  # 608 events and 36 artifacts more, some 3 MB if they were held
