"""Inclusion proofs as files (c2sp.org/tlog-proof@v1): one event's place in the log, verifiable offline.

    c2sp.org/tlog-proof@v1
    index <zero-based index>
    <base64 of each sibling hash, from the leaf up to the root's child>
    <empty line>
    <the signed checkpoint, verbatim>

Rules: this project writes no `extra` line, which nothing authenticates; reading, it refuses one, so that every byte of
a proof is bound. Verification: (1) the file has the form above; (2) its checkpoint verifies under the log's key; (3)
the leaf's hash stands at `index` under the checkpoint's root.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mass_gov.errors import IntegrityError
from mass_gov.evidence.checkpoint import Checkpoint, verify_checkpoint
from mass_gov.evidence.merkle import leaf_hash, verify_inclusion
from mass_gov.evidence.signing import VerificationKey

HEADER = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63

_HASH_LINE = re.compile(r"[A-Za-z0-9+/]{43}=")
_INDEX_LINE = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A proof: zero-based `index`, sibling `hashes` (32 bytes each) from the leaf up, the signed `checkpoint` note."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes


def encode_proof(index: int, hashes: Sequence[bytes], checkpoint: bytes) -> bytes:
    """The bytes of a `.tlog-proof` file."""
    lines = [HEADER, f"index {index}", *(base64.b64encode(h).decode("ascii") for h in hashes)]
    return "\n".join(lines).encode("ascii") + b"\n\n" + checkpoint


def parse_proof(data: bytes) -> TlogProof:
    """Read a `.tlog-proof` file, unverified.

    Raises:
        IntegrityError: it is not written as `encode_proof` writes one (step 1).
    """
    head, _, checkpoint = data.partition(b"\n\n")
    lines = head.decode("ascii", "replace").split("\n")
    place = _INDEX_LINE.fullmatch(lines[1]) if len(lines) > 1 and lines[0] == HEADER else None
    hashes = lines[2:]
    if place is None or len(hashes) > MAX_HASHES or not all(_HASH_LINE.fullmatch(h) for h in hashes):
        raise IntegrityError("The file is not a tlog-proof of this log. Export the bundle again.")
    proof = TlogProof(int(place[1]), tuple(base64.b64decode(h) for h in hashes), checkpoint)
    if encode_proof(proof.index, proof.hashes, checkpoint) != data:  # base64 with slack
        raise IntegrityError("The tlog-proof is not written in its one form. Export the bundle again.")
    return proof


def verify_proof(data: bytes, leaf: bytes, origin: str, key: VerificationKey) -> tuple[int, Checkpoint]:
    """Verify that `leaf` (its bytes, not its hash) is in the log; returns (index, checkpoint).

    Raises:
        IntegrityError: one of the steps (1) to (3) fails.
    """
    proof = parse_proof(data)  # (1)
    checkpoint = verify_checkpoint(proof.checkpoint, origin, key)  # (2)
    verify_inclusion(leaf_hash(leaf), proof.index, checkpoint.size, proof.hashes, checkpoint.root)  # (3)
    return proof.index, checkpoint
