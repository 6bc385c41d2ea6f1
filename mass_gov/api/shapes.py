"""What the answers of each operation look like, for the OpenAPI document: no answer is validated twice.

The tests hold answers to these (Schemathesis). What records hold is described in docs/reference/events.md. Lists of
which `fields=` may leave parts out are in `schemas`.
"""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from mass_gov.api.schemas import ResponseSummary


class Freeze(TypedDict):
    """A freeze of learning."""

    index: int
    extent: str
    tenant: str | None
    deployment: str | None
    cause: str
    monitor: str | None
    frozen_by: str | None
    ended_index: int | None


class Freezes(TypedDict):
    """The freezes that are in force."""

    freezes: list[Freeze]


class Frozen(TypedDict):
    """What freezing, or letting go on, did; `still` is a freeze that stands all the same."""

    frozen: bool
    already: bool
    freeze: Freeze | None
    still: Freeze | None


class Pointer(TypedDict):
    """Where a pointer stands; without a state it is its base model."""

    tenant: str
    deployment: str
    state_digest: str | None
    change_id: str | None
    head_index: int | None
    base_model: str | None


class Pointers(TypedDict):
    """Every pointer that ever moved."""

    pointers: list[Pointer]


class PointerShown(Pointer):
    """Where it stands, or stood; `stack` and `freeze` are those of now, and null of another moment."""

    moved_at: str | None
    twofold: bool
    stack: list[dict[str, Any]] | None
    freeze: Freeze | None


class Move(TypedDict):
    """One movement of a pointer."""

    index: int
    time: str
    cause: str
    moved_by: str | None
    from_state: str
    from_change: str | None
    to_state: str
    to_change: str | None
    base_model: str


class Moves(TypedDict):
    """A pointer's history."""

    tenant: str
    deployment: str
    moves: list[Move]


class Decided(TypedDict):
    """What a yes did, and how many it takes."""

    change_id: str
    status: str
    approvals: int
    required: int
    self_approved: bool
    state_digest: str
    shown: str | None


class Rejected(TypedDict):
    """What a no did."""

    change_id: str
    status: str


class RolledBack(TypedDict):
    """What was undone, where the pointer stands now, and what was served under what is undone."""

    change_id: str
    already: bool
    rolled_back: list[str]
    pointer_state: str | None
    standing: list[str]
    served: list[ResponseSummary]


class Replayed(TypedDict):
    """What a replay found, stage by stage."""

    verdict: str


class Diff(TypedDict):
    """What a change does, before and after; `shown` is what an approval sends back."""

    change_id: str
    status: str
    shown: str


class Incident(TypedDict):
    """An incident, and whether its deadline was missed."""

    incident_id: str
    index: int
    tenant: str
    deployment: str
    status: str
    severity: str
    opened_by: str
    opened_at: str
    aware_at: str
    due_at: str | None
    reported_at: str | None
    overdue: bool
    acknowledged_index: int | None
    reported_index: int | None
    closed_index: int | None
    outcome: str | None


class Incidents(TypedDict):
    """A page of incidents."""

    incidents: list[Incident]
    next: str | None


class IncidentSaid(TypedDict):
    """An incident as it stands now."""

    incident: Incident


class Story(IncidentSaid):
    """What was said of an incident, and every change and answer that it reaches."""

    names: dict[str, Any]
    history: list[dict[str, Any]]
    reaches: dict[str, list[dict[str, Any]]]


class Subject(TypedDict):
    """A subject, and how much there is of it."""

    subject: str
    standing: Literal["free", "held", "erased"]
    changes: int
    answers: int
    first_index: int
    last_index: int
    held_index: int | None
    erased_index: int | None


class Subjects(TypedDict):
    """A page of subjects."""

    subjects: list[Subject]
    next: str | None


class Lineage(Subject):
    """What was made from a subject's data, and what erasing it would undo."""

    artifacts: int
    lineage: list[dict[str, Any]]


class PolicyShown(TypedDict):
    """A policy as its file says it."""

    policy: str
    digest: str
    in_force: bool
    document: dict[str, Any]


class Checkpoint(TypedDict):
    """A signed head."""

    origin: str
    size: int
    root: str
    note: str


class Inclusion(TypedDict):
    """A leaf, and the proof that it stands in the log."""

    index: int
    leaf_hash: str
    leaf: str
    proof: str


Consistency = TypedDict("Consistency", {"from": int, "from_root": str, "size": int, "root": str, "proof": str})
"""The proof that the log only grew."""
