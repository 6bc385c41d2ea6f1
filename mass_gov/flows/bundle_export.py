"""One change with everything that proves it, as the members of a bundle (`mass_gov.evidence.bundle_members`).

Taken along: the change's event and every other that it takes to judge it (how the log was opened, each rotation and
revocation of a key, the registration of its model and suite, the activation of its policy) and what became of it
(approvals, rejection, activation, rollback, answers, the erasure of its subject), each with its proof under one signed
head; their artifacts sealed as the log committed to them; and what they hold, as far as the keys at hand open them.

Rules: every event was verified when it was read. A content that is shown comes with its own data key, so that whoever
verifies can open the sealed bytes themselves; subject keys and the master key never leave the key store. Equal ledgers
give equal bundles. What this does not know is whether there was a later event that nobody wants to show: the log's
export has them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mass_gov.errors import IntegrityError, KeyUnavailableError, NotFoundError, NotRetainedError
from mass_gov.evidence.bundle import write_bundle
from mass_gov.evidence.bundle_members import (
    CHECKPOINT,
    CLOSED,
    DELTA_KEY,
    ERASED,
    EVENT,
    LEAF,
    LOG_KEY,
    PROOF,
    README,
    README_TEXT,
    artifact_stem,
    event_folder,
    leaf_document,
    plain_name,
    reference_name,
)
from mass_gov.evidence.canonical import sha256_hex
from mass_gov.evidence.tlog_proof import encode_proof
from mass_gov.flows.heads import cosigned_head
from mass_gov.ledger import ChangeView, Entry, Head, Ledger
from mass_gov.records.artifacts import ArtifactRef


@dataclass(frozen=True, slots=True)
class ExportedBundle:
    """A bundle, and what a person is told about it.

    Attributes:
        archive: the zip's bytes.
        events: how many events it holds.
        opened, erased, closed: how many artifacts of each kind.
        head: the signed head that all of it stands under.
    """

    archive: bytes
    events: int
    opened: int
    erased: int
    closed: int
    head: Head


def export_change(ledger: Ledger, change: ChangeView, *, sealed: bool = False) -> ExportedBundle:
    """Gather everything that proves one change.

    Arguments:
        sealed: leave every content closed, whatever the keys at hand would open.

    Raises:
        IntegrityError: something is not what was recorded.
        InputError: it would be larger than a bundle may be.
    """
    entries = list(_entries(ledger, change))
    head = _head(ledger, entries[-1].index)
    ring = ledger.key_ring
    members = {
        README: README_TEXT,
        CHECKPOINT: head.note,
        LOG_KEY: ring.at(change.index, "log").pem,
        DELTA_KEY: ring.at(change.index, "delta").pem,
    }
    counts = {"opened": 0, "erased": 0, "closed": 0}
    for entry in entries:
        folder = event_folder(entry.index, change.index)
        proof = encode_proof(entry.index, ledger.inclusion_proof(entry.index, head.size), head.note)
        members |= {
            f"{folder}{EVENT}": entry.leaf,
            f"{folder}{LEAF}": leaf_document(entry.index, entry.leaf),
            f"{folder}{PROOF}": proof,
        }
        for ref in entry.predicate.artifacts:
            outcome, files = _artifact(ledger, entry, ref, change.index, sealed)
            counts[outcome] += 1
            members |= files
    return ExportedBundle(write_bundle(members), len(entries), **counts, head=head)


def _entries(ledger: Ledger, change: ChangeView) -> Iterable[Entry]:
    """Every event that goes along, in the order of the log."""
    parents = change.body.parents
    indices = {0, change.index, *(approval.index for approval in change.approvals)}
    for tenure in ledger.key_ring:
        indices |= {max(tenure.first - 1, 0)} | ({tenure.revoked.index} if tenure.revoked is not None else set())
    indices |= {
        index for index in (change.activation_index, change.rejection_index, change.rollback_index) if index is not None
    }
    indices |= {response.index for response in ledger.responses(change_id=change.change_id)}
    try:
        erased = ledger.subject(change.body.identity.subject).erased_index
    except NotFoundError:
        erased = None
    indices |= {erased} if erased is not None else set()
    registered = (
        ledger.registered_before("model", parents.base_model, change.index),
        ledger.registered_before("policy", parents.policy, change.index),
        ledger.registered_before("suite", parents.suite, change.index),
    )
    indices |= {entry.index for entry in registered}
    return (ledger.entry(index) for index in sorted(indices))


def _head(ledger: Ledger, last: int) -> Head:
    """The newest head that witnesses cosigned if it covers everything, else the newest that there is."""
    for size in reversed(ledger.outside.sizes()):
        if size > last and ledger.outside.cosigned(size) is not None:
            try:
                return cosigned_head(ledger, size)
            except NotFoundError:
                continue  # cosigned before this log was restored from a back-up, perhaps: `verify` judges that
    return cosigned_head(ledger)


def _artifact(
    ledger: Ledger, entry: Entry, ref: ArtifactRef, change_index: int, sealed: bool
) -> tuple[str, dict[str, bytes]]:
    """One artifact's members, and what could be done about its content."""
    if ref.index != 0:
        raise IntegrityError(f"Event {entry.index} has a second artifact {ref.role}. Run `mass-gov verify`.")
    stem = artifact_stem(entry.index, ref.role)
    files = {f"{stem}.sealed": ledger.stored_artifact(ref.digest)}
    try:
        if sealed:
            return "closed", files | {f"{stem}.closed": CLOSED}
        shown = ledger.disclose(entry, ref.role)
    except NotRetainedError:
        return "erased", files | {f"{stem}.erased": ERASED}
    except KeyUnavailableError:
        return "closed", files | {f"{stem}.closed": CLOSED}
    files[f"{stem}.key"] = shown.data_key.hex().encode("ascii") + b"\n"
    files[plain_name(entry.index, ref.role, change_index)] = shown.plaintext
    if shown.reference is not None:
        files[reference_name(sha256_hex(shown.reference))] = shown.reference
    return "opened", files
