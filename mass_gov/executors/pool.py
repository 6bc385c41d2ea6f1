"""A bounded queue before processes that do the work; nothing about a change is kept here.

Rules:

- what does not fit into the queue is refused at once, with how long the wait would be
- whoever is gone takes their order along: out of the queue, or, where it is under way, at the next stage (`Worker`)
- a process that dies is started anew, and its order is given once more: an order is found in the ledger under its task
  id, so that what was recorded before the death is served and not made a second time. An order that two processes died
  on is an outage
- `drain` answers what waits with an outage and lets what is under way finish; `close` waits for that

Threads, one a process, so that neither the server's event loop nor the ledger waits for the learner.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from mass_gov.errors import AbandonedError, MassGovError, OutageError
from mass_gov.executors.worker import Died, Opening, Worker
from mass_gov.records.asked import Asked, Given, Replayed

_log = logging.getLogger("mass_gov.learner")
ATTEMPTS = 2
"""Processes that an order may cost."""
_IDLE = 1.0
"""Seconds between two looks at whether an idle process still lives."""
_PAUSE = 5.0
"""Seconds before a process is started again where one could not be opened."""


class FullError(Exception):
    """The queue holds as many as it may; `seconds` is how long the wait would be."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(f"the queue is full for about {seconds} s")


class Watcher(Protocol):
    """Is told what happens; the server counts it."""

    def restarted(self) -> None:
        """A process died and another takes its place."""

    def cancelled(self, where: str) -> None:
        """An order was given up, `queued` or `running`."""


class _Nobody:
    def restarted(self) -> None: ...

    def cancelled(self, where: str) -> None: ...


@dataclass(eq=False)
class Ticket:
    """An order that was taken. `future` has what comes of it."""

    number: int
    asked: Asked
    future: Future[Given | Replayed] = field(default_factory=Future)
    lane: _Lane | None = None
    gone: bool = False


class Pool:
    """The queue and its processes.

    Arguments:
        opening: what each process opens.
        processes: how many.
        waiting: how many orders may wait beside those under way.
    """

    def __init__(
        self, opening: Opening, *, processes: int = 1, waiting: int = 16, watcher: Watcher | None = None
    ) -> None:
        self.limit = waiting
        self.watcher: Watcher = watcher or _Nobody()
        self._opening = opening
        self._queue: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._numbers, self._seconds, self._open = 0, 2.0, True
        self._lanes = [_Lane(self, opening) for _ in range(processes)]
        for lane in self._lanes:
            lane.start()

    @property
    def waiting(self) -> int:
        """Orders that no process is on yet."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Orders under way."""
        return sum(lane.busy for lane in self._lanes)

    @property
    def ready(self) -> bool:
        """Whether some process is open and orders are taken."""
        return self._open and any(lane.opened for lane in self._lanes)

    @property
    def fault(self) -> str | None:
        """Why no process could be opened, where that is so."""
        return next((lane.fault for lane in self._lanes if lane.fault is not None), None)

    @property
    def pids(self) -> list[int]:
        """The processes' ids."""
        return [lane.worker.pid for lane in self._lanes if lane.worker is not None and lane.worker.pid is not None]

    def submit(self, asked: Asked) -> Ticket:
        """Take an order.

        Raises:
            FullError: the queue is full.
            OutageError: the server is about to stop.
        """
        with self._changed:
            if not self._open:
                raise _stopping()
            if len(self._queue) >= self.limit:
                raise FullError(self._wait())
            self._numbers += 1
            ticket = Ticket(self._numbers, asked)
            self._queue.append(ticket)
            self._changed.notify()
        return ticket

    def abandon(self, ticket: Ticket) -> None:
        """Give up an order that nobody waits for any more, as far as it is not decided."""
        with self._changed:
            if ticket.future.done():
                return
            ticket.gone = True
            queued = ticket in self._queue
            if queued:
                self._queue.remove(ticket)
                ticket.future.set_exception(AbandonedError("whoever asked is gone. Ask again."))
            worker = ticket.lane.worker if ticket.lane is not None else None
        self.watcher.cancelled("queued" if queued else "running")
        if worker is not None:
            worker.abandon(ticket.number)

    def drain(self) -> None:
        """Take nothing more: what waits is told to come back, what is under way goes on."""
        with self._changed:
            self._open = False
            waiting, self._queue = list(self._queue), deque()
            self._changed.notify_all()
        for ticket in waiting:
            ticket.future.set_exception(_stopping())

    def close(self) -> None:
        """Drain, wait for what is under way, and end the processes."""
        self.drain()
        for lane in self._lanes:
            lane.join()

    def next(self) -> Ticket | None:
        """For a lane: the next order, or None after a while, or when there will be none any more."""
        with self._changed:
            if not self._queue and self._open:
                self._changed.wait(_IDLE)
            return self._queue.popleft() if self._queue else None

    @property
    def open(self) -> bool:
        """Whether orders are taken."""
        return self._open

    def took(self, seconds: float) -> None:
        """For a lane: how long an order took, for how long the next ones will wait."""
        self._seconds += (seconds - self._seconds) / 4

    def pause(self, seconds: float) -> None:
        """For a lane: wait, unless the pool closes."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open, seconds)

    def _wait(self) -> int:
        """Seconds until a place is free, as far as the orders before tell."""
        return max(1, math.ceil(self._seconds / len(self._lanes)))


class _Lane(threading.Thread):
    """A thread and its process."""

    def __init__(self, pool: Pool, opening: Opening) -> None:
        super().__init__(name="learner", daemon=True)
        self._pool, self._opening = pool, opening
        self.worker: Worker | None = None
        self.opened, self.busy, self.fault = False, False, None

    fault: str | None

    def run(self) -> None:
        """Serve orders until the pool closes."""
        while self._pool.open:
            if not self._ensure():
                self._pool.pause(_PAUSE)
            elif (ticket := self._pool.next()) is not None:
                self._serve(ticket)
        self._end()

    def _ensure(self) -> bool:
        """Whether there is an open process; a dead one is replaced."""
        if self.worker is not None and self.worker.alive and self.opened:
            return True
        died = self.worker is not None
        self._end()
        if died:
            self._pool.watcher.restarted()
        try:
            self.worker = Worker(self._opening)
            self.worker.opened()
        except Exception as error:  # the model, the ledger, a process that cannot start: the next attempt may
            _log.error("learner not opened: %s", error if isinstance(error, MassGovError) else type(error).__name__)
            self.fault = f"it cannot be opened ({type(error).__name__}): see the server's log"
            self._end()
            return False
        self.opened, self.fault = True, None
        return True

    def _serve(self, ticket: Ticket) -> None:
        self.busy, started = True, time.monotonic()
        try:
            self._finish(ticket, lambda: self._attempts(ticket))
        finally:
            self.busy = False
            self._pool.took(time.monotonic() - started)

    def _attempts(self, ticket: Ticket) -> Given | Replayed:
        for _ in range(ATTEMPTS):
            if not self._ensure() or self.worker is None:
                break
            ticket.lane = self
            if ticket.gone:
                raise AbandonedError("whoever asked is gone. Ask again.")
            with suppress(Died):
                return self.worker.do(ticket.number, ticket.asked)
        raise OutageError("the learner's process ended more than once over this. Try again later.")

    def _finish(self, ticket: Ticket, work: Callable[[], Given | Replayed]) -> None:
        try:
            result = work()
        except Exception as error:
            ticket.future.set_exception(error)
        else:
            ticket.future.set_result(result)

    def _end(self) -> None:
        if self.worker is not None:
            self.worker.close()
        self.worker, self.opened = None, False


def _stopping() -> OutageError:
    return OutageError("this server is about to stop. Ask again in a moment, or another one.")
