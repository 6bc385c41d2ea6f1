"""Answers that are given again: what was answered to a request with an Idempotency-Key, kept for a day.

Rules: of one principal and one key there is one answer. Whoever comes first claims the key before anything is done, so
that two requests at once do it once; a claim that was left behind by a crash is free again after a minute, and what had
been done by then refuses to be done twice by itself. Neither log nor projection: losing this table loses no event.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import delete, insert, select, update

from mass_gov.ledger.database import Database
from mass_gov.ledger.schema import replies
from mass_gov.records.base import timestamp

KEPT = dt.timedelta(days=1)
CLAIMED = dt.timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered: an HTTP status, an ETag where there was one, a body."""

    status: int
    etag: str | None
    body: str


@dataclass(frozen=True, slots=True)
class Replies:
    """The kept answers of one ledger."""

    database: Database

    def claim(
        self, principal: str, key: str, request: str, now: dt.datetime
    ) -> Reply | Literal["claimed", "other", "under way"]:
        """Claim a key for a request (its digest), or say what became of the one that had it.

        Returns:
            `claimed`: do it, and `settle`. A reply: give it again. `other`: the key stood for another request.
        """
        this = (replies.c.principal == principal) & (replies.c.key == key)
        with self.database.write() as connection:
            connection.execute(delete(replies).where(replies.c.asked_at < timestamp(now - KEPT)))
            row = connection.execute(select(replies).where(this)).mappings().first()
            if row is not None and row["request"] != request:
                return "other"
            if row is not None and row["status"] is not None:
                return Reply(row["status"], row["etag"], row["body"])
            if row is not None and row["asked_at"] > timestamp(now - CLAIMED):
                return "under way"
            connection.execute(delete(replies).where(this))
            made = {"principal": principal, "key": key, "request": request, "asked_at": timestamp(now)}
            connection.execute(insert(replies), made)
        return "claimed"

    def settle(self, principal: str, key: str, reply: Reply | None) -> None:
        """Keep the answer of a claimed key; None lets go of it."""
        this = (replies.c.principal == principal) & (replies.c.key == key)
        with self.database.write() as connection:
            if reply is None:
                connection.execute(delete(replies).where(this))
            else:
                values = {"status": reply.status, "etag": reply.etag, "body": reply.body}
                connection.execute(update(replies).where(this).values(**values))
