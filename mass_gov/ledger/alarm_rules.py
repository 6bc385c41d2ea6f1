"""An alarm and its freeze belong together: the event after a change that failed a window gate stops learning.

Rules, checked at the end of every append and again by `verify`:

- a change with a failed window gate is followed, as the very next event, by the freeze of its deployment that names the
  first such gate and the change's policy
- a freeze that a monitor caused stands right behind such a change, and nowhere else

This module does not know what is measured (`mass_gov.policy.monitors`), nor who may end a freeze.
"""

from __future__ import annotations

from collections.abc import Sequence

from mass_gov.errors import RefusedError
from mass_gov.ledger.entries import Entry
from mass_gov.policy.monitors.windows import alarm_of
from mass_gov.records.events import ChangeRecorded, ControlFrozen


def check_alarms(entries: Sequence[Entry]) -> None:
    """Check the events of one append, in their order.

    Raises:
        RefusedError: an alarm without its freeze, or a monitor's freeze without its alarm.
    """
    due: tuple[str, ...] | None = None
    for entry in entries:
        _check(entry, due)
        due = _freeze_due(entry)
    if due is not None:
        raise RefusedError(f"The append ends with an alarm of {due[-2]} and no freeze. Append both together.")


def _check(entry: Entry, due: tuple[str, ...] | None) -> None:
    """A freeze is due behind an alarm and, from a monitor, nowhere else."""
    if due is not None and _said(entry) != due:
        raise RefusedError(
            f"Event {entry.index}: {due[-2]} raised an alarm, and this is not the freeze for it. Append both together."
        )
    body = entry.predicate.body
    if due is None and isinstance(body, ControlFrozen) and body.cause == "monitor":
        raise RefusedError(
            f"Event {entry.index}: learning is frozen for the alarm of a monitor, and the event before raised none. "
            "Freeze it as an operator."
        )


def _freeze_due(entry: Entry) -> tuple[str, ...] | None:
    """Tenant, deployment, extent, cause, monitor and policy of the freeze that has to follow."""
    body = entry.predicate.body
    alarm = alarm_of(body.change) if isinstance(body, ChangeRecorded) else None
    if alarm is None or not isinstance(body, ChangeRecorded):
        return None
    place = (entry.predicate.tenant, entry.predicate.deployment)
    return (*place, "deployment", "monitor", alarm, body.change.parents.policy)


def _said(entry: Entry) -> tuple[str | None, ...] | None:
    body = entry.predicate.body
    if not isinstance(body, ControlFrozen):
        return None
    place = (entry.predicate.tenant, entry.predicate.deployment)
    return (*place, body.extent, body.cause, body.monitor, body.policy)
