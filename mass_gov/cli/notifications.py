"""`mass-gov notify`, and what `solve` does of it in passing: tell the webhook what waits for a person. No torch."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Annotated

import typer

from mass_gov.cli.options import JsonFlag, settings
from mass_gov.cli.output import emit, grid, out, say, visible
from mass_gov.errors import InputError, MassGovError

if TYPE_CHECKING:
    from mass_gov.config import Settings
    from mass_gov.flows.notify import Notice

PASSING_SECONDS = 3.0
"""How long a command that is otherwise done waits for the webhook."""


def notify(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what waits to be told, and tell nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell the webhook what waits for a person and was not told yet, without waiting for the time of the next try.

    Exit status 6 when it is not taken; it stays in the outbox and is tried again.
    """
    from mass_gov.errors import OutageError
    from mass_gov.flows.notify import Flushed
    from mass_gov.wiring import outbox, read_ledger

    chosen = settings()
    box = outbox(chosen)
    if box is None:
        raise InputError("nobody is to be told: set MASS_GOV_WEBHOOK_URL and MASS_GOV_WEBHOOK_SECRET.")
    with read_ledger(chosen) as ledger:
        if dry_run:
            done = Flushed((), box.waiting(ledger), box.cursor(ledger.origin))
        else:
            done = box.flush(ledger, now=time.time(), force=True)
    told, waiting, error = done.told, done.waiting, done.cursor.last_error
    if as_json:
        shown = {"told": [_document(one) for one in told], "waiting": [_document(one) for one in waiting]}
        emit({**shown, "last_error": error})
    else:
        if told:
            _print(told, "told")
        if waiting:
            _print(waiting, "waits")
        else:
            say("nothing waits to be told.")
    if waiting and not dry_run:
        raise OutageError(f"{len(waiting)} notice(s) were not taken: {error or 'another process is telling them'}")


def tell_in_passing(chosen: Settings) -> None:
    """Tell the webhook what waits, for a few seconds at most and without ever failing what was done before."""
    if chosen.webhook_url is None:
        return
    worker = threading.Thread(target=_tell, args=(chosen,), daemon=True)
    worker.start()
    worker.join(PASSING_SECONDS)  # what is still under way then is told by the next command


def _tell(chosen: Settings) -> None:
    from mass_gov.wiring import outbox, read_ledger

    try:
        box = outbox(chosen)
        if box is None:
            return
        with read_ledger(chosen) as ledger:
            done = box.flush(ledger, now=time.time())
    except (MassGovError, OSError) as error:
        say(f"warning: the webhook was not told: {visible(str(error))}")
        return
    if done.waiting:
        why = done.cursor.last_error or "another process is telling it"
        say(f"note: the webhook was not told of {len(done.waiting)} thing(s) yet: {visible(why)}")


def _print(notices: tuple[Notice, ...], what: str) -> None:
    table = grid(what, "event", "change", "where", "since (UTC)")
    for one in notices:
        where = f"{one.tenant}/{one.deployment}"
        table.add_row(one.kind, str(one.index), one.change_id or "-", where, one.time[:16].replace("T", " "))
    out().print(table)


def _document(one: Notice) -> dict[str, object]:
    return {
        "event_id": one.event_id,
        "index": one.index,
        "type": one.kind,
        "change_id": one.change_id,
        "tenant": one.tenant,
        "deployment": one.deployment,
        "timestamp": one.time,
    }
