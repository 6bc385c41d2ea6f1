"""What the log itself says about a change: how deep it stands on self-generated updates, what its tenant spent in the
last hour, and how long ago something was rolled back.

Definitions, which whoever holds the log can apply again (`mass_gov.flows.audit_standing`):

  1. All of it is read from the first `log_size` events, which the change names: what other processes recorded after
     that is not known to it.
  2. Generation depth of the base is 0; of any other state, 1 more than that of the state which the update started
     from. A change has the depth of the state that it makes.
  3. An hour's spending is that of the tenant's run of changes that ends at `log_size`, this one included: going back
     by index, the run ends before the first change that was recorded more than an hour before this one. Order is by
     index and only the length of the hour by the recorded times, so a clock that was set back refills no budget; one
     that jumps forward by more than an hour does, and is an alarm of its own.
  4. Since the last rollback: from the latest `change.rolled_back` event of a change of this deployment, in seconds by
     the two recorded times, and 0 where the clock ran backwards. Without any it is `NEVER`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mass_gov.records.change import Measure

HOUR = 3600.0
NEVER = 1e9
"""Seconds, 31.7 years: what the cooldown measures where nothing was ever rolled back."""

DEPTH, CHANGES, FLOPS, COOLDOWN = FROM_THE_LOG = (
    "update.generation_depth",
    "update.budget.changes",
    "update.budget.flops",
    "update.cooldown",
)
"""Measures that the log gives."""


@dataclass(frozen=True, slots=True)
class Spent:
    """One change of a tenant: when it was recorded, and what it cost."""

    recorded_at: str
    flops: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What the first `size` events of the log say to a change that is recorded at `at`.

    Attributes:
        depth: generation depth of the state that it starts from.
        changes, flops: what its tenant spent in the hour before, without it.
        since_rollback: seconds; None where nothing was rolled back.
    """

    at: str
    size: int
    depth: int
    changes: int
    flops: int
    since_rollback: float | None


def log_measures(standing: Standing, flops: int, names: Collection[str]) -> tuple[Measure, ...]:
    """The measures of `names` that the log gives a change that itself cost `flops`, by name as in a leaf."""
    depth, changes, since = standing.depth + 1, standing.changes + 1, standing.since_rollback
    figures = {
        DEPTH: (float(depth), depth),
        CHANGES: (float(changes), changes),
        FLOPS: (float(standing.flops + flops), changes),
        COOLDOWN: (NEVER, 0) if since is None else (since, 1),
    }
    return tuple(Measure(name=name, value=value, n=n) for name, (value, n) in sorted(figures.items()) if name in names)


def spent_before(at: str, newest_first: Iterable[Spent]) -> tuple[int, int]:
    """Changes and FLOPs of the run of definition 3, of a tenant's changes from the newest back."""
    changes = flops = 0
    now, hour = dt.datetime.fromisoformat(at), dt.timedelta(seconds=HOUR)
    for spent in newest_first:
        if now - dt.datetime.fromisoformat(spent.recorded_at) > hour:
            break
        changes, flops = changes + 1, flops + spent.flops
    return changes, flops


def since(rolled_back_at: str | None, at: str) -> float | None:
    """Seconds of definition 4."""
    return None if rolled_back_at is None else max(seconds(rolled_back_at, at), 0.0)


def seconds(earlier: str, later: str) -> float:
    """Seconds from one recorded time to another; negative where the clock ran backwards."""
    # Not `strptime`: an hour can hold thousands of changes, and every one of them asks for all of these.
    return (dt.datetime.fromisoformat(later) - dt.datetime.fromisoformat(earlier)).total_seconds()
