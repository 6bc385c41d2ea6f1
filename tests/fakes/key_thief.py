"""Whoever has private keys: writes a genuine ledger again with signatures of their choice, every hash as it has to be.

Events, artifacts and times are the genuine ones; what differs is who signs which event and which head, and where the
log ends. A key that was rotated away is still in the memory of whoever took it before: `SignerSource` cannot know.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from mass_gov.errors import MassGovError
from mass_gov.evidence.checkpoint import Checkpoint, sign_checkpoint
from mass_gov.evidence.merkle import EMPTY_ROOT, Frontier
from mass_gov.evidence.signing import Signer
from mass_gov.ledger import Entry, projector
from mass_gov.ledger.engines import open_database
from mass_gov.ledger.entries import make_entry
from mass_gov.ledger.store import LogHead, insert_artifact, insert_checkpoint, insert_event
from mass_gov.records.events import Predicate
from tests.fakes.engines import furnished_address
from tests.fakes.ledger_world import LedgerWorld

Signers = Callable[[int], Sequence[Signer]]
"""Who signs the event of an index, or the head that ends with it, in order."""


def rewritten(
    world: LedgerWorld, home: Path, events: Signers, heads: Signers, predicates: Sequence[Predicate] | None = None
) -> Path:
    """Write the events of a world, or others of it, as a home of its own; returns it. No head stands outside."""
    chosen = list(predicates) if predicates is not None else [e.predicate for e in world.ledger.entries()]
    shutil.copytree(world.folder / "keys", home / "keys")
    (home / "checkpoints").mkdir()
    database = open_database(furnished_address(home))
    head, stored = LogHead(Frontier(), EMPTY_ROOT), set[str]()
    with database.write() as connection:
        for index, predicate in enumerate(chosen):
            for digest in {ref.digest for ref in predicate.artifacts} - stored:
                insert_artifact(connection, digest, world.ledger.stored_artifact(digest))
                stored.add(digest)
            entry: Entry = make_entry(index, predicate, *events(index))
            insert_event(connection, entry, head)
            try:
                with connection.begin_nested():
                    projector.apply(connection, entry)
            except MassGovError:
                pass  # the honest program would not have written it; the thief does
            note = sign_checkpoint(Checkpoint(predicate.origin, head.size, head.root), *heads(index))
            insert_checkpoint(connection, head.size, note)
    database.close()
    return home
