"""Export the log: every event as it was signed, the heads, and where asked the sealed artifacts, in one file.

Rules: the file is whole or not there. What is written is what one signed head says: the tree is computed over the
leaves while they are written, and a file whose root is not that head's is thrown away. Nothing is opened or decrypted,
so neither keys nor the learner are needed. Equal logs with equal cosignatures give equal files, whatever database they
lie in. Memory holds one event.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from mass_gov.errors import IntegrityError
from mass_gov.evidence.export_lines import Closing, ExportedEvent, encode_closing, encode_event
from mass_gov.evidence.files import whole_file
from mass_gov.evidence.merkle import Frontier, leaf_hash
from mass_gov.flows.heads import cosigned_head, merged
from mass_gov.ledger import Ledger

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
    head, frontier = cosigned_head(ledger), Frontier()
    closing = Closing(head.origin, head.size, head.root, head.note, artifacts)
    with whole_file(path) as stream:
        for event in _events(ledger, head.size, artifacts):
            stream.write(encode_event(event))
            frontier.append(leaf_hash(event.leaf))
            progress(event.index + 1, head.size)
        if (frontier.size, frontier.root().hex()) != (head.size, head.root):
            raise IntegrityError(
                f"The {frontier.size} events are not those that the head of size {head.size} was signed for. Nothing "
                "was exported; `mass-gov verify` names the first that is wrong."
            )
        stream.write(encode_closing(closing))
    return closing


def _events(ledger: Ledger, size: int, artifacts: bool) -> Iterator[ExportedEvent]:
    for expected, event in enumerate(ledger.stored_events(size)):
        if event.index != expected:
            raise IntegrityError(f"Event {expected} is missing. Nothing was exported; run `mass-gov verify`.")
        named = named_artifacts(event.leaf) if artifacts else ()
        sealed = {digest: ledger.stored_artifact(digest) for digest in named}
        head = None if event.note is None else merged(event.note, ledger.outside.cosigned(expected + 1))
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
