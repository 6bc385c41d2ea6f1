"""Many callers, one commit: concurrent appends of a process are collected and written as one group (decision 0014).

Rules:

- there is no thread of its own: of the callers that wait, the first one leads. It writes its own turn and every turn
  that arrives while it writes, up to `MOST_TURNS`; the next in line leads the next group
- the order of turns is the order of arrival, and so the order of the log
- a caller gets back its own entries once they are durable, or its own error; what a rule refuses to one fails no other
- a group whose commit fails, fails whole: every caller in it is told so, and none of their events stands
- whatever ends a leader, followers neither hang nor lose their turn: those of its group are told what became of them,
  and the others get another leader

This module does not know what a turn writes, nor where.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from mass_gov.errors import LedgerUnavailableError, MassGovError
from mass_gov.ledger.entries import Entry
from mass_gov.records.drafts import EventDraft

MOST_TURNS = 512
"""Turns in one group: the first of them does not wait for ever while others keep arriving."""


@dataclass(slots=True, eq=False)
class Turn:
    """What one caller wants written, and what became of it.

    Attributes:
        drafts: to be written, all or none.
        entries: what was written; it stands once the group is committed.
        error: why nothing was.
    """

    drafts: Sequence[EventDraft]
    entries: list[Entry] = field(default_factory=list)
    error: BaseException | None = None
    _leads: bool = False
    _group: list[Turn] = field(default_factory=list)
    """Of a leader: the turns that it took, its own among them."""
    _awake: threading.Lock = field(default_factory=threading.Lock)

    def refuse(self, error: BaseException) -> None:
        """Nothing of this turn is written, whatever becomes of its group."""
        self.entries, self.error = [], error

    def outcome(self) -> list[Entry]:
        """The entries, or the error that is the caller's own.

        Raises:
            BaseException: `error`.
        """
        if self.error is not None:
            raise self.error
        return self.entries


Commit = Callable[[Iterator[Turn]], None]
"""Write the turns that come and commit them as one; sets `entries` or `error` of each. Returns when all of it is
durable, and raises when nothing of it is, or when that is not known."""

Stands = Callable[[Entry], bool]
"""Whether an entry stands in the log: asked after a commit that was broken off, which may have come through."""


class Sequencer:
    """The queue before the log. Thread-safe; nothing of it outlives its callers."""

    def __init__(self, commit: Commit, stands: Stands) -> None:
        self._commit, self._stands = commit, stands
        self._mutex = threading.Lock()
        self._waiting: deque[Turn] = deque()
        self._led = False
        """Whether some caller leads, or was woken to."""

    def append(self, drafts: Sequence[EventDraft]) -> list[Entry]:
        """Write drafts, all or none; returns their entries once they are durable.

        Raises:
            MassGovError: what a rule refused to these drafts, or why the group was not committed.
        """
        turn = Turn(drafts)
        turn._awake.acquire()  # released by whoever settles the turn, or hands it the lead
        try:
            self._join(turn)
            if not turn._leads:
                turn._awake.acquire()
            if turn._leads:
                self._commit(self._turns(turn._group))
        except BaseException as error:
            self._step_back(turn, error)
            if turn.error is None and not isinstance(error, MassGovError):
                raise  # it stands, or another leads it; what was raised was meant for this thread all the same
        else:
            self._step_back(turn, None)
        return turn.outcome()

    def _join(self, turn: Turn) -> None:
        with self._mutex:
            self._waiting.append(turn)
            if not self._led:  # then nobody waits: the leader's turn is always the first
                self._led = turn._leads = True

    def _turns(self, group: list[Turn]) -> Iterator[Turn]:
        """Who waits, the leader first, and who comes while the others are written."""
        while len(group) < MOST_TURNS:
            with self._mutex:
                if not self._waiting:
                    return
                turn = self._waiting.popleft()
                group.append(turn)
            yield turn

    def _step_back(self, turn: Turn, error: BaseException | None) -> None:
        """Leave the queue; a leader tells its group what became of it, and hands on the lead."""
        if error is not None and turn._leads:
            self._break_off(turn, error)
        with self._mutex:
            if turn in self._waiting:  # interrupted, or failed before the first turn was taken: nothing was written
                self._waiting.remove(turn)
            if not turn._leads:
                return
            for one in turn._group:
                if one is not turn and one._awake.locked():
                    one._awake.release()
            turn._leads = False
            self._led = bool(self._waiting)
            if self._waiting:
                self._waiting[0]._leads = True
                self._waiting[0]._awake.release()

    def _break_off(self, leader: Turn, error: BaseException) -> None:
        """Tell the group of a commit that failed. It is one transaction: if its last entry stands, all of it does."""
        written = [entry for turn in leader._group for entry in turn.entries]
        if written and self._stands(written[-1]):
            return
        for turn in {leader, *leader._group}:
            if turn.error is None:
                turn.refuse(error if turn is leader else _told(error))


def _told(error: BaseException) -> BaseException:
    """The leader's error for one of its followers: an instance of its own, since each is raised in its own thread."""
    if isinstance(error, MassGovError):
        told: MassGovError = type(error)(str(error))
    else:
        told = LedgerUnavailableError(
            f"The commit that this event was part of was broken off ({type(error).__name__}), and nothing of it was "
            "written. Append it again."
        )
    told.__cause__ = error
    return told
