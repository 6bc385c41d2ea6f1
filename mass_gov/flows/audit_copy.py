"""A copy of the log that was kept from before, against the log of today: the first event that differs, by its index.

Part of step (6). A head proves that something differs; a copy shows what. Rules: the copy is an export, and its closing
head must be signed by this log, so that both sides are the log's own word and the difference is evidence against it.
Leaves are compared byte by byte, in one pass; memory holds one event.
"""

from __future__ import annotations

from pathlib import Path

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.export_lines import ExportReader
from mass_gov.evidence.keyring import KeyRing, verify_head
from mass_gov.evidence.merkle import Frontier, leaf_hash
from mass_gov.flows.audit_report import Findings
from mass_gov.ledger import RawLedger

_STEP = 6


def compare_copy(path: Path, raw: RawLedger, origin: str, ring: KeyRing, findings: Findings) -> None:
    """(6) Every event of a kept export stands in the log, at its place.

    Raises:
        InputError: the export cannot be read.
    """
    try:
        with findings.guard(_STEP, f"copy {path.name}"):
            with path.open("rb") as stream:
                _check(ExportReader(stream), origin, ring)
            with path.open("rb") as stream:
                _compare(ExportReader(stream), path.name, raw, findings)
    except OSError as error:
        raise InputError(f"The copy {path} cannot be read: {error.strerror}. Check --against.") from error


def _check(reader: ExportReader, origin: str, ring: KeyRing) -> None:
    """The copy is whole, and this log signed its end: first, so that an altered copy accuses nobody."""
    copy = Frontier()
    for event in reader:
        copy.append(leaf_hash(event.leaf))
    closing = reader.closing
    if closing is None or (copy.size, copy.root().hex()) != (closing.count, closing.root):
        raise IntegrityError("The copy's events do not give the root of its closing line. It was altered; use another.")
    try:
        head = verify_head(closing.checkpoint, origin, ring)
    except IntegrityError as error:
        raise IntegrityError(f"The copy's closing head is not this log's ({error}) Use a copy of this log.") from error
    if (head.size, head.root) != (copy.size, copy.root()):
        raise IntegrityError("The copy's closing head is of another size or root. It was altered; use another copy.")


def _compare(reader: ExportReader, name: str, raw: RawLedger, findings: Findings) -> None:
    here = raw.events()
    for event in reader:
        findings.checked(_STEP)
        row = next(here, None)
        if row is None:
            what = f"the log ends before it, and the copy has more events. Restore the events from {event.index} on"
        elif row[1] != event.leaf:
            what = "another event stands in the copy: the log was rewritten or forked from here on"
        else:
            continue
        findings.wrong(_STEP, f"log_events row {event.index}, against the copy {name}", what, event.index)
        return  # what follows a difference follows from it
