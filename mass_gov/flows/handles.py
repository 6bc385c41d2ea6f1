"""Names that identify without telling: keyed, so that nobody without the key store can guess what they stand for."""

from __future__ import annotations

from mass_gov.evidence.keystore import SYSTEM_SUBJECT, KeyStore

__all__ = ["SYSTEM_SUBJECT", "task_commitment"]


def task_commitment(keys: KeyStore, task_id: str) -> str:
    """Return the HMAC by which a repeated task is found again, 64 hex digits."""
    return keys.request_commitment(b"task\0" + task_id.encode())
