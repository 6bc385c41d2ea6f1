"""Work in processes of their own: in the order of the jobs, and one that dies costs its own job alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mass_gov.errors import InputError
from mass_gov.executors.processes import Died, in_processes


@contextmanager
def squaring() -> Iterator[Callable[[int], tuple[int, int]]]:
    def work(job: int) -> tuple[int, int]:
        if job == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        return job * job, os.getpid()

    yield work


@contextmanager
def not_opening() -> Iterator[Callable[[int], int]]:
    raise InputError("there is no such model. Name another.")
    yield int


@contextmanager
def failing_oddly() -> Iterator[Callable[[int], int]]:
    def work(job: int) -> int:
        raise ZeroDivisionError("odd")

    yield work


def test_results_come_in_order_and_a_killed_process_stops_nothing_else() -> None:
    found = list(in_processes(squaring, [3, 13, 5, 6], 2))
    assert found[1] == Died(-signal.SIGKILL)
    results = [one for one in found if not isinstance(one, Died)]
    assert [square for square, _ in results] == [9, 25, 36]
    assert os.getpid() not in {process for _, process in results}


def test_what_cannot_be_opened_is_raised_here() -> None:
    with pytest.raises(InputError, match="no such model"):
        list(in_processes(not_opening, [1, 2], 2))


def test_a_defect_of_the_work_is_told() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: odd"):
        list(in_processes(failing_oddly, [1], 1))


def test_nothing_to_do_starts_nothing() -> None:
    assert list(in_processes(not_opening, [], 4)) == []
