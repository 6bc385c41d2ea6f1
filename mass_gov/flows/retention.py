"""How long a log is kept: nothing drops events, and a sealed log is discarded only when its time is over.

Rules: no command takes an event out of a log; the tables refuse it, and every proof would show it. What can go, whole,
is the file of a log that was sealed and succeeded, once its last event is older than the retention. Erasing a person's
data is no matter of retention: events stay, their contents go (`flows.erase`). At least six months is what the EU's AI
Act asks of the logs of high-risk systems (Regulation (EU) 2024/1689, Art. 19(1) and 26(6)); the setting is never less.

This module believes the times that the log itself states, which are its operator's.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from mass_gov.errors import InputError, RefusedError
from mass_gov.evidence.keyfiles import sync_folder
from mass_gov.ledger import Ledger


def discard(sealed: Path, retention_days: int, now: dt.datetime) -> dt.datetime:
    """Remove the file of a sealed log whose time is over; returns until when it had to be kept.

    Raises:
        InputError: it is no sealed log.
        RefusedError: its retention is not over.
        IntegrityError: it cannot be read, so nobody knows how old it is.
    """
    if not sealed.is_file() or not sealed.stem.endswith(".sealed"):
        raise InputError(
            f"{sealed} is no sealed log, and events of a log that goes on are never dropped. `mass-gov log succeed` "
            "seals one, and says under which name it is kept."
        )
    until = kept_until(sealed, retention_days)
    if now < until:
        raise RefusedError(
            f"{sealed.name} has to be kept until {until:%Y-%m-%d}, {retention_days} days after its last event "
            "(MASS_GOV_RETENTION_DAYS). To make a person's data unreadable before, erase the subject."
        )
    sealed.unlink()
    sync_folder(sealed.parent)
    return until


def kept_until(log: Path, retention_days: int) -> dt.datetime:
    """When the retention of a log's last event is over."""
    with Ledger.open(log, keys=None, checkpoints=log.with_name(".none")) as ledger:
        newest = max(dt.datetime.fromisoformat(entry.predicate.time) for entry in ledger.entries())
    return newest + dt.timedelta(days=retention_days)
