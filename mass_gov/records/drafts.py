"""An event before it is sealed, signed and given a place in the log.

A draft holds plaintext, so it never leaves the process; the ledger turns it into artifacts and a leaf.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from mass_gov.records.artifacts import ArtifactRole
from mass_gov.records.events import Actor, Body


@dataclass(frozen=True, slots=True)
class Older:
    """An artifact of the same role, tenant and *subject* that a new one may be compressed against.

    Attributes:
        change_id: the change that it was sealed for.
        stored: its sealed bytes.
        plaintext: what they hold.
    """

    change_id: str
    stored: bytes = field(repr=False)
    plaintext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ArtifactDraft:
    """Plaintext to be sealed under `subject`'s key; `older` makes it smaller where the two are much alike."""

    role: ArtifactRole
    plaintext: bytes = field(repr=False)
    subject: str
    index: int = 0
    older: Older | None = None


@dataclass(frozen=True, slots=True)
class EventDraft:
    """What will be said, by whom, where.

    Attributes:
        not_after: the last moment at which it may still be said, where it rests on something that gets too old: between
            a look at the clock and the event lies the wait for whoever writes.
    """

    actor: Actor
    tenant: str
    deployment: str
    body: Body
    artifacts: tuple[ArtifactDraft, ...] = ()
    not_after: dt.datetime | None = None
