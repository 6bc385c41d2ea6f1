"""What the members of a bundle are called, and the two that follow from others: `leaf.json` and `README.md`.

    README.md                           this module's text: the same in every bundle
    checkpoint.txt                      the log's signed head, with the cosignatures that the exporter had
    event.dsse.json                     the change's leaf, as it was signed
    leaf.json                           the same leaf taken apart, for a person, with its index and its leaf hash
    inclusion.tlog-proof                the leaf stands in the log under `checkpoint.txt`
    delta/, delta.sig                   the PEFT folder and its OpenSSF bundle; where there is a delta and it is open
    events/<index>/...                  the same three files of every other event that is needed to judge this one
    artifacts/<index>/<role>.sealed     the bytes that a leaf commits to
    artifacts/<index>/<role>.key        64 hex digits: the artifact's own data key, which opens it and nothing else
    artifacts/<index>/<role>.plain      what it holds, unless that stands in delta/ or delta.sig
    artifacts/<index>/<role>.erased     instead of both: its subject was erased
    artifacts/<index>/<role>.closed     instead of both: the exporter could or would not open it
    references/<sha256>.plain           a delta of the same subject that another one was compressed against
    keys/log-ed25519.pem                the log key valid at the change, and
    keys/delta-p256.pem                 the delta key valid at the change: to check against the one you trust

Nothing here is a subject's key, or the master key. This module verifies nothing.
"""

from __future__ import annotations

from mass_gov.evidence.canonical import canonical_bytes, parse_canonical
from mass_gov.evidence.dsse import parse_envelope
from mass_gov.evidence.merkle import leaf_hash

BUNDLE_FORMAT = "mass-gov:bundle:v1"
README, CHECKPOINT = "README.md", "checkpoint.txt"
EVENT, LEAF, PROOF = "event.dsse.json", "leaf.json", "inclusion.tlog-proof"
DELTA_SIGNATURE = "delta.sig"
LOG_KEY, DELTA_KEY = "keys/log-ed25519.pem", "keys/delta-p256.pem"
ERASED, CLOSED = b"erased\n", b"closed: the exporter did not open it\n"
OWN_PLACES = {
    "delta.adapter_config": "delta/adapter_config.json",
    "delta.adapter_model": "delta/adapter_model.safetensors",
    "delta.signature": DELTA_SIGNATURE,
}
"""Contents that stand where other programs look for them, by the role of the change's artifact."""

README_TEXT = b"""# One change, and everything that proves it

This archive was exported from a mass-gov log. It says that a model was changed while it was answering, what was
measured, what was decided, and by whom; and it proves that the log has said so ever since.

## Verify it

    mass-gov verify --bundle change.zip --pubkey KEY

KEY is the log's public key (PEM, or a C2SP verifier key) from somebody whom you trust, not from this archive: keys that
come along prove nothing, since whoever forges a bundle forges its keys too. Needs no network, no database, no model.

Without mass-gov, with the programs of others, in an unpacked copy:

    model_signing verify key --signature delta.sig --public_key keys/delta-p256.pem delta/

`event.dsse.json` is a DSSE envelope around an in-toto statement; any DSSE library verifies it with
keys/log-ed25519.pem. `inclusion.tlog-proof` is a C2SP tlog-proof: RFC 6962 says how its hashes lead from the event to
the root in `checkpoint.txt`. The leaf that is hashed is the file `event.dsse.json` as it lies.

## What is in it

- `leaf.json`: the change, readable: what it was made from, the metrics, the gates, the decision. Start here.
- `event.dsse.json`, `inclusion.tlog-proof`, `checkpoint.txt`: its signature, its place in the log, the signed head.
- `delta/`, `delta.sig`: the adapter (load it with PEFT) and its signature. Missing where nothing was learned or shown.
- `events/`: the other events that it takes: how the log was opened, which policy, suite and model were in force, and
  what became of the change later: approvals, activation, answers, rollback, erasure.
- `artifacts/`: by event, the sealed bytes that the log committed to (`.sealed`), the key that opens each (`.key`) and
  what it holds (`.plain`). `.erased`: the person's key was destroyed, and nobody can read it any more. `.closed`:
  whoever exported this did not open it. `references/`: an older delta, where one was compressed against it.
- `keys/`: the public keys, to compare with the ones that you trust.

Whoever has this archive can read every `.plain` in it, for ever: erasing a person later does not reach copies.
docs/reference/verification.md of mass-gov numbers the steps of the verification.
"""


def event_folder(index: int, change_index: int) -> str:
    """Where an event's three files stand: `` for the change's own, else `events/<index>/`."""
    return "" if index == change_index else f"events/{index}/"


def artifact_stem(index: int, role: str) -> str:
    """The name of an artifact's files without their last part."""
    return f"artifacts/{index}/{role}"


def plain_name(index: int, role: str, change_index: int) -> str:
    """Where what an artifact holds stands."""
    own = OWN_PLACES.get(role) if index == change_index else None
    return own or f"{artifact_stem(index, role)}.plain"


def reference_name(digest: str) -> str:
    """Where the plaintext stands that a delta was compressed against; `digest` is its SHA-256, hex."""
    return f"references/{digest}.plain"


def leaf_document(index: int, leaf: bytes) -> bytes:
    """`leaf.json`: the leaf taken apart, canonical JSON.

    Raises:
        IntegrityError: it is no envelope, or its payload is not canonical.
    """
    statement = parse_canonical(parse_envelope(leaf).payload)
    document = {
        "format": BUNDLE_FORMAT,
        "index": index,
        "leaf_hash": leaf_hash(leaf).hex(),
        "statement": statement,
    }
    return canonical_bytes(document)
