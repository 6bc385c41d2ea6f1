"""The queue before the learner's processes: full, abandoned, killed, drained. No learner is needed for any of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from mass_gov.errors import AbandonedError, InputError, OutageError, RefusedError
from mass_gov.executors.pool import FullError, Pool
from mass_gov.executors.worker import Work
from mass_gov.records.asked import Again, Asked, Given, Replay, Replayed
from mass_gov.records.events import Actor
from tests.fakes.http_server import wait_for

ADA = Actor(principal="ada", role="requester")
ID = "01900000-0000-7000-8000-000000000000"


def order(name: str) -> Replay:
    """An order that means `name` to the work below."""
    return Replay(actor=Actor(principal=name, role="auditor"), target=ID, start="scratch")


@contextmanager
def working(folder: Path) -> Iterator[Work]:
    """Does what the order's name says, and writes down that it began."""

    def work(asked: Asked, wanted: Callable[[], None]) -> Given | Replayed:
        name = asked.actor.principal
        count = folder / name
        begun = int(count.read_text()) if count.exists() else 0
        count.write_text(str(begun + 1))
        match name:
            case "dies" | "dies-once" if name == "dies" or begun == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            case "refused":
                raise RefusedError("it is not allowed. Ask for another.")
            case "defect":
                raise ZeroDivisionError("the secret of the defect")
            case "waits":
                while not (folder / "go").exists():
                    wanted()
                    time.sleep(0.01)
        return Replayed(said={"name": name, "process": os.getpid()})

    yield work


@contextmanager
def not_opening() -> Iterator[Work]:
    raise InputError("there is no such model. Name another.")
    yield None


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    made = Pool(partial(working, tmp_path), waiting=1)
    yield made
    (tmp_path / "go").touch()
    made.close()


def test_what_does_not_fit_is_refused_at_once(pool: Pool, tmp_path: Path) -> None:
    first = pool.submit(order("waits"))
    wait_for((tmp_path / "waits").exists)
    second = pool.submit(order("second"))
    with pytest.raises(FullError) as caught:
        pool.submit(order("third"))
    assert caught.value.seconds >= 1 and (pool.running, pool.waiting) == (1, 1)
    (tmp_path / "go").touch()
    assert first.future.result(30) and second.future.result(30)
    assert not (tmp_path / "third").exists()


def test_an_order_that_nobody_waits_for_is_given_up(pool: Pool, tmp_path: Path) -> None:
    running = pool.submit(order("waits"))
    wait_for((tmp_path / "waits").exists)
    queued = pool.submit(order("queued"))
    for ticket in (queued, running):
        pool.abandon(ticket)
        with pytest.raises(AbandonedError):
            ticket.future.result(30)
    assert pool.submit(order("next")).future.result(30)
    assert not (tmp_path / "queued").exists()


def test_what_a_killed_process_was_on_is_done_once_more_and_no_third_time(pool: Pool, tmp_path: Path) -> None:
    before = pool.submit(order("before")).future.result(30)
    after = pool.submit(order("dies-once")).future.result(30)
    assert isinstance(before, Replayed) and isinstance(after, Replayed)
    assert before.said["process"] != after.said["process"]
    with pytest.raises(OutageError, match="ended more than once"):
        pool.submit(order("dies")).future.result(30)
    assert (tmp_path / "dies").read_text() == "2"
    assert pool.submit(order("next")).future.result(30)


def test_a_refusal_keeps_its_kind_and_a_defect_keeps_its_words_to_itself(pool: Pool) -> None:
    with pytest.raises(RefusedError, match="not allowed"):
        pool.submit(order("refused")).future.result(30)
    with pytest.raises(RuntimeError) as caught:
        pool.submit(order("defect")).future.result(30)
    assert "ZeroDivisionError" in str(caught.value) and "secret" not in str(caught.value)


def test_draining_finishes_what_is_under_way_and_sends_the_rest_away(pool: Pool, tmp_path: Path) -> None:
    running = pool.submit(order("waits"))
    wait_for((tmp_path / "waits").exists)
    queued = pool.submit(Again(actor=ADA, change_id=ID))
    pool.drain()
    with pytest.raises(OutageError, match="about to stop"):
        queued.future.result(1)
    with pytest.raises(OutageError, match="about to stop"):
        pool.submit(order("late"))
    threading.Timer(0.1, (tmp_path / "go").touch).start()
    pool.close()
    assert running.future.result(0) and not pool.ready and pool.pids == []


def test_an_idle_process_that_dies_is_replaced_before_anybody_asks(pool: Pool) -> None:
    wait_for(lambda: pool.ready)
    (first,) = pool.pids
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: pool.pids not in ([], [first]) and pool.ready)


def test_what_cannot_be_opened_is_named_in_the_log_and_its_kind_alone_to_whoever_asks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = Pool(not_opening)
    wait_for(lambda: pool.fault is not None)
    assert pool.fault is not None and "no such model" not in pool.fault and "see the server's log" in pool.fault
    assert "no such model" in caplog.text and not pool.ready
    pool.close()
