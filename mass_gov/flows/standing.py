"""Where a change stands in the log: read when it is decided, and before anything is computed for it.

Rules: the definitions are those of `mass_gov.policy.standing`. A request whose tenant has spent its budget, or whose
deployment cools down after a rollback, is refused before any work is done; `respond.adapt_or_respond` then answers it
un-adapted. The gates judge the same again when the change is recorded, because others may have spent meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from mass_gov.errors import PausedError
from mass_gov.flows.workbench import Origin, Workbench
from mass_gov.ledger import ChangeView, Ledger
from mass_gov.policy.gate_settings import Gates
from mass_gov.policy.standing import (
    CHANGES,
    COOLDOWN,
    DEPTH,
    FLOPS,
    FROM_THE_LOG,
    Standing,
    log_measures,
    since,
    spent_before,
)
from mass_gov.policy.update_measures import asked_for
from mass_gov.records.base import timestamp
from mass_gov.records.change import ChangeBody, Measure, Scope


@dataclass
class LogReading:
    """Reads the log once, when everything is computed and the decision is due."""

    scope: Scope
    origin: Origin
    bench: Workbench
    at: str = ""
    """When the change counts as recorded; set by `measures`."""
    size: int | None = field(default=None)
    """How much of the log was read; None where the policy asks for nothing of it."""

    def measures(self, flops: int) -> tuple[Measure, ...]:
        """What the log says of a change that cost `flops`."""
        asked = asked_for(self.bench.policy.document, self.scope)
        self.at = timestamp(self.bench.clock())
        if asked.isdisjoint(FROM_THE_LOG):
            return ()
        place = (self.bench.tenant, self.bench.deployment)
        standing = _read(self.origin.state, self.at, self.bench.ledger.size, asked, place, self.bench)
        self.size = standing.size
        return log_measures(standing, flops, asked)


def read_again(change: ChangeBody, bench: Workbench) -> tuple[Measure, ...]:
    """What the log said to a recorded change, from as much of the log as it names; `bench` has the recorded policy.

    What the change itself cost is taken from the record: a replay that starts late spends less.
    """
    identity, size = change.identity, change.log_size
    asked = asked_for(bench.policy.document, identity.scope)
    if size is None or asked.isdisjoint(FROM_THE_LOG):
        return ()
    place = (identity.tenant, identity.deployment)
    standing = _read(change.parents.parent_state, identity.recorded_at, size, asked, place, bench)
    return log_measures(standing, int(change.cost.flops), asked)


def refuse_paused(scope: Scope, bench: Workbench) -> None:
    """Refuse to learn for a tenant whose budget is spent, or in a deployment that cools down.

    The refusal is noted; a flood of them becomes few events (`Ledger.deny`).

    Raises:
        PausedError: with what has run out, and when it is there again.
    """
    gates = bench.policy.document.gates_for(scope)
    asked = {CHANGES, FLOPS} if gates.update_budget != "unused" else set()
    asked |= {COOLDOWN} if gates.update_cooldown != "unused" else set()
    if not asked:
        return
    place = (bench.tenant, bench.deployment)
    with bench.ledger.snapshot():
        standing = _read(bench.base_state, timestamp(bench.clock()), bench.ledger.size, asked, place, bench)
    if (why := _paused(standing, gates, bench)) is not None:
        bench.ledger.deny(bench.actor, "learn", (bench.tenant, bench.deployment))
        raise PausedError(why)


def _paused(standing: Standing, gates: Gates, bench: Workbench) -> str | None:
    budget, cooldown = gates.update_budget, gates.update_cooldown
    ends = "Wait until an hour after the oldest of them, or ask an operator for a wider policy."
    if budget != "unused":
        if standing.changes + 1 > budget.changes_per_hour:
            return (
                f"tenant {bench.tenant} has spent its {budget.changes_per_hour} changes of this hour "
                f"(policy {bench.policy.label}). {ends}"
            )
        if standing.flops >= budget.flops_per_hour:
            return (
                f"tenant {bench.tenant} has spent {standing.flops:.3g} of its {budget.flops_per_hour:.3g} FLOPs of "
                f"this hour (policy {bench.policy.label}). {ends}"
            )
    passed = standing.since_rollback
    if cooldown != "unused" and passed is not None and passed < cooldown.limit:
        return (
            f"{bench.tenant}/{bench.deployment} cools down after a rollback {passed:.0f} seconds ago (policy "
            f"{bench.policy.label} waits {cooldown.limit:.0f}). Try again in {cooldown.limit - passed:.0f} seconds."
        )
    return None


def _read(state: str, at: str, size: int, asked: Collection[str], place: tuple[str, str], bench: Workbench) -> Standing:
    """Read what is asked for of the first `size` events of the log; what is not asked for costs nothing."""
    ledger, (tenant, deployment) = bench.ledger, place
    budget = CHANGES in asked or FLOPS in asked
    changes, flops = spent_before(at, ledger.spending(tenant, size)) if budget else (0, 0)
    last = ledger.last_rollback(tenant, deployment, size) if COOLDOWN in asked else None
    depth = depth_of(state, bench.base_state, ledger) if DEPTH in asked else 0
    return Standing(at, size, depth, changes, flops, since(last, at))


def depth_of(state: str, base_state: str, ledger: Ledger) -> int:
    """How many self-generated updates a state stands on.

    A change that recorded its own depth is believed: `verify` derives it again.
    """
    depth = 0
    while state != base_state:
        made_by = ledger.change_of_state(state)
        if made_by is None:
            return depth  # an earlier base: a pointer's move to another model ends the line
        if (recorded := _recorded_depth(made_by)) is not None:
            return depth + recorded
        depth, state = depth + 1, made_by.body.parents.parent_state
    return depth


def _recorded_depth(change: ChangeView) -> int | None:
    found = (measure.value for measure in change.body.measures or () if measure.name == DEPTH)
    value = next(found, None)
    return None if value is None else int(value)
