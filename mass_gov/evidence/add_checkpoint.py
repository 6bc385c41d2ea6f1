"""What a log hands to a witness (c2sp.org/tlog-witness, `add-checkpoint`): a head, and the proof that it only grew.

    old <size that the witness saw last, decimal>
    <base64 of each hash of the consistency proof, at most 63>
    <empty line>
    <the signed checkpoint, verbatim>

The proof is RFC 6962 section 2.1.2, from the old size to the checkpoint's; it is empty from size 0 and between equal
sizes. Rules: a reader accepts only what `encode_request` would have written. This module verifies nothing.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mass_gov.errors import InputError
from mass_gov.evidence.checkpoint import MAX_NOTE_BYTES

MAX_HASHES = 63
MAX_REQUEST_BYTES = MAX_NOTE_BYTES + 64 * 64

_HASH_LINE = re.compile(r"[A-Za-z0-9+/]{43}=")
_OLD_LINE = re.compile(r"old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request: the size `old` that the proof starts from, its hashes (32 bytes each), and the signed `checkpoint`."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: bytes


def encode_request(old: int, proof: Sequence[bytes], checkpoint: bytes) -> bytes:
    """The bytes of a request."""
    lines = [f"old {old}", *(base64.b64encode(h).decode("ascii") for h in proof)]
    return "\n".join(lines).encode("ascii") + b"\n\n" + checkpoint


def parse_request(data: bytes) -> AddCheckpoint:
    """Read a request, unverified.

    Raises:
        InputError: it is not written as `encode_request` writes one.
    """
    head, _, checkpoint = data.partition(b"\n\n")
    first, *hashes = head.decode("ascii", "replace").split("\n")
    old = _OLD_LINE.fullmatch(first)
    lawful = old is not None and len(hashes) <= MAX_HASHES and all(map(_HASH_LINE.fullmatch, hashes))
    if old is None or not lawful or len(data) > MAX_REQUEST_BYTES:
        raise _refuse()
    request = AddCheckpoint(int(old[1]), tuple(map(base64.b64decode, hashes)), checkpoint)
    if encode_request(request.old, request.proof, checkpoint) != data:  # base64 with slack
        raise _refuse()
    return request


def _refuse() -> InputError:
    return InputError("This is no request of C2SP tlog-witness. Make one with `mass-gov log prove --from SIZE`.")
