"""The webhook: signed, without content, told at least once, and never in the way of a change. A real HTTP server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mass_gov.config import load_settings
from mass_gov.errors import OutageError, SettingsError
from mass_gov.flows.approve import reject
from mass_gov.flows.notify import Cursor, Outbox, Webhook
from mass_gov.wiring import outbox
from tests.fakes.ledger_world import BOB, LedgerWorld, shipped_policy

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


@dataclass
class Receiver:
    """A server that answers with what it is told to, and keeps what it was sent."""

    statuses: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    delay: float = 0.0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            time.sleep(kept.delay)
            status = kept.statuses.pop(0) if kept.statuses else 204
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            kept.paths.append(self.path)
            self.send_response(status)
            if status == 302:
                self.send_header("location", "/elsewhere")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - the server's name for it

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    kept.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield kept
    server.shutdown()
    server.server_close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path / "home", shipped_policy("default"))
    yield made
    made.close()


def box(world: LedgerWorld, receiver: Receiver) -> Outbox:
    return Outbox(world.folder / "notifications", Webhook.of(receiver.url, SECRET))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/x",
        "file:///etc/passwd",
        "https://ada:secret@example.org/",
        "example.org",
        "http://",
        "http://[::1/",
        "http://example.org:port/",
        "http://example.org:0/",
        "http://example.org/a b",
        "http://example.org/\r\nx: y",
        "http://exämple.org/",
    ],
)
def test_only_plain_http_addresses_are_told_anything(url: str) -> None:
    with pytest.raises(SettingsError, match="MASS_GOV_WEBHOOK_URL") as refusal:
        Webhook.of(url, SECRET)
    assert "secret" not in str(refusal.value).replace("webhook_secret", "")


@pytest.mark.parametrize(
    "secret", [None, "", "hunter2", "whsec_", "whsec_!!", "whsec_ä", "whsec_" + base64.b64encode(b"x" * 8).decode()]
)
def test_a_secret_that_is_none_is_refused(secret: str | None) -> None:
    with pytest.raises(SettingsError, match="MASS_GOV_WEBHOOK_SECRET"):
        Webhook.of("https://example.org/", secret)


def test_the_secret_is_shown_nowhere() -> None:
    hook = Webhook.of("https://example.org/", SECRET)
    assert SECRET not in repr(hook) and repr(KEY) not in repr(hook)
    chosen = load_settings(webhook_url="https://example.org/", webhook_secret=SECRET)
    assert SECRET not in repr(chosen)
    assert outbox(chosen) is not None and outbox(load_settings()) is None


def test_what_waits_is_told_signed_and_without_content(world: LedgerWorld, receiver: Receiver) -> None:
    world.record("applies")
    held = world.record("secret words of a person", step_norm=0.7)
    done = box(world, receiver).flush(world.ledger, now=1_800_000_000.0)
    assert [(one.kind, one.change_id) for one in done.told] == [("change.held", held.change_id)]
    ((headers, body),) = receiver.got
    said = json.loads(body)
    assert said["change_id"] == held.change_id and (said["tenant"], said["deployment"]) == ("acme", "tutor")
    assert said.keys() == {"type", "event_id", "index", "change_id", "tenant", "deployment", "timestamp"}
    assert b"secret words" not in body
    # The signature as a receiver checks it, by the standard's own words.
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (held.entry.predicate.event_id, "1800000000")


def test_what_was_told_is_not_told_again_and_what_came_since_is(world: LedgerWorld, receiver: Receiver) -> None:
    sender = box(world, receiver)
    world.record("one", step_norm=0.7)
    assert len(sender.flush(world.ledger, now=0.0).told) == 1
    assert sender.flush(world.ledger, now=0.0).told == ()
    second = world.record("two", step_norm=0.7)
    again = box(world, receiver).flush(world.ledger, now=0.0)  # another process
    assert [one.change_id for one in again.told] == [second.change_id]
    assert len(receiver.got) == 2


def test_a_receiver_that_fails_first_is_told_later_and_in_order(world: LedgerWorld, receiver: Receiver) -> None:
    receiver.statuses = [500, 503]
    sender, made = box(world, receiver), [world.record(name, step_norm=0.7) for name in ("one", "two")]
    first = sender.flush(world.ledger, now=100.0)
    assert (first.told, len(first.waiting), first.cursor.failures) == ((), 2, 1)
    assert sender.flush(world.ledger, now=100.5).told == () and len(receiver.got) == 1  # not before its time
    second = sender.flush(world.ledger, now=101.5)
    assert (second.cursor.failures, second.cursor.not_before) == (2, 103.5)  # 1 second, then 2
    third = sender.flush(world.ledger, now=104.0)
    assert [one.change_id for one in third.told] == [change.change_id for change in made]
    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert ids[0] == ids[1] == ids[2] != ids[3]  # tried again under the same id
    assert sender.cursor(world.ledger.origin) == Cursor(world.ledger.size, world.ledger.origin)


def test_what_does_not_wait_any_more_is_not_told(world: LedgerWorld, receiver: Receiver) -> None:
    held = world.record("one", step_norm=0.7)
    reject(world.ledger, held.change_id, BOB, "no")
    assert box(world, receiver).flush(world.ledger, now=0.0).told == ()
    assert receiver.got == []


def test_a_redirect_is_not_followed(world: LedgerWorld, receiver: Receiver) -> None:
    receiver.statuses = [302]
    world.record("one", step_norm=0.7)
    done = box(world, receiver).flush(world.ledger, now=0.0)
    assert done.told == () and "302" in (done.cursor.last_error or "")
    assert receiver.paths == ["/hook"]


def test_a_receiver_that_hangs_or_is_gone_holds_nobody_up(world: LedgerWorld, receiver: Receiver) -> None:
    world.record("one", step_norm=0.7)
    receiver.delay = 1.0
    assert box(world, receiver).flush(world.ledger, now=0.0, timeout=0.1).told == ()
    gone = Outbox(world.folder / "other", Webhook.of("http://127.0.0.1:9/", SECRET))
    assert gone.flush(world.ledger, now=0.0).told == ()


@pytest.mark.parametrize("says", [b"nothing that is HTTP\r\n\r\n", b""], ids=["garbage", "a byte at a time"])
def test_a_receiver_that_speaks_no_http_or_too_slowly_fails_like_any_other(world: LedgerWorld, says: bytes) -> None:
    world.record("one", step_norm=0.7)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_speak, args=(server, says), daemon=True).start()
        hook = Webhook.of(f"http://127.0.0.1:{server.getsockname()[1]}/", SECRET)
        started = time.monotonic()
        done = Outbox(world.folder / "notifications", hook).flush(world.ledger, now=0.0, timeout=0.5)
        assert time.monotonic() - started < 3  # the slow one's answer takes 10 seconds
    assert (done.told, len(done.waiting), done.cursor.failures) == ((), 1, 1)
    assert "the webhook gave no" in (done.cursor.last_error or "")


def _speak(server: socket.socket, says: bytes) -> None:
    connection, _ = server.accept()
    with connection, suppress(OSError):
        connection.recv(65536)
        connection.sendall(says)
        for _ in range(0 if says else 100):
            connection.sendall(b"H")
            time.sleep(0.1)


def test_the_cursor_of_another_log_hides_nothing_of_this_one(world: LedgerWorld, receiver: Receiver) -> None:
    sender, held = box(world, receiver), world.record("one", step_norm=0.7)
    sender.folder.mkdir()
    # As `log succeed` leaves it: the successor begins at 0, and the cursor stood at the end of the log before it.
    before = {"next_index": 5000, "origin": "mass-gov.local/before", "failures": 3, "not_before": 9e9, "last_error": ""}
    (sender.folder / "webhook.json").write_text(json.dumps(before))
    assert [one.change_id for one in sender.flush(world.ledger, now=0.0).told] == [held.change_id]
    assert sender.flush(world.ledger, now=0.0).told == ()


def test_a_cursor_that_cannot_be_read_tells_twice_rather_than_never(world: LedgerWorld, receiver: Receiver) -> None:
    world.record("one", step_norm=0.7)
    sender = box(world, receiver)
    sender.flush(world.ledger, now=0.0)
    (sender.folder / "webhook.json").write_text("{half")
    assert len(sender.flush(world.ledger, now=0.0).told) == 1
    ids = {headers["webhook-id"] for headers, _ in receiver.got}
    assert len(receiver.got) == 2 and len(ids) == 1  # by which the receiver drops the second


def test_two_processes_do_not_tell_the_same_at_once(world: LedgerWorld, receiver: Receiver) -> None:
    world.record("one", step_norm=0.7)
    receiver.delay = 0.5
    sender, told = box(world, receiver), []
    threads = [
        threading.Thread(target=lambda: told.append(len(sender.flush(world.ledger, now=0.0).told))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(told) == 1 and len(receiver.got) == 1


def test_an_outbox_that_cannot_be_written_is_an_outage_of_its_own(world: LedgerWorld, receiver: Receiver) -> None:
    world.record("one", step_norm=0.7)
    (world.folder / "notifications").write_text("a file where the folder should be")
    with pytest.raises(OutageError, match="cannot be written"):
        box(world, receiver).flush(world.ledger, now=0.0)
