"""Threads that append at once share commits: each gets its own entries or its own error, and nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mass_gov.errors import LedgerUnavailableError, MassGovError, RefusedError
from mass_gov.flows.audit import verify
from mass_gov.ledger import Entry
from mass_gov.ledger.sequencer import MOST_TURNS, Sequencer, Turn
from mass_gov.records.events import AccessDenied, ModelRegistered, SuiteRegistered
from tests.fakes.ledger_world import BOB, SUITE, LedgerWorld, digest

PRODUCERS = 64


class Gate:
    """A trip that holds the first leader at a step until it is told to go on, or raises there."""

    def __init__(self, step: str, error: BaseException | None = None) -> None:
        self.step, self.error = step, error
        self.armed = False
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, step: str) -> None:
        if step == self.step and self.armed:
            self.armed = False
            self.reached.set()
            assert self.go.wait(30)
            if self.error is not None:
                raise self.error


def denial(world: LedgerWorld, name: str) -> Any:
    return world.draft(AccessDenied(action=name, policy=world.policy.digest, change_id=None, count=1), BOB)


def wait_for(world: LedgerWorld, waiting: int) -> None:
    """Until so many callers stand in the queue."""
    pause = threading.Event()
    for _ in range(3000):
        if len(world.ledger._sequencer._waiting) >= waiting:
            return
        pause.wait(0.01)
    raise AssertionError("the callers never came")


def checked(world: LedgerWorld) -> int:
    world.close()
    report = verify(world.folder / "ledger.db", keys=world.keys, checkpoints=world.folder / "checkpoints")
    assert report.ok, report.first_wrong
    return report.size


def test_of_many_threads_each_gets_its_own_entries_and_the_log_all_of_them(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path)
    before, heads = world.ledger.size, world.ledger.latest_checkpoint().size

    def produce(number: int) -> list[Entry]:
        return [
            entry
            for round_ in range(3)
            for entry in world.ledger.append([denial(world, f"p{number}-{round_}-{i}") for i in range(2)])
        ]

    with ThreadPoolExecutor(PRODUCERS) as pool:
        written = list(pool.map(produce, range(PRODUCERS)))
    for number, entries in enumerate(written):
        names = [entry.predicate.body.action for entry in entries]  # type: ignore[union-attr]
        assert names == [f"p{number}-{round_}-{i}" for round_ in range(3) for i in range(2)]
        assert [entry.index for entry in entries] == sorted(entry.index for entry in entries)
        assert all(one.index + 1 == two.index for one, two in zip(entries[::2], entries[1::2], strict=True))
        assert all(world.ledger.entry(entry.index).leaf == entry.leaf for entry in entries)
    everybody = sorted(entry.index for entries in written for entry in entries)
    assert everybody == list(range(before, before + PRODUCERS * 6))
    assert heads < world.ledger.latest_checkpoint().size == before + PRODUCERS * 6
    assert checked(world) == before + PRODUCERS * 6


def test_callers_that_wait_are_committed_under_one_signed_head(tmp_path: Path) -> None:
    gate = Gate("begin")
    world = LedgerWorld.make(tmp_path, trip=gate)
    size, gate.armed = world.ledger.size, True
    with ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(world.ledger.append, [denial(world, f"d{i}")]) for i in range(20)]
        wait_for(world, 19)
        gate.go.set()
        indexes = sorted(job.result()[0].index for job in jobs)
    assert indexes == list(range(size, size + 20))
    with world.ledger._database.read() as connection:
        signed = connection.exec_driver_sql("SELECT size FROM log_checkpoints ORDER BY size").scalars().all()
    assert signed[-2:] == [size, size + 20]
    assert checked(world) == size + 20


def test_a_refusal_is_one_callers_own_and_leaves_nothing_behind(tmp_path: Path) -> None:
    gate = Gate("begin")
    world = LedgerWorld.make(tmp_path, trip=gate)
    size, gate.armed = world.ledger.size, True
    lies = SuiteRegistered(suite=SUITE, name="another", cases=1)

    def drafts(number: int) -> list[Any]:
        good = world.draft(ModelRegistered(model=digest(f"m{number}"), prompt_template=SUITE, parameters="1"), BOB)
        return [good, world.draft(lies, BOB, ("suite", b"x"))] if number % 3 == 0 else [good]

    with ThreadPoolExecutor(30) as pool:
        jobs = [pool.submit(world.ledger.append, drafts(number)) for number in range(30)]
        wait_for(world, 29)
        gate.go.set()
        for number, job in enumerate(jobs):
            if number % 3 == 0:
                with pytest.raises(RefusedError, match="another suite"):
                    job.result()
            else:
                assert job.result()[0].predicate.body.model == digest(f"m{number}")  # type: ignore[union-attr]
    assert [world.ledger.has_model(digest(f"m{number}")) for number in range(30)] == [n % 3 != 0 for n in range(30)]
    assert checked(world) == size + 20


def test_when_all_are_refused_nothing_is_signed(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path)
    size, head = world.ledger.size, world.ledger.latest_checkpoint()
    with pytest.raises(RefusedError):
        world.ledger.append([world.draft(SuiteRegistered(suite=SUITE, name="another", cases=1), BOB, ("suite", b"x"))])
    assert (world.ledger.size, world.ledger.latest_checkpoint()) == (size, head)
    assert world.ledger.append([denial(world, "after")])[0].index == size
    assert checked(world) == size + 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("the signer is gone")])
def test_what_ends_a_leader_before_the_commit_is_told_to_all_and_the_next_ones_go_on(
    tmp_path: Path, error: BaseException
) -> None:
    gate = Gate("checkpoint", error)
    world = LedgerWorld.make(tmp_path, trip=gate)
    size, gate.armed = world.ledger.size, True
    outcomes: dict[str, BaseException | list[Entry]] = {}

    def run(name: str) -> None:
        try:
            outcomes[name] = world.ledger.append([denial(world, name)])
        except BaseException as raised:
            outcomes[name] = raised

    leader = threading.Thread(target=run, args=("leader",))
    leader.start()
    assert gate.reached.wait(30)
    others = [threading.Thread(target=run, args=(f"next{i}",)) for i in range(5)]
    for thread in others:
        thread.start()
    wait_for(world, 5)
    gate.go.set()
    for thread in (leader, *others):
        thread.join(30)
        assert not thread.is_alive()
    assert outcomes["leader"] is error
    written = sorted(outcomes[f"next{i}"][0].index for i in range(5))  # type: ignore[index]
    assert written == list(range(size, size + 5))
    assert checked(world) == size + 5


def test_followers_of_a_leader_that_is_interrupted_after_the_commit_keep_what_is_durable(tmp_path: Path) -> None:
    class Both:
        begin, end = Gate("begin"), Gate("committed", KeyboardInterrupt())

        def __call__(self, step: str) -> None:
            self.begin(step)
            self.end(step)

    trip = Both()
    world = LedgerWorld.make(tmp_path, trip=trip)
    size, trip.begin.armed = world.ledger.size, True
    outcomes: list[BaseException | int] = []

    def run(number: int) -> None:
        try:
            outcomes.append(world.ledger.append([denial(world, f"d{number}")])[0].index)
        except BaseException as raised:
            outcomes.append(raised)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    wait_for(world, 5)
    trip.end.armed = True
    trip.end.go.set()
    trip.begin.go.set()
    for thread in threads:
        thread.join(30)
    assert sum(isinstance(one, KeyboardInterrupt) for one in outcomes) == 1
    assert len({one for one in outcomes if isinstance(one, int)}) == 5
    assert checked(world) == size + 6


def test_a_group_that_cannot_be_committed_fails_whole_each_with_an_error_of_its_own(tmp_path: Path) -> None:
    gate = Gate("begin")
    world = LedgerWorld.make(tmp_path, trip=gate)
    size, gate.armed = world.ledger.size, True

    def unsigned(step: str) -> None:
        if step == "events":
            raise LedgerUnavailableError("The disk is full. Free some space.")

    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(world.ledger.append, [denial(world, f"d{i}")]) for i in range(8)]
        wait_for(world, 7)
        world.ledger._trip = unsigned
        gate.go.set()
        errors = [job.exception() for job in jobs]
    world.ledger._trip = lambda step: None
    assert [str(error) for error in errors] == ["The disk is full. Free some space."] * 8
    assert len({id(error) for error in errors}) == 8
    assert checked(world) == size


def sequencer(commit: Callable[[Iterator[Turn]], None]) -> Sequencer:
    return Sequencer(commit, lambda entry: False)


def test_a_group_has_a_limit_and_the_rest_get_another_leader() -> None:
    groups: list[int] = []
    go = threading.Event()

    def commit(turns: Iterator[Turn]) -> None:
        assert go.wait(30)
        groups.append(sum(1 for _ in turns))

    queue = sequencer(commit)
    with ThreadPoolExecutor(MOST_TURNS + 10) as pool:
        jobs = [pool.submit(queue.append, []) for _ in range(MOST_TURNS + 10)]
        while len(queue._waiting) < MOST_TURNS + 10:
            threading.Event().wait(0.01)
        go.set()
        assert all(job.result() == [] for job in jobs)
    assert groups == [MOST_TURNS, 10]


def test_a_leader_that_fails_before_it_takes_a_turn_fails_alone() -> None:
    calls: list[int] = []

    def commit(turns: Iterator[Turn]) -> None:
        calls.append(0)
        if len(calls) == 1:
            raise LedgerUnavailableError("The folder is gone. Make it.")
        list(turns)

    queue = sequencer(commit)
    with pytest.raises(MassGovError, match="folder is gone"):
        queue.append([])
    assert queue.append([]) == []
    assert not queue._waiting and not queue._led
