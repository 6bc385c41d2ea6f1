"""`mass-gov verify` says no more than it knows: its last line, its JSON report and its exit status."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mass_gov.cli.main import run
from mass_gov.errors import LedgerUnavailableError
from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.audit import verify
from mass_gov.flows.audit_heads import NO_POLICY
from mass_gov.ledger import Ledger
from tests.fakes.engines import address_of
from tests.fakes.forger import Event, events_of, forged
from tests.fakes.ledger_world import SUBJECT, LedgerWorld
from tests.fakes.neighbours import Neighbours

pytestmark = pytest.mark.both_engines

Verified = Callable[..., tuple[int, str]]
UNSEEN = f"step 12 (witnesses): {NO_POLICY}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MASS_GOV_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("MASS_GOV_DATABASE_URL", "")  # an empty variable counts as not set
    return tmp_path / "home"


@pytest.fixture
def verified(capfd: pytest.CaptureFixture[str]) -> Verified:
    """Run `mass-gov verify`: exit status and stdout."""

    def command(*options: str) -> tuple[int, str]:
        capfd.readouterr()
        return run(["verify", *options]), " ".join(capfd.readouterr().out.split())

    return command


def made(tmp_path: Path, home: Path, edit: Callable[[list[Event]], None] = lambda events: None) -> None:
    """A home with one applied change, after `edit` by whoever has its keys."""
    world = LedgerWorld.make(tmp_path / "genuine")
    world.record("one")
    events = events_of(world)
    edit(events)
    forged(world, events, home)
    world.close()
    if (address := address_of(home)).path is not None:
        address.path.rename(home / "ledger.sqlite3")
    else:
        os.environ["MASS_GOV_DATABASE_URL"] = address.url  # `home` takes it away again


def test_a_yes_without_witnesses_names_them_as_missing(tmp_path: Path, home: Path, verified: Verified) -> None:
    made(tmp_path, home)
    status, said = verified()
    assert (status, said.endswith(f"What was checked holds; not checked: {UNSEEN}.")) == (0, True), said
    assert json.loads(verified("--json")[1])["not_checked"] == [UNSEEN]


def test_a_whole_yes_needs_a_fresh_quorum(tmp_path: Path, home: Path, verified: Verified) -> None:
    made(tmp_path, home)
    address = os.environ["MASS_GOV_DATABASE_URL"] or home / "ledger.sqlite3"
    with Ledger.open(address, keys=KeyStore.open(home / "keys"), checkpoints=home / "checkpoints") as ledger:
        neighbours = Neighbours.of(ledger, tmp_path / "neighbours")
        neighbours.cosign(ledger, 0, 1, now=int(time.time()) - 7200)
    (tmp_path / "policy").write_text(neighbours.policy_text)
    trusting = ("--witnesses", str(tmp_path / "policy"))
    status, said = verified(*trusting, "--max-age", "3h")
    assert (status, said.endswith("Everything holds.")) == (0, True), said
    assert "this head, by w1.example, w0.example, 2 h ago" in said
    status, said = verified(*trusting, "--max-age", "90m")
    assert (status, "step 12 (witnesses): head of size" in said) == (1, True), said
    for bad in (("--max-age", "soon", *trusting), ("--max-age", "1h"), ("--witnesses", str(tmp_path / "none"))):
        assert verified(*bad)[0] == 2


def test_what_was_marked_as_erased_stands_in_the_last_line(tmp_path: Path, home: Path, verified: Verified) -> None:
    made(tmp_path, home)
    (home / "keys" / "subjects" / f"{SUBJECT}.destroyed").touch()
    status, said = verified()
    assert (status, "Everything holds" in said) == (0, False)
    assert said.endswith(f"What was checked holds; not checked: 10 artifacts of {SUBJECT}: erased; {UNSEEN}."), said
    assert json.loads(verified("--json")[1])["not_checked"] == [f"10 artifacts of {SUBJECT}: erased", UNSEEN]


def test_without_the_keys_the_last_line_says_what_that_leaves_out(
    tmp_path: Path, home: Path, verified: Verified
) -> None:
    made(tmp_path, home)
    (home / "keys").rename(tmp_path / "elsewhere")
    status, said = verified()
    assert (status, "Everything holds" in said) == (0, False)
    for text in ("step 9 (contents): without the key store", "who wrote it: no trust root was given"):
        assert text in said


def test_an_event_of_a_newer_program_is_an_outage(tmp_path: Path, home: Path, verified: Verified) -> None:
    made(tmp_path, home, lambda events: setattr(events[-1], "newer", {"format": 2}))
    status, said = verified()
    assert (status, "Cannot check:" in said, "Upgrade mass-gov." in said) == (6, True, True), said
    assert json.loads(verified("--json")[1])["first_wrong"] is None


def test_a_lie_beside_an_event_of_a_newer_program_is_still_a_lie(
    tmp_path: Path, home: Path, verified: Verified
) -> None:
    def edit(events: list[Event]) -> None:
        events[-1].newer = {"format": 2}
        events[-2].write("update", events[-2].read("update") | {"losses": [9.0, 9.0]})

    made(tmp_path, home, edit)
    assert verified("--json")[0] == 1


@pytest.mark.sqlite_only("about a file")
def test_a_home_whose_first_use_was_killed_is_no_tampered_ledger(tmp_path: Path) -> None:
    """kill -9 before the first migration commits leaves an empty database: nothing to judge, and said so."""
    path = tmp_path / "ledger.sqlite3"
    path.touch()
    with pytest.raises(LedgerUnavailableError, match="holds no ledger yet"):
        verify(path, checkpoints=tmp_path / "checkpoints")


@pytest.mark.sqlite_only("about a file")
def test_nobody_is_accused_where_a_file_was_written_while_it_was_read_as_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account that may not write the folder reads the file without SQLite's own watch."""
    home = tmp_path / "home"
    world = LedgerWorld.make(home)
    world.record("one")
    world.close()
    path, may, writing = address_of(home).file, os.access, [False]

    def access(where: str | Path, mode: int) -> bool:
        return may(where, mode) and (writing[0] or Path(where) != path.parent)

    def progress(step: str, done: int, total: int) -> None:
        if step == "events" and not writing[0]:
            writing[0] = True
            LedgerWorld.make(home).close()
            other = LedgerWorld.make(home)
            other.record("two")
            other.close()
            writing[0] = False

    monkeypatch.setattr(os, "access", access)
    assert verify(path, keys=world.keys, checkpoints=home / "checkpoints").ok
    with pytest.raises(LedgerUnavailableError, match="written while it was read as it lies"):
        verify(path, keys=world.keys, checkpoints=home / "checkpoints", progress=progress)
    assert verify(path, keys=world.keys, checkpoints=home / "checkpoints").ok
