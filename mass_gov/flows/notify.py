"""Tell a webhook that something waits for a person: signed, retried, without any content, and never in the way.

Rules:

- what is told: a change is held, a policy waits for its second person, learning was frozen. Ids, kind, place and time;
  nothing that a person wrote or a model generated, and no secret
- the outbox is the log itself and a cursor: a small file that says up to which event of which log everything was told.
  An event is told at least once, and again under the same id after a crash between the answer and the cursor: receivers
  drop what they had (`webhook-id`). What does not wait any more when its turn comes is not told
- a failed delivery is tried again after 1, 2, 4, ... seconds, at most an hour apart; those behind it wait their turn.
  A delivery has its seconds as a whole, however slowly the receiver speaks. No failure ever fails the change
- signed as Standard Webhooks has it: HMAC-SHA256 over `id.timestamp.body` (https://www.standardwebhooks.com). Redirects
  are not followed: where one led, nobody chose

Needs no model and no torch. This module does not know who listens, nor whether they listen to anything but 2xx.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import json
import os
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from mass_gov.errors import OutageError, SettingsError
from mass_gov.evidence.canonical import canonical_bytes
from mass_gov.evidence.files import whole_file
from mass_gov.ledger import Entry, Ledger
from mass_gov.records.events import ChangeRecorded, ControlFrozen, PolicyProposed

Kind = Literal["change.held", "policy.proposed", "control.frozen"]
TIMEOUT = 2.0
"""Seconds that one delivery may take."""
_LONGEST_WAIT = 3600.0
_LONGEST_REASON = 200
"""Characters of what a receiver said instead of an answer."""
_SECRET_PREFIX = "whsec_"  # noqa: S105 - how the standard marks such secrets
_CURSOR = "webhook.json"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that waits."""

    event_id: str
    index: int
    kind: Kind
    change_id: str | None
    tenant: str
    deployment: str
    time: str

    def body(self) -> bytes:
        """What is sent: JSON, without content."""
        return canonical_bytes(
            {
                "type": self.kind,
                "event_id": self.event_id,
                "index": self.index,
                "change_id": self.change_id,
                "tenant": self.tenant,
                "deployment": self.deployment,
                "timestamp": self.time,
            }
        )


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to, and the key that signs. Made by `Webhook.of`."""

    url: str
    _key: bytes = field(repr=False)

    @classmethod
    def of(cls, url: str, secret: str | None) -> Webhook:
        """Check an address and a secret.

        Raises:
            SettingsError: not http(s), with a name or a password in it, not an address at all, or no usable secret.
        """
        if not _usable(url):
            raise SettingsError(
                "MASS_GOV_WEBHOOK_URL is not usable: give an http:// or https:// address without a password in it, in "
                "ASCII. See docs/reference/settings.md."
            )
        return cls(url, _secret(secret))

    def headers(self, notice: Notice, now: int) -> dict[str, str]:
        """The headers of one delivery, signed at `now` (seconds since 1970)."""
        signed = f"{notice.event_id}.{now}.".encode() + notice.body()
        signature = base64.b64encode(hmac.new(self._key, signed, hashlib.sha256).digest()).decode("ascii")
        return {
            "content-type": "application/json",
            "user-agent": "mass-gov",
            "webhook-id": notice.event_id,
            "webhook-timestamp": str(now),
            "webhook-signature": f"v1,{signature}",
        }

    def deliver(self, notice: Notice, now: int, timeout: float = TIMEOUT) -> None:
        """Send one notice.

        Raises:
            OutageError: it was not taken: no answer in time, or another status than 2xx.
        """
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self.url, notice.body(), self.headers(notice, now), method="POST"
        )
        # A socket's timeout is that of one read: a receiver that speaks a byte a second would never run into it.
        outcome: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=lambda: outcome.put(_post(request, timeout)), daemon=True).start()
        try:
            why = outcome.get(timeout=timeout)
        except queue.Empty:
            why = f"gave no answer within {timeout:g} seconds"
        if why is not None:
            raise OutageError(f"the webhook {why}. Look at the receiver; it is tried again.")


def _post(request: urllib.request.Request, timeout: float) -> str | None:
    """Send a request; returns why it was not taken."""
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            answer.read(1024)
    except urllib.error.HTTPError as error:
        error.close()
        return f"answered {error.code}"
    except (OSError, ValueError, HTTPException) as error:
        return f"gave no HTTP answer: {str(getattr(error, 'reason', None) or error)[:_LONGEST_REASON]}"
    return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object, **kwargs: object) -> None:
        """Follow none: the answer then counts as the error that it is."""


_OPENER = urllib.request.build_opener(_NoRedirect)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to where everything was told.

    Attributes:
        next_index: the first event that was not looked at yet.
        origin: of the log that this counts in: a successor begins at 0 again, and so does its cursor.
        failures: deliveries of the notice at the front that failed so far.
        not_before: seconds since 1970 before which it is not tried again.
        last_error: what the last failure was.
    """

    next_index: int = 0
    origin: str = ""
    failures: int = 0
    not_before: float = 0.0
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a flush did."""

    told: tuple[Notice, ...]
    waiting: tuple[Notice, ...]
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Outbox:
    """The cursor's folder and the webhook."""

    folder: Path
    webhook: Webhook

    def waiting(self, ledger: Ledger) -> tuple[Notice, ...]:
        """What is to be told, oldest first."""
        return tuple(_notices(ledger, self.cursor(ledger.origin).next_index))

    def cursor(self, origin: str) -> Cursor:
        """Where everything of a log was told up to; one that is another log's or unreadable begins again, because twice
        beats never.
        """
        try:
            raw = json.loads((self.folder / _CURSOR).read_text("utf-8"))
            cursor = Cursor(
                int(raw["next_index"]), raw["origin"], int(raw["failures"]), float(raw["not_before"]), raw["last_error"]
            )
        except (OSError, ValueError, KeyError, TypeError):
            return Cursor(origin=origin)
        return cursor if cursor.origin == origin else Cursor(origin=origin)

    def flush(self, ledger: Ledger, *, now: float, force: bool = False, timeout: float = TIMEOUT) -> Flushed:
        """Tell everything that waits, up to the first that is not taken.

        Arguments:
            now: seconds since 1970.
            force: also before the time of the next try.

        Raises:
            OutageError: the cursor cannot be written. What was told may then be told again.
        """
        with self._mine() as mine:
            cursor, size = self.cursor(ledger.origin), ledger.size
            notices = list(_notices(ledger, cursor.next_index))
            if not mine or (now < cursor.not_before and not force):
                return Flushed((), tuple(notices), cursor)
            told: list[Notice] = []
            for notice in notices:
                try:
                    self.webhook.deliver(notice, int(now), timeout)
                except OutageError as error:
                    wait = min(2.0**cursor.failures, _LONGEST_WAIT)
                    cursor = Cursor(notice.index, ledger.origin, cursor.failures + 1, now + wait, str(error))
                    self._write(cursor)
                    return Flushed(tuple(told), tuple(notices[len(told) :]), cursor)
                told.append(notice)
                cursor = Cursor(notice.index + 1, ledger.origin)
                self._write(cursor)
            if cursor.next_index < size:
                cursor = Cursor(size, ledger.origin)
                self._write(cursor)
            return Flushed(tuple(told), (), cursor)

    @contextmanager
    def _mine(self) -> Iterator[bool]:
        """Hold the outbox over processes; gives false at once where another holds it, who then tells it all."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OutageError(f"{self.folder} cannot be written: {error.strerror}. Make it writable.") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    def _write(self, cursor: Cursor) -> None:
        document = {
            "next_index": cursor.next_index,
            "origin": cursor.origin,
            "failures": cursor.failures,
            "not_before": cursor.not_before,
            "last_error": cursor.last_error,
        }
        try:
            with whole_file(self.folder / _CURSOR) as stream:
                stream.write(json.dumps(document).encode())
        except OSError as error:
            raise OutageError(f"{self.folder} cannot be written: {error.strerror}. Make it writable.") from error


def _notices(ledger: Ledger, start: int) -> Iterator[Notice]:
    for entry in ledger.entries(start):
        kind = _kind(ledger, entry)
        if kind is not None:
            said, body = entry.predicate, entry.predicate.body
            change_id = body.change.identity.change_id if isinstance(body, ChangeRecorded) else None
            yield Notice(said.event_id, entry.index, kind, change_id, said.tenant, said.deployment, said.time)


def _kind(ledger: Ledger, entry: Entry) -> Kind | None:
    """What waits because of an event, if it waits still."""
    match entry.predicate.body:
        case ChangeRecorded(change=change) if change.decision.verdict == "hold":
            return "change.held" if ledger.change(change.identity.change_id).status == "held" else None
        case PolicyProposed() as proposed:
            return "policy.proposed" if ledger.active_policy() == proposed.replaces else None
        case ControlFrozen():
            return "control.frozen"
        case _:
            return None


def _usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        plain = not parts.username and not parts.password and parts.port != 0
    except ValueError:
        return False
    ascii_ = url.isascii() and url.isprintable() and " " not in url
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain and ascii_


def _secret(secret: str | None) -> bytes:
    raw = b""
    if secret is not None and secret.startswith(_SECRET_PREFIX):
        try:
            raw = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
        except ValueError:
            raw = b""
    if not 24 <= len(raw) <= 64:
        raise SettingsError(
            "MASS_GOV_WEBHOOK_SECRET is not usable: give `whsec_` and the base64 of 24 to 64 random bytes, "
            "`echo whsec_$(openssl rand -base64 32)`. See docs/reference/settings.md."
        )
    return raw
