"""Export the log: every event as it was signed, the heads, and where asked the sealed artifacts, in one file.

Rules: the file is whole or not there. What is written is what one signed head says: the tree is computed over the
leaves while they are written, and a file whose root is not that head's is thrown away. Nothing is opened or decrypted,
so neither keys nor the learner are needed. Equal logs with equal cosignatures give equal files, whatever database they
lie in. Memory holds one event.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mass_gov.errors import IntegrityError
from mass_gov.evidence.export_lines import Closing, ExportedEvent, encode_closing, encode_event
from mass_gov.evidence.files import whole_file
from mass_gov.evidence.merkle import Frontier, leaf_hash
from mass_gov.flows.heads import cosigned_head, insist_on_root, merged
from mass_gov.ledger import Head, Ledger

CSV_COLUMNS = ("index", "time", "type", "tenant", "deployment", "actor", "role", "change_id", "proof")
_PAGE = 1000
Progress = Callable[[int, int], None]
"""(events written, events in all)."""


def export_log(
    ledger: Ledger, path: Path, *, artifacts: bool = False, progress: Progress = lambda done, total: None
) -> Closing:
    """Write the log up to its newest signed head to a file (0600); what stood under that name is replaced.

    Arguments:
        artifacts: whether the sealed bytes come along; without them, they are proven by their digests only.

    Raises:
        InputError: an event's artifacts are too large for a line.
        IntegrityError: the log is not what its head says, or an artifact is missing.
        OSError: the file cannot be written.
    """
    head = cosigned_head(ledger)
    with whole_file(path) as stream:
        for done, line in enumerate(export_lines(ledger, artifacts=artifacts, head=head)):
            stream.write(line)
            progress(min(done + 1, head.size), head.size)
    return _closing(head, artifacts)


def export_lines(ledger: Ledger, *, artifacts: bool = False, head: Head | None = None) -> Iterator[bytes]:
    """The lines of an export up to a signed head, by default the newest; the closing one comes only if all is well.

    Raises:
        InputError, IntegrityError: as `export_log`.
    """
    head, frontier = head or cosigned_head(ledger), Frontier()
    for event in _events(ledger, head.size, artifacts):
        yield encode_event(event)
        frontier.append(leaf_hash(event.leaf))
    insist_on_root(head, frontier)
    yield encode_closing(_closing(head, artifacts))


def csv_lines(ledger: Ledger) -> Iterator[bytes]:
    """The log for a spreadsheet: a line for each event with its leaf's hash, and the closing line in the last column;
    many lines at a time.

    The hashes give the root again; what stands beside them is what the ledger derived from the leaves.

    Raises:
        IntegrityError: as `export_log`.
    """
    head, frontier = cosigned_head(ledger), Frontier()
    yield _csv([CSV_COLUMNS])
    for start in range(0, head.size, _PAGE):
        rows = ledger.event_rows(start, min(head.size, start + _PAGE), CSV_COLUMNS[:-1])
        hashes = ledger.leaf_hashes(start, min(head.size, start + _PAGE))
        for hashed in hashes:
            frontier.append(hashed)
        yield _csv([(*row, hashed.hex()) for row, hashed in zip(rows, hashes, strict=True)])
    insist_on_root(head, frontier)
    closing = encode_closing(_closing(head, artifacts=False)).decode("utf-8").rstrip()
    yield _csv([["closing", *[None] * (len(CSV_COLUMNS) - 2), closing]])


def _csv(rows: Iterable[Sequence[object]]) -> bytes:
    lines = io.StringIO()
    csv.writer(lines).writerows(rows)  # None is written as nothing
    return lines.getvalue().encode("utf-8")


def _closing(head: Head, artifacts: bool) -> Closing:
    return Closing(head.origin, head.size, head.root, head.note, artifacts)


def _events(ledger: Ledger, size: int, artifacts: bool) -> Iterator[ExportedEvent]:
    cosigned = ledger.outside.cosigned_sizes()
    for expected, event in enumerate(ledger.stored_events(size)):
        if event.index != expected:
            raise IntegrityError(f"Event {expected} is missing. Nothing was exported; run `mass-gov verify`.")
        named = named_artifacts(event.leaf) if artifacts else ()
        sealed = {digest: ledger.stored_artifact(digest) for digest in named}
        head = event.note
        if head is not None and expected + 1 in cosigned:
            head = merged(head, ledger.outside.cosigned(expected + 1))
        yield ExportedEvent(expected, event.leaf, head, sealed)


def named_artifacts(leaf: bytes) -> tuple[str, ...]:
    """Digests of the sealed artifacts that a leaf names, unverified; also of events that only a newer program knows.

    Raises:
        IntegrityError: it is no event.
    """
    try:
        payload = json.loads(base64.b64decode(json.loads(leaf)["payload"], validate=True))
        return tuple(bytes.fromhex(ref["digest"]).hex() for ref in payload["predicate"]["artifacts"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError("A leaf is no event, so its artifacts are not known. Run `mass-gov verify`.") from error
