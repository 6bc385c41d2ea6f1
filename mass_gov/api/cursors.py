"""Cursors: where a list goes on, opaque and sealed, so that nobody makes one up or takes it to another list.

A cursor holds the log index of the last thing of the page before and a digest of what was asked; 16 bytes of
HMAC-SHA256 under a key of the key store follow. One that was altered, or belongs to other filters, is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from mass_gov.api.problems import Problem

_MAC, _ASKED = 16, 16


def encode(key: bytes, last: int, asked: str) -> str:
    """The cursor behind log index `last` of a list; `asked` says which list, in one way."""
    body = last.to_bytes(8, "big") + hashlib.sha256(asked.encode()).digest()[:_ASKED]
    return base64.urlsafe_b64encode(body + _mac(key, body)).decode("ascii")


def decode(key: bytes, cursor: str, asked: str) -> int:
    """The log index that a cursor stands behind.

    Raises:
        Problem: it is none, or another list's.
    """
    try:
        whole = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Problem("bad-cursor") from None
    body, mac = whole[:-_MAC], whole[-_MAC:]
    if not hmac.compare_digest(_mac(key, body), mac) or base64.urlsafe_b64encode(whole).decode("ascii") != cursor:
        raise Problem("bad-cursor")
    if body[8:] != hashlib.sha256(asked.encode()).digest()[:_ASKED]:
        raise Problem("bad-cursor")
    return int.from_bytes(body[:8], "big")


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:_MAC]
