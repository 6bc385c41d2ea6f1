"""The same work on many jobs, in processes of their own.

Rules: processes are started anew and not forked, so that none inherits a lock, a connection or another's thread
settings; each opens what it needs for itself, once. Results come back in the order of the jobs. A process that is
killed costs the one job that it was on, which comes back as `Died`, and another takes its place. An error of the
opening is raised here; the work itself is expected to return its errors.

This module does not know what the work is.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from mass_gov.errors import MassGovError, OutageError

Job = TypeVar("Job")
Result = TypeVar("Result")
Opening = Callable[[], AbstractContextManager[Callable[[Job], Result]]]
"""Opens what the work needs, and gives the work. It travels to another process, so it is a function of a module."""
_PATIENCE = 5.0
"""Seconds that a process may take to end after its last job."""


@dataclass(frozen=True, slots=True)
class Died:
    """A process ended while it was on a job; `status` is what the system says of it, negative for a signal."""

    status: int | None


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    job: int = -1


def in_processes(opening: Opening[Job, Result], jobs: Sequence[Job], processes: int) -> Iterator[Result | Died]:
    """Do every job, and give the results in the order of the jobs as soon as that order allows.

    Raises:
        Exception: what the opening raised, in any of the processes.
    """
    done: dict[int, Result | Died] = {}
    ahead, position = iter(range(len(jobs))), 0
    workers = [_start(opening) for _ in range(min(processes, len(jobs)))]
    try:
        for worker in workers:
            _give(worker, next(ahead, None), jobs)
        while position < len(jobs):
            while position in done:
                yield done.pop(position)
                position += 1
            for place in _ready(workers):
                found = done[workers[place].job] = _result(workers[place])
                if isinstance(found, Died):
                    workers[place] = _start(opening)
                _give(workers[place], next(ahead, None), jobs)
    finally:
        for worker in workers:
            _end(worker)


def _ready(workers: Sequence[_Worker]) -> list[int]:
    """Places of the workers that have something to say, or will never again."""
    busy = {worker.connection: place for place, worker in enumerate(workers) if worker.job >= 0}
    return sorted(busy[found] for found in wait(list(busy)) if isinstance(found, Connection)) if busy else []


def _start(opening: Opening[Any, Any]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, opening), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process is the end of the line
    return _Worker(process, ours)


def _give(worker: _Worker, job: int | None, jobs: Sequence[Any]) -> None:
    worker.job = -1 if job is None else job
    if job is not None:
        with suppress(OSError):  # it died meanwhile: reading from it says so
            worker.connection.send(jobs[job])


def _result(worker: _Worker) -> Any:
    try:
        found, error = worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join(_PATIENCE)
        return Died(worker.process.exitcode)
    if error is not None:
        raise error
    return found


def _end(worker: _Worker) -> None:
    """Let a process that waits for a job end by itself; one that is on a job is ended."""
    worker.connection.close()
    if worker.job >= 0:
        worker.process.terminate()
    worker.process.join(_PATIENCE)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


def _serve(connection: Connection, opening: Opening[Any, Any]) -> None:
    """Run in the other process: one job after the other, until there is no more line to the one that gives them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this process hears it too, and ends it
    try:
        with opening() as work:
            for job in _jobs(connection):
                connection.send((work(job), None))
    except Exception as error:
        with suppress(OSError):  # nobody is there any more to hear of it
            connection.send((None, _portable(error)))


def _jobs(connection: Connection) -> Iterator[Any]:
    """What is asked of this process, until nobody asks any more."""
    with suppress(EOFError, OSError):
        while True:
            yield connection.recv()


def _portable(error: Exception) -> Exception:
    """The error itself where it is one of ours, which can travel; else one that says what it said."""
    if isinstance(error, MassGovError):
        return error
    what = f"{type(error).__name__}: {str(error)[:300]}"
    return OutageError(f"{what}. Try again.") if isinstance(error, OSError) else RuntimeError(what)
