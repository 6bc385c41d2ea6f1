"""A part of a verification is honest: the same first wrong index as the whole, and what was left out is named."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows import audit_scan, audit_signatures
from mass_gov.flows.audit import VerificationReport, verify
from mass_gov.flows.audit_scan import Only
from mass_gov.records.events import AccessDenied
from tests.fakes.ledger_world import BOB, LedgerWorld
from tests.fakes.tamper import copy_of, tampering

EVENTS = 40
WRONG = 21
PARTS: tuple[Only, ...] = ("tree", "signatures")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan") / "home"
    world = LedgerWorld.make(folder)
    world.record("one")
    while world.ledger.size < EVENTS:
        body = AccessDenied(action=f"a{world.ledger.size}", policy=world.policy.digest, change_id=None, count=1)
        world.ledger.append([world.draft(body, BOB)] * min(3, EVENTS - world.ledger.size))
    world.close()
    return folder


def edit(connection: sqlite3.Connection) -> None:
    connection.execute(
        "UPDATE log_events SET leaf = CAST(replace(leaf, 'a', 'b') AS BLOB) WHERE \"index\" = ?", (WRONG,)
    )


def another(connection: sqlite3.Connection) -> None:
    (leaf,) = connection.execute('SELECT leaf FROM log_events WHERE "index" = ?', (WRONG + 4,)).fetchone()
    connection.execute('UPDATE log_events SET leaf = ? WHERE "index" = ?', (leaf, WRONG))


def delete(connection: sqlite3.Connection) -> None:
    connection.execute('DELETE FROM log_events WHERE "index" = ?', (WRONG,))


def reorder(connection: sqlite3.Connection) -> None:
    connection.execute('UPDATE log_events SET "index" = -1 WHERE "index" = ?', (WRONG,))
    connection.execute('UPDATE log_events SET "index" = ? WHERE "index" = ?', (WRONG, WRONG + 5))
    connection.execute('UPDATE log_events SET "index" = ? WHERE "index" = -1', (WRONG + 5,))


def insert(connection: sqlite3.Connection) -> None:
    for index in range(EVENTS - 1, WRONG - 1, -1):
        connection.execute('UPDATE log_events SET "index" = ? WHERE "index" = ?', (index + 1, index))
    connection.execute(
        'INSERT INTO log_events SELECT ?, leaf, prev_root, root FROM log_events WHERE "index" = 3', (WRONG,)
    )


def root(connection: sqlite3.Connection) -> None:
    connection.execute('UPDATE log_events SET root = zeroblob(32) WHERE "index" = ?', (WRONG,))


def node(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE log_nodes SET hash = zeroblob(32) WHERE level = 1 AND position = ?", (WRONG // 2,))


def no_node(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM log_nodes WHERE level = 0 AND position = ?", (WRONG,))


def report(database: Path, only: Only | None, processes: int = 1) -> VerificationReport:
    home = database.parent
    keys = KeyStore.open(home / "keys")
    return verify(database, keys=keys, checkpoints=home / "checkpoints", only=only, processes=processes)


def faults(found: VerificationReport, *steps: int) -> list[object]:
    return [fault for step in found.steps if step.number in steps for fault in step.faults]


def first_of_the_log(found: VerificationReport) -> int | None:
    """The first wrong index among the steps that both look at."""
    return min(fault.index for step in found.steps[:5] for fault in step.faults if fault.index is not None)


@pytest.mark.parametrize("only", PARTS)
def test_a_sound_log_holds_and_what_was_left_out_is_named(home: Path, only: Only) -> None:
    whole, part = report(home / "ledger.db", None), report(home / "ledger.db", only)
    assert whole.ok and part.ok, part.first_wrong
    assert (part.size, part.root, part.origin) == (whole.size, whole.root, whole.origin)
    left_out = "\n".join(part.not_checked)
    for name in (
        "artifacts",
        "projections",
        "contents",
        "decisions",
        "storage",
        "not what events say" if only == "signatures" else "not who signed each of them",
    ):
        assert name in left_out
    assert [step.verdict for step in part.steps[:6]] == ["ok"] * 6


@pytest.mark.parametrize("block", [8, 1024])
@pytest.mark.parametrize("attack", [edit, another, delete, reorder, insert, root, node, no_node])
def test_a_part_names_the_same_first_wrong_index_as_the_whole(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attack: Callable[[sqlite3.Connection], None],
    block: int,
) -> None:
    monkeypatch.setattr(audit_scan, "BLOCK", block)
    database = copy_of(home, tmp_path / "home")
    with tampering(database) as connection:
        attack(connection)
    whole, part = report(database, None), report(database, "tree")
    assert not whole.ok and not part.ok
    assert first_of_the_log(part) == first_of_the_log(whole) == WRONG
    assert faults(part, 4) == faults(whole, 4)


@pytest.mark.parametrize("attack", [edit, insert])
def test_processes_find_what_one_finds_in_the_same_order(
    home: Path, tmp_path: Path, attack: Callable[[sqlite3.Connection], None]
) -> None:
    database = copy_of(home, tmp_path / "home")
    with tampering(database) as connection:
        attack(connection)
    script = tmp_path / "main.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from mass_gov.flows import audit_signatures\n"
        "from tests.unit.test_audit_scan import report\n"
        "import json\n"
        "if __name__ == '__main__':\n"
        "    audit_signatures.RUN, audit_signatures.PARALLEL_FROM = 4, 0\n"
        f"    print(json.dumps(report(Path({str(database)!r}), 'signatures', 3).document()))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    several = json.loads(done.stdout)
    alone = json.loads(json.dumps(report(database, "signatures").document()))
    whole = report(database, None)
    assert several == alone
    assert several["first_wrong"]["index"] == WRONG == first_of_the_log(whole)


def test_a_forged_signature_is_found_by_signatures_and_by_the_tree_only_as_another_leaf(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_signatures, "RUN", 8)
    database = copy_of(home, tmp_path / "home")
    with tampering(database) as connection:
        (leaf,) = connection.execute('SELECT leaf FROM log_events WHERE "index" = ?', (WRONG,)).fetchone()
        envelope = json.loads(leaf)
        envelope["signatures"][0]["sig"] = envelope["signatures"][0]["sig"][::-1].lstrip("=") + "=="
        connection.execute(
            'UPDATE log_events SET leaf = ? WHERE "index" = ?',
            (json.dumps(envelope, separators=(",", ":"), sort_keys=True).encode(), WRONG),
        )
    signatures = report(database, "signatures")
    assert [fault.index for step in signatures.steps if step.number == 3 for fault in step.faults] == [WRONG]
    assert "does not verify" in str(signatures.first_wrong) or "canonical" in str(signatures.first_wrong)
    assert not report(database, "tree").ok


def test_a_head_that_nobody_signed_is_found_wherever_heads_are_verified(home: Path, tmp_path: Path) -> None:
    database = copy_of(home, tmp_path / "home")
    with tampering(database) as connection:
        rows = connection.execute("SELECT size, note FROM log_checkpoints ORDER BY size").fetchall()
        size, note = rows[-3]
        text, _, _ = bytes(note).rpartition(b" ")
        other = bytes(rows[-4][1]).rpartition(b" ")[2]
        connection.execute("UPDATE log_checkpoints SET note = ? WHERE size = ?", (text + b" " + other, size))
    assert report(database, "tree").ok  # and it says that it did not look
    assert "who signed it" in "\n".join(report(database, "tree").not_checked)
    for only in (None, "signatures"):
        found = report(database, only)
        assert [fault.index for step in found.steps if step.number == 5 for fault in step.faults] == [size - 1]
