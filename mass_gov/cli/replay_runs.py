"""Running replays for the command line: one or many, in this process or in several, each recorded as it is done.

Rules: whatever goes wrong with one of many is that one's row, with the exit status that its error has everywhere, and
the others go on. Only the process that was asked writes to the log, in the order of the log, whoever computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from mass_gov.cli import exits
from mass_gov.cli.output import one_line, say, visible
from mass_gov.documents.replays import replay_document
from mass_gov.errors import IntegrityError, MassGovError, ModelError, NotFoundError

if TYPE_CHECKING:
    from mass_gov.config import Settings
    from mass_gov.flows.replay_report import Replayed, Start
    from mass_gov.flows.replay_targets import Target
    from mass_gov.ledger import Ledger
    from mass_gov.records.events import Actor

WORST_FIRST = (
    exits.NO,
    exits.OTHER_ENVIRONMENT,
    exits.DEFECT,
    exits.OUTAGE,
    exits.REFUSED,
    exits.BAD_INPUT,
    exits.NOT_RETAINED,
)
"""What was found wrong, then what could not be found out, then what is gone by intent."""
Work = Callable[[str], "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """What came out of one of many: a replay, or the error that it ended with."""

    target: str
    status: int
    replayed: Replayed | None = None
    error: str = ""
    kind: str = ""

    @property
    def verdict(self) -> str:
        """The replay's; `not compared` where nothing was held against the record, `failed` after an error."""
        if self.replayed is None:
            return "failed"
        found = self.replayed
        return found.verdict if found.compared or found.verdict == "not replayable" else "not compared"

    @property
    def detail(self) -> str:
        """In words."""
        return self.replayed.detail if self.replayed is not None else self.error

    def document(self) -> dict[str, Any]:
        """As JSON: the fields of a single replay, or the error in their place."""
        if self.replayed is not None:
            return {**replay_document(self.replayed), "exit": self.status}
        error = exits.error_document(self.kind, self.error, self.status)
        return {"target": self.target, "verdict": "failed", "detail": self.error, "error": error, "exit": self.status}


def status_of(replayed: Replayed) -> int:
    """The exit status of one replay."""
    if replayed.verdict == "not replayable":
        return exits.NOT_RETAINED
    if replayed.verdict != "differs":
        return exits.DONE
    return exits.OTHER_ENVIRONMENT if replayed.fingerprint_differs else exits.NO


def worst_of(rows: Sequence[Row]) -> int:
    """The exit status of many."""
    statuses = {row.status for row in rows}
    return next((status for status in WORST_FIRST if status in statuses), exits.DONE)


@contextmanager
def replaying(chosen: Settings, start: Start) -> Iterator[Callable[[str], Replayed]]:
    """Open a ledger for reading and the model, and give what replays one thing by its id.

    Raises:
        ModelError: the model cannot be opened.
        IntegrityError: likewise, and its files are not those of any model that the ledger knows.
    """
    from mass_gov.records.settings import AdaptationSpec
    from mass_gov.wiring import open_workbench, read_ledger

    with read_ledger(chosen) as ledger:
        try:
            bench = open_workbench(chosen, AdaptationSpec(), existing=ledger)
        except ModelError as error:
            raise _altered(chosen, ledger, error) from error
        from mass_gov.flows.replay import replay  # after the bench, which says what to install where torch is absent

        yield lambda target: replay(target, start, bench)


@contextmanager
def working(chosen: Settings, start: Start) -> Iterator[Work]:
    """The same, where an error of one thing is what came out of it."""
    with replaying(chosen, start) as replay_one:

        def work(target: str) -> Row:
            try:
                replayed = replay_one(target)
            except NotFoundError as error:  # it was found in the log
                what = f"the log records it, and the tables that derive from the log do not: {error}"
                return Row(target, exits.NO, error=what, kind=IntegrityError.__name__)
            except Exception as error:
                return _failed(target, error)
            return Row(target, status_of(replayed), replayed)

        yield work


def run_all(
    chosen: Settings, targets: Sequence[Target], start: Start, processes: int, ledger: Ledger, who: Actor | None
) -> Iterator[Row]:
    """Replay each of `targets`, in their order, and record it where `who` asks for that.

    Arguments:
        processes: how many; of one, it is this process.
    """
    wanted = [target.name for target in targets if not target.fault]
    results = _rows(partial(working, chosen, start), wanted, processes)
    for target in targets:
        if target.fault:
            yield Row(target.name, exits.NO, error=target.fault, kind=IntegrityError.__name__)
            continue
        row = next(results)
        if row.replayed is not None and who is not None:
            record(row.replayed, ledger, who)
        yield row


def record(replayed: Replayed, ledger: Ledger, who: Actor) -> None:
    """Say in the log that it was done; the report stands also where that fails."""
    from mass_gov.flows.replay import record_replay

    if not replayed.compared:
        what = f"{replayed.target} was not compared, so the log says nothing of this replay."
        say(f"note: {what} {visible(replayed.detail)}")
        return
    try:
        record_replay(replayed, ledger, who)
    except (MassGovError, OSError) as error:
        say(f"warning: this replay is not in the log: {visible(exits.message_of(error))} The report below stands.")


def _rows(opening: Any, targets: Sequence[str], processes: int) -> Iterator[Row]:
    if not targets:
        return
    if processes == 1:
        with opening() as work:
            yield from map(work, targets)
        return
    from mass_gov.executors.processes import Died, in_processes

    for target, found in zip(targets, in_processes(opening, targets, processes), strict=True):
        yield _died(target, found.status) if isinstance(found, Died) else found


def _failed(target: str, error: Exception) -> Row:
    status = exits.status_of(error)
    message = exits.message_of(error)
    if status == exits.DEFECT:
        message = f"unexpected {type(error).__name__}: {one_line(message, 300) or 'no message'}. This is a defect."
    return Row(target, status, error=message, kind=type(error).__name__)


def _died(target: str, status: int | None) -> Row:
    how = f"by signal {-status}" if status is not None and status < 0 else f"with status {status}"
    message = f"the process that replayed it ended {how}. Replay it alone, with memory to spare."
    return Row(target, exits.OUTAGE, error=message, kind="OutageError")


def _altered(chosen: Settings, ledger: Ledger, error: ModelError) -> MassGovError:
    """A model that cannot be opened and is none that the ledger knows was altered, or is another's."""
    from mass_gov.mass.model_folder import base_digest
    from mass_gov.wiring import model_folder

    folder = model_folder(chosen)
    if not folder.is_dir() or ledger.has_model(digest := base_digest(folder)):
        return error
    return IntegrityError(f"the base model in {folder} is {digest[:12]}, which no change here was made with: {error}")
