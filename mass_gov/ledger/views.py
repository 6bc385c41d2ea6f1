"""What readers get: frozen values, one per thing that can be asked for. No SQL, no keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mass_gov.ledger.entries import Entry
from mass_gov.records.change import ChangeBody

Status = Literal["applied", "held", "pending", "rejected", "active", "rolled_back", "retired"]
"""Where a change stands. `applied`: its own answer is served. `active`: the pointer moved to it. `held`: a person
decides. `pending`: deployment scope, inside the envelope, and not activated yet. `retired`: it was active when its
pointer moved to another base model."""

Cause = Literal["envelope", "approval", "promotion", "rollback", "rebase"]


@dataclass(frozen=True, slots=True)
class Head:
    """The signed head of the log: `root` in hex, `note` the C2SP checkpoint."""

    origin: str
    size: int
    root: str
    note: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApprovalView:
    """One yes: log index, who, what for, and how many it takes."""

    index: int
    approver: str
    meaning: Literal["apply", "promote"]
    required: int
    self_approved: bool


@dataclass(frozen=True, slots=True)
class ChangeView:
    """A change and what became of it. Indices are log indices, None when it has not happened."""

    change_id: str
    status: Status
    entry: Entry
    body: ChangeBody
    approvals: tuple[ApprovalView, ...]
    activation_index: int | None
    rejection_index: int | None
    rollback_index: int | None

    @property
    def index(self) -> int:
        """Log index of its `change.recorded`."""
        return self.entry.index

    @property
    def place(self) -> tuple[str, str]:
        """Tenant and deployment."""
        return self.body.identity.tenant, self.body.identity.deployment


@dataclass(frozen=True, slots=True)
class PointerView:
    """Where a pointer stands. A pointer that never moved has neither state, change nor head: it means the base.

    Attributes:
        state: digest of the state; None when it never moved.
        change_id: the change whose delta makes that state; None for the base itself.
        head_index: log index of the event that last moved it.
        base_model: digest of the model that the state stands on; None when it never moved.
    """

    tenant: str
    deployment: str
    state: str | None
    change_id: str | None
    head_index: int | None
    base_model: str | None


@dataclass(frozen=True, slots=True)
class PointerMove:
    """One movement. `moved_by` was activated or rolled back; `from_change` and `to_change` made the two states.

    A move to another base model has no change behind it; `base_model` is what `to_state` stands on.
    """

    index: int
    tenant: str
    deployment: str
    cause: Cause
    moved_by: str | None
    from_head: int | None
    from_state: str
    from_change: str | None
    to_state: str
    to_change: str | None
    base_model: str


@dataclass(frozen=True, slots=True)
class PointerAsOf:
    """Where a pointer stood at another moment.

    Attributes:
        pointer: as `PointerView`; one that had not moved yet has neither state, change nor head.
        moved_at: the time that the movement's event says; None when it had not moved.
        twofold: the clock ran backwards around the time that was asked for, so that there is another reading of it.
    """

    pointer: PointerView
    moved_at: str | None
    twofold: bool


@dataclass(frozen=True, slots=True)
class StateView:
    """One state of a pointer's stack, and the active change that made it; None for the base model."""

    state: str
    change: ChangeView | None


@dataclass(frozen=True, slots=True)
class FreezeView:
    """A freeze of learning: of one deployment, or of the whole ledger by an event under tenant and deployment.

    Attributes:
        index: log index of the event that froze.
        cause: an operator, a monitor's alarm, or a regression test that failed after an activation.
        monitor: the window gate that raised the alarm.
        ended_index: log index of the event that ended it; None while it is in force.
    """

    index: int
    tenant: str
    deployment: str
    extent: Literal["deployment", "everywhere"]
    cause: Literal["operator", "monitor", "regression"]
    monitor: str | None
    frozen_by: str
    ended_index: int | None


@dataclass(frozen=True, slots=True)
class Registration:
    """A model, a suite, an activated policy or a proposal, by the event at `index`; `name` as in the schema."""

    index: int
    digest: str
    name: str | None


@dataclass(frozen=True, slots=True)
class ResponseView:
    """An answer that left the system."""

    response_id: str
    index: int
    change_id: str | None
    tenant: str
    deployment: str
    state: str
    served: Literal["adapted", "parent", "base", "unadapted"]
    subject: str | None
    """Whose data it is, of an answer with no update behind it; else it is the change's."""
