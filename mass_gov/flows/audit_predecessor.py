"""Which sealed log this one succeeds, and whether its sealed head stands: a part of step (6) of `mass_gov.flows.audit`.

Rules: the first event names the predecessor's origin, size and root, and so says where that log ends. Its last signed
head is kept beside the checkpoints outside, under a name that start-up ignores. Where it is there, it must be the one
that is named, signed by a key of this log or of the key store. Where it is not, that is said; the predecessor itself
is verified as the log that it is.
"""

from __future__ import annotations

from pathlib import Path

from mass_gov.errors import IntegrityError
from mass_gov.evidence.checkpoint import Checkpoint, verify_checkpoint
from mass_gov.evidence.keyring import KeyRing
from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.audit_report import Findings
from mass_gov.flows.succession import sealed_note
from mass_gov.records.events import Predecessor


def check_predecessor(
    named: Predecessor, ring: KeyRing, keys: KeyStore | None, checkpoints: Path | None, findings: Findings
) -> None:
    """(6) Name the predecessor, and compare its sealed head with what the first event says."""
    what = f"{named.origin}, sealed at size {named.size} with root {named.root}"
    findings.warn(f"This log succeeds {what}: what was recorded before stands there. Verify that log too.")
    note = sealed_note(checkpoints, named) if checkpoints is not None else None
    if note is None:
        findings.unknown(f"the sealed head of the predecessor {named.origin}: it was not kept with the checkpoints")
        return
    findings.checked(6)
    with findings.guard(6, f"sealed head of {named.origin}", index=0):
        head = _verified(note, named.origin, ring, keys)
        if (head.size, head.root.hex()) != (named.size, named.root):
            raise IntegrityError(
                f"It is a head of size {head.size}, and the first event names one of {named.size} with another root. "
                "Restore the head that was sealed."
            )


def _verified(note: bytes, origin: str, ring: KeyRing, keys: KeyStore | None) -> Checkpoint:
    ours = [tenure.key for tenure in ring if tenure.purpose == "log"]
    ours += keys.public_keys("log") if keys is not None else ()
    for key in ours[:-1]:
        try:
            return verify_checkpoint(note, origin, key)
        except IntegrityError:
            continue
    return verify_checkpoint(note, origin, ours[-1])
