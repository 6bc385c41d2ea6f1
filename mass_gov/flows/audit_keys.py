"""Whose word a log stands on: step (2) of `mass_gov.flows.audit`, once all of its keys are known.

Rules: the trust root may be any log key that the log ever had. The first vouches for what follows by handing over. A
later one vouches for what came before by its signatures over the event and the head with which it took over
(`evidence.keyring`), so it must stand in the log's own chain of hand-overs; a key that does not is a fault. A
compromise is none: the log says itself that a key was stolen, and `verify` says how far it is believed since.
"""

from __future__ import annotations

from collections.abc import Sequence

from mass_gov.errors import IntegrityError
from mass_gov.evidence.keyring import KeyRing, Tenure
from mass_gov.evidence.signing import VerificationKey
from mass_gov.flows.audit_report import Findings
from mass_gov.ledger import RawLedger
from mass_gov.ledger.schema import changes

NAMED = 3
"""Changes that a warning names; the ranges say the rest."""


def anchor(ring: KeyRing, pins: Sequence[VerificationKey]) -> VerificationKey:
    """(2) The trusted key that the log had, the earliest where several are trusted; without any the log's own first.

    Raises:
        IntegrityError: the log never had any of them.
    """
    if not pins:
        return ring.at(0)
    trusted = {key.keyid for key in pins}
    found = next((t.key for t in ring if t.purpose == "log" and t.key.keyid in trusted), None)
    if found is None:
        raise IntegrityError(
            f"the log was opened by key {ring.at(0).keyid}, and the trusted key is {pins[0].keyid}, to which "
            "it was never handed over. Verify the genuine log, or ask its owner for its key."
        )
    return found


def doubts(ring: KeyRing, pinned: VerificationKey, raw: RawLedger, size: int, findings: Findings) -> int | None:
    """(2) Name what is not believed since a key was compromised; returns the size at which trust ends, if it does."""
    ranges = ring.doubted(size, pinned.keyid)
    for gap in ranges:
        if gap:
            findings.unknown(f"events {gap[0]} to {gap[-1]}: a log key that was stolen signed them, or handed over")
    for tenure in ring:
        if tenure.revoked is not None and tenure.revoked.compromised:
            findings.warn(_stolen(tenure, tenure.revoked.trusted_size))
        if tenure.purpose == "delta" and tenure.doubted:
            _deltas(tenure, raw, findings)
    return ranges[0].start if ranges else None


def _stolen(tenure: Tenure, trusted_size: int) -> str:
    gap = tenure.doubted
    what = f"nobody knows who signed events {gap[0]} to {gap[-1]}" if gap else "all that it signed is older"
    if tenure.purpose == "delta":
        what = f"nobody knows who made the deltas of changes {gap[0]} to {gap[-1]}" if gap else what
    return (
        f"The {tenure.purpose} key {tenure.key.keyid[:16]} (events {tenure.first} to {tenure.last}) was compromised. "
        f"It is believed up to size {trusted_size}: {what}."
    )


def _deltas(tenure: Tenure, raw: RawLedger, findings: Findings) -> None:
    """(9) The deltas that a stolen key signed from its trusted size on."""
    columns = [column.name for column in changes.columns]
    rows = (dict(zip(columns, row, strict=True)) for row in raw.rows(changes))
    named = [str(r["change_id"]) for r in rows if r["delta"] is not None and r["index"] in tenure.doubted]
    if named:
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        findings.unknown(
            f"{len(named)} deltas signed by the stolen key {tenure.key.keyid[:16]}: {', '.join(named[:NAMED])}{more}"
        )
