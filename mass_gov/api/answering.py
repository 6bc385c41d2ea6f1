"""The way from a route to the process that holds the learner: an order, its answer, and a caller who may go away.

Rules: nothing here waits in a thread, however long an adaptation takes. Whoever goes away takes their order along as
far as it is not decided. Before the log was verified at start, and after it was found wrong, nothing is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from mass_gov.api.problems import Problem
from mass_gov.executors.pool import FullError, Pool, Ticket
from mass_gov.records.asked import Again, Asked, Given, Replay, Replayed, Solve
from mass_gov.records.events import Actor


@dataclass(frozen=True)
class Answering:
    """What answers: the pool of learners, for one deployment of one tenant.

    Attributes:
        unrecorded: whether un-adapted answers go on, marked and unrecorded, while the ledger cannot be written.
        verified: whether the log was found intact at start; asked before every order.
    """

    pool: Pool
    tenant: str
    deployment: str
    unrecorded: bool
    verified: Callable[[], bool]

    async def ask(self, asked: Solve | Again, request: Request) -> Given:
        """Have something done for a caller.

        Raises:
            MassGovError: it cannot be done as asked; AbandonedError where the caller went away in time.
            Problem: the queue is full.
        """
        ticket = self._submit(asked)
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def ring(_: object) -> None:
            with suppress(RuntimeError):  # the loop is gone with the server
                loop.call_soon_threadsafe(done.set)

        ticket.future.add_done_callback(ring)
        waiting = [asyncio.ensure_future(done.wait()), asyncio.ensure_future(_gone(request))]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not done.is_set():
                request.state.abandoned = True
                self.pool.abandon(ticket)
                await waiting[0]  # given up, or decided in that moment and recorded
        except asyncio.CancelledError:
            self.pool.abandon(ticket)
            raise
        finally:
            for one in waiting:
                one.cancel()
        result = ticket.future.result()
        if isinstance(result, Replayed):
            raise TypeError("an answer was asked for, and a replay came")
        return result

    def replay(self, target: str, start: str, actor: Actor) -> dict[str, Any]:
        """Replay a change or a response: for a route that waits in a thread (`service.Replayer`)."""
        ticket = self._submit(Replay(actor=actor, target=target, start=start))
        result = ticket.future.result()
        return result.said if isinstance(result, Replayed) else {}

    def _submit(self, asked: Asked) -> Ticket:
        if not self.verified():
            raise Problem("unavailable", "The log is not verified yet, see /readyz. Ask again.", headers=_soon(5))
        try:
            return self.pool.submit(asked)
        except FullError as full:
            raise Problem(
                "too-many-requests",
                "The queue before the learner is full. Wait as long as Retry-After says.",
                headers=_soon(full.seconds),
            ) from None


async def _gone(request: Request) -> None:
    """Return when the caller has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _soon(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}
