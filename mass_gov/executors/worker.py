"""One process that does the work, and the line to it: messages of bytes, never pickled objects.

Rules: the process is started anew and not forked. It opens what it needs once, says that it is ready, and does one
order at a time; while it is on one, a thread of it listens for the word that nobody wants that one any more. It hears
no SIGINT and no SIGTERM, which are for whoever started it, and ends when the line to that one ends: at the next stage
where nothing was decided yet. A process that died is told by `Died`, whatever it died of.

This module does not know what the work is, nor what the messages say besides `records.asked.Order` and `Reply`.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from multiprocessing.connection import Connection

from mass_gov import errors
from mass_gov.errors import AbandonedError, MassGovError, OutageError
from mass_gov.records.asked import Asked, Fault, Given, Order, Replayed, Reply

Work = Callable[[Asked, Callable[[], None]], Given | Replayed]
"""Does what was asked. The second argument raises AbandonedError where nobody wants it any more."""
Opening = Callable[[], AbstractContextManager[Work]]
"""Opens what the work needs. It travels to the process, so it is a function of a module."""
PATIENCE = 10.0
"""Seconds that the process may take to end after its last order."""


class Died(Exception):  # noqa: N818 - it is no error of this program's
    """The process ended while something was asked of it; `status` is negative for a signal."""

    def __init__(self, status: int | None) -> None:
        self.status = status
        super().__init__(f"by signal {-status}" if status is not None and status < 0 else f"with status {status}")


class Worker:
    """A process at work. `do` and `opened` are for one thread; `abandon` and `alive` are for any."""

    def __init__(self, opening: Opening) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        self._sending = threading.Lock()
        self._process = context.Process(target=_main, args=(theirs, opening), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the line

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def opened(self) -> None:
        """Wait until the process is ready.

        Raises:
            MassGovError: what it opens cannot be opened.
            Died: it ended before.
        """
        _told(self._reply())

    def do(self, number: int, asked: Asked) -> Given | Replayed:
        """Have one order done.

        Raises:
            MassGovError: it cannot be done as asked.
            Died: the process ended first.
        """
        self._send(Order(number=number, asked=asked))
        return _told(self._reply())

    def abandon(self, number: int) -> None:
        """Say that nobody waits for an order any more; what is decided by then is finished."""
        with suppress(Died):
            self._send(Order(number=number))

    def close(self) -> None:
        """End the process: after its order, or where that takes long, now. What is written whole stays."""
        self._line.close()
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _send(self, order: Order) -> None:
        try:
            with self._sending:
                self._line.send_bytes(order.model_dump_json().encode())
        except (OSError, ValueError) as error:
            raise self._died() from error

    def _reply(self) -> Reply:
        try:
            return Reply.model_validate_json(self._line.recv_bytes())
        except (EOFError, OSError) as error:
            raise self._died() from error

    def _died(self) -> Died:
        self._process.join(PATIENCE)
        return Died(self._process.exitcode)


def _told(reply: Reply) -> Given | Replayed:
    if reply.fault is not None:
        raise _error(reply.fault)
    return reply.given or reply.replayed or Replayed(said={})


def _error(fault: Fault) -> Exception:
    """The error that was told; what is none of this program's is a defect."""
    kind = getattr(errors, fault.kind, None)
    if isinstance(kind, type) and issubclass(kind, MassGovError):
        return kind(fault.message)
    return RuntimeError(f"{fault.kind} in the learner's process")


class _Inbox:
    """What comes over the line, read by a thread of its own: the next order, and which ones nobody wants any more."""

    def __init__(self, line: Connection) -> None:
        self.orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._line, self._unwanted, self._gone = line, set[int](), False
        threading.Thread(target=self._listen, name="inbox", daemon=True).start()

    def wanted(self, number: int) -> None:
        """Raises AbandonedError where nobody waits for an order any more."""
        if self._gone or number in self._unwanted:
            raise AbandonedError("whoever asked is gone, and nothing was decided yet. Ask again.")

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                order = Order.model_validate_json(self._line.recv_bytes())
                if order.asked is None:
                    self._unwanted = {order.number}  # only the order at work can be given up here
                else:
                    self.orders.put(order)
        self._gone = True
        self.orders.put(None)


def _main(line: Connection, opening: Opening) -> None:
    """Run in the process: one order after the other, until the line ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    inbox = _Inbox(line)
    try:
        with opening() as work:
            _send(line, Reply(number=None))
            while (order := inbox.orders.get()) is not None:
                _send(line, _done(order, work, inbox))
    except Exception as error:
        _send(line, Reply(number=None, fault=_fault(error)))


def _done(order: Order, work: Work, inbox: _Inbox) -> Reply:
    try:
        if order.asked is None:
            raise ValueError("an order without work")
        result = work(order.asked, lambda: inbox.wanted(order.number))
    except Exception as error:
        return Reply(number=order.number, fault=_fault(error))
    if isinstance(result, Given):
        return Reply(number=order.number, given=result)
    return Reply(number=order.number, replayed=result)


def _send(line: Connection, reply: Reply) -> None:
    with suppress(OSError):  # whoever asked is gone: there is nobody to tell
        line.send_bytes(reply.model_dump_json().encode())


def _fault(error: Exception) -> Fault:
    """What travels of an error. The words of one that is not ours may hold contents, and stay here."""
    if isinstance(error, MassGovError):
        return Fault(kind=type(error).__name__, message=str(error)[:4000])
    if isinstance(error, OSError):
        return Fault(kind=OutageError.__name__, message=f"{error.strerror or type(error).__name__}. Try again.")
    return Fault(kind=type(error).__name__[:100], message="")
