"""An event before it is sealed, signed and given a place in the log.

A draft holds plaintext, so it never leaves the process; the ledger turns it into artifacts and a leaf.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mass_gov.records.artifacts import ArtifactRole
from mass_gov.records.events import Actor, Body


@dataclass(frozen=True, slots=True)
class ArtifactDraft:
    """Plaintext to be sealed under `subject`'s key."""

    role: ArtifactRole
    plaintext: bytes = field(repr=False)
    subject: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class EventDraft:
    """What will be said, by whom, where."""

    actor: Actor
    tenant: str
    deployment: str
    body: Body
    artifacts: tuple[ArtifactDraft, ...] = ()
