"""Answers that are given again: what was answered to a request with an Idempotency-Key, kept for a day.

Rules: of one principal and one key there is one answer. Whoever comes first claims the key before anything is done, so
that two requests at once do it once. Whoever works keeps their claim (`working`), however long it takes; one that a
crash left behind is free again after a minute, and what had been done by then refuses to be done twice by itself.
Neither log nor projection: losing this table loses no event.

An answer is given again only as this ledger's own programs kept it. It is sealed under a key of the key store, bound to
whose it is, what was asked and when; so nobody who writes the database makes a caller believe that something was done,
and nobody who reads it, or a back-up of it, learns what stood in an answer. A row that does not open is no answer.
What is older than a day goes with the next claim, or when a ledger is opened to write.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.sql import ColumnElement

from mass_gov.errors import KeyUnavailableError, MassGovError
from mass_gov.evidence.keystore import KeyStore
from mass_gov.ledger.database import Database
from mass_gov.ledger.schema import replies
from mass_gov.records.base import timestamp

KEPT = dt.timedelta(days=1)
CLAIMED = dt.timedelta(minutes=1)
RENEWED = dt.timedelta(seconds=20)

_FORM = "hmac-sha256:"
"""Before what was asked; older releases kept a plain digest and a plain answer."""
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered: an HTTP status, an ETag where there was one, a body."""

    status: int
    etag: str | None
    body: str


class Replies:
    """The kept answers of one ledger.

    Arguments:
        keys: the key store; None for whoever only reads, and claims nothing.
    """

    def __init__(self, database: Database, keys: KeyStore | None) -> None:
        self._database = database
        self._secret = keys.derived("mass-gov:replies:request:v1") if keys is not None else b""
        self._claims: dict[tuple[str, str], str] = {}
        self._cipher = AESGCM(keys.derived("mass-gov:replies:answer:v1")) if keys is not None else None

    def claim(
        self, principal: str, key: str, request: str, now: dt.datetime
    ) -> Reply | Literal["claimed", "other", "under way"]:
        """Claim a key for a request (its digest), or say what became of the one that had it.

        Returns:
            `claimed`: do it, and `settle`. A reply: give it again. `other`: the key stood for another request.
        """
        this = (replies.c.principal == principal) & (replies.c.key == key)
        asked = self._asked(principal, key, request)
        with self._database.write() as connection:
            connection.execute(delete(replies).where(replies.c.asked_at < timestamp(now - KEPT)))
            row = connection.execute(select(replies).where(this)).mappings().first()
            if row is not None and str(row["request"]).startswith(_FORM):
                if not hmac.compare_digest(row["request"], asked):
                    return "other"
                if (reply := self._opened(row)) is not None:
                    return reply
                if row["status"] is None and row["asked_at"] > timestamp(now - CLAIMED):
                    return "under way"
            connection.execute(delete(replies).where(this))
            made = {"principal": principal, "key": key, "request": asked, "asked_at": timestamp(now)}
            mine = self._claims[principal, key] = secrets.token_hex(16)
            connection.execute(insert(replies), made | {"body": mine})
        return "claimed"

    @contextmanager
    def working(self, principal: str, key: str, clock: Callable[[], dt.datetime]) -> Iterator[None]:
        """Keep a claim of this process while the block runs."""
        done = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(principal, key, clock, done), daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()

    def _keep(self, principal: str, key: str, clock: Callable[[], dt.datetime], done: threading.Event) -> None:
        while not done.wait(RENEWED.total_seconds()):
            with suppress(MassGovError), self._database.write() as connection:  # an outage is said by who works
                connection.execute(update(replies).where(self._own(principal, key)).values(asked_at=timestamp(clock())))

    def _own(self, principal: str, key: str) -> ColumnElement[bool]:
        """The row of a claim of this process; whoever came after a minute has another."""
        mine = self._claims.get((principal, key), "")
        this = (replies.c.principal == principal) & (replies.c.key == key)
        return this & replies.c.status.is_(None) & (replies.c.body == mine)

    def settle(self, principal: str, key: str, reply: Reply | None) -> None:
        """Keep the answer of a key that this process claimed; None lets go of it."""
        this = self._own(principal, key)
        self._claims.pop((principal, key), None)
        with self._database.write() as connection:
            if reply is None:
                connection.execute(delete(replies).where(this))
                return
            row = connection.execute(select(replies).where(this)).mappings().first()
            if row is not None:
                values = {"status": reply.status, "body": self._sealed(row, reply)}
                connection.execute(update(replies).where(this).values(**values))

    def forget(self, now: dt.datetime) -> None:
        """Delete what is older than a day."""
        old = replies.c.asked_at < timestamp(now - KEPT)
        with self._database.read() as connection:
            if not connection.execute(select(exists().where(old))).scalar():
                return
        with self._database.write() as connection:
            connection.execute(delete(replies).where(old))

    def _asked(self, principal: str, key: str, request: str) -> str:
        what = json.dumps([principal, key, request]).encode("ascii")
        return _FORM + hmac.new(self._secret, what, hashlib.sha256).hexdigest()

    def _sealed(self, row: Mapping[Any, Any], reply: Reply) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = json.dumps([reply.status, reply.etag, reply.body]).encode("ascii")
        return base64.b64encode(nonce + self._required().encrypt(nonce, plain, _bound(row))).decode("ascii")

    def _opened(self, row: Mapping[Any, Any]) -> Reply | None:
        """The answer, if it was kept for this row."""
        try:
            sealed = base64.b64decode(row["body"] or "", validate=True)
            plain = self._required().decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound(row))
        except (InvalidTag, binascii.Error, ValueError, TypeError):
            return None
        return Reply(*json.loads(plain))

    def _required(self) -> AESGCM:
        if self._cipher is None:
            raise KeyUnavailableError("This ledger was opened for reading. Open it with its key store to write.")
        return self._cipher


def _bound(row: Mapping[Any, Any]) -> bytes:
    """What an answer belongs to: an older one of the same request is not given again after its day."""
    return json.dumps([row["principal"], row["key"], row["request"], row["asked_at"]]).encode("ascii")
