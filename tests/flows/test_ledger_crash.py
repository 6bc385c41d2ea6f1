"""A process may die at any write, and many may write at once: the log stays whole and loses nothing acknowledged.

Children are forked while no ledger is open, and killed with SIGKILL, so that nothing of theirs runs afterwards.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from mass_gov.errors import RefusedError, StaleChangeError
from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.audit import verify
from mass_gov.flows.audit_scan import Only
from mass_gov.ledger import Ledger
from mass_gov.ledger.writing import STEPS
from mass_gov.records.events import ChangeRecorded
from tests.fakes.engines import address_of
from tests.fakes.ledger_world import BOTH_SCOPES, LedgerWorld

pytestmark = pytest.mark.both_engines

FORK = multiprocessing.get_context("fork")
ROUNDS, AT_ONCE = 10, 5
"""50 kills at random moments, of processes that append at once."""


def in_child(work: Callable[..., None], *arguments: Any) -> Any:
    """Start `work` in a child process."""
    process = FORK.Process(target=work, args=arguments)
    process.start()
    return process


def make_home(folder: Path) -> Path:
    """Make a home with one change, and close it."""
    world = LedgerWorld.make(folder, BOTH_SCOPES)
    world.record("before")
    world.close()
    return folder


def kill_at(wanted: str) -> Callable[[str], None]:
    """A trip that ends the process at a step as a power cut would."""

    def trip(step: str) -> None:
        if step == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    return trip


def check(folder: Path, only: Only | None = None) -> int:
    """Verify everything, or a part of it; returns the number of events."""
    keys = KeyStore.open(folder / "keys")
    report = verify(address_of(folder), keys=keys, checkpoints=folder / "checkpoints", only=only)
    assert report.ok, report.first_wrong
    return report.size


def record_and_die(folder: Path, step: str) -> None:
    world = LedgerWorld.make(folder, BOTH_SCOPES, trip=kill_at(step))
    world.record("victim", scope="deployment")


def open_and_die(folder: Path, step: str) -> None:
    LedgerWorld.make(folder, BOTH_SCOPES, trip=kill_at(step))


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_write_leaves_all_of_an_append_or_nothing(tmp_path: Path, step: str) -> None:
    home = make_home(tmp_path / "home")
    before = check(home)
    child = in_child(record_and_die, home, step)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    committed = STEPS.index(step) >= STEPS.index("committed")
    assert check(home) == before + (3 if committed else 0)  # the change, its activation, its answer
    world = LedgerWorld.make(home, BOTH_SCOPES)
    if committed:
        with pytest.raises(RefusedError, match="recorded change already"):
            world.record("victim")
    else:
        world.record("victim")
    world.record("after")
    world.close()
    check(home)


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_while_a_ledger_is_made_leaves_one_that_the_next_open_completes(tmp_path: Path, step: str) -> None:
    address_of(tmp_path / "home")
    child = in_child(open_and_die, tmp_path / "home", step)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    world = LedgerWorld.make(tmp_path / "home", BOTH_SCOPES)
    world.record("after")
    world.close()
    check(tmp_path / "home")


def append_until_killed(folder: Path, name: str, acknowledged: Connection) -> None:
    world = LedgerWorld.make(folder, BOTH_SCOPES)
    for number in range(10_000):
        acknowledged.send(world.record(f"{name}-{number}").change_id)


def rest_of(pipe: Connection) -> list[str]:
    """What a child said before it was killed."""
    said = []
    while pipe.poll():
        try:
            said.append(pipe.recv())
        except EOFError:
            break
    return said


@pytest.mark.parametrize("number", range(ROUNDS))
def test_kills_at_random_moments_lose_nothing_acknowledged(tmp_path: Path, number: int) -> None:
    home, chance = make_home(tmp_path / "home"), random.Random(number)
    pipes = [FORK.Pipe() for _ in range(AT_ONCE)]
    children = [in_child(append_until_killed, home, f"of-{which}", there) for which, (_, there) in enumerate(pipes)]
    acknowledged = [here.recv() for here, _ in pipes]
    for child in children:
        time.sleep(chance.uniform(0.0, 0.05))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        check(home, only="signatures")  # while the others go on
    for here, there in pipes:
        there.close()
        acknowledged += rest_of(here)
    check(home)
    world = LedgerWorld.make(home, BOTH_SCOPES)
    bodies = [entry.predicate.body for entry in world.ledger.entries()]
    recorded = [body.change.identity.change_id for body in bodies if isinstance(body, ChangeRecorded)]
    assert len(set(recorded)) == len(recorded)
    assert set(acknowledged) <= set(recorded)
    world.close()


def append_some(folder: Path, name: str, start: Any) -> None:
    world = LedgerWorld.make(folder, BOTH_SCOPES)
    start.wait()
    for number in range(12):
        world.record(f"{name}-{number}")
    world.close()


def test_processes_that_append_at_once_share_one_gapless_log(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    before, start = check(home), FORK.Barrier(3)
    children = [in_child(append_some, home, name, start) for name in ("a", "b", "c")]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert check(home) == before + 3 * 12 * 2


def activate(folder: Path, which: int, start: Any, answer: Connection) -> None:
    world = LedgerWorld.make(folder, BOTH_SCOPES)
    change = world.ledger.changes(newest_first=False, limit=10)[which]
    start.wait()
    try:
        world.ledger.append([world.activation(change, "envelope")])
        answer.send("moved")
    except StaleChangeError as error:
        answer.send(str(error))
    world.close()


def test_of_two_processes_that_move_a_pointer_at_once_one_is_told_that_it_is_stale(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    world = LedgerWorld.make(home, BOTH_SCOPES)
    for name in ("one", "two"):
        world.ledger.append(world.change_drafts(name, scope="deployment", consequences=False))
    world.close()
    start, pipes = FORK.Barrier(2), [FORK.Pipe() for _ in range(2)]
    children = [in_child(activate, home, i + 1, start, pipe[1]) for i, pipe in enumerate(pipes)]
    answers = sorted(pipe[0].recv() for pipe in pipes)
    for child in children:
        child.join()
    assert answers[1] == "moved"
    assert "mass-gov changes rebase" in answers[0]
    world = LedgerWorld.make(home, BOTH_SCOPES)
    assert len(world.ledger.pointer_history("acme", "tutor")) == 1
    world.close()
    check(home)


def open_new(folder: Path, start: Any, answer: Connection) -> None:
    keys = KeyStore.open(folder / "keys", create=True)
    start.wait()
    with Ledger.open(address_of(folder), keys=keys, checkpoints=folder / "checkpoints", create=True) as ledger:
        answer.send(ledger.origin)


def test_processes_that_make_a_ledger_at_once_end_with_the_same(tmp_path: Path) -> None:
    address_of(tmp_path)
    start, pipes = FORK.Barrier(4), [FORK.Pipe() for _ in range(4)]
    children = [in_child(open_new, tmp_path, start, there) for _, there in pipes]
    origins = {here.recv() for here, _ in pipes}
    for child in children:
        child.join()
    assert len(origins) == 1
    assert [child.exitcode for child in children] == [0] * 4
    assert check(tmp_path) == 1
