"""How a state is named: base + delta, by one digest."""

from __future__ import annotations

from mass_gov.evidence.canonical import canonical_bytes, sha256_hex


def state_digest(base_model: str, delta: str | None) -> str:
    """Return the digest of a state.

    Arguments:
        base_model: digest of the base model's files, hex.
        delta: digest of the delta's folder, hex; None is the base itself.

    Returns:
        SHA-256 over the canonical JSON of both, hex.
    """
    return sha256_hex(canonical_bytes({"base": base_model, "delta": delta}))
