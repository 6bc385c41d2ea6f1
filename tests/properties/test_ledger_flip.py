"""Whoever changes a byte of the ledger is found out, wherever the byte is.

Every column of every table is tried once, then random rows, bytes and bits; then random bytes of the file itself, which
reach pages, cells and indexes that no UPDATE reaches.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.audit import VerificationReport, verify
from mass_gov.ledger import marks
from tests.fakes.every_table import fill_every_table
from tests.fakes.ledger_world import BOTH_SCOPES, LedgerWorld
from tests.fakes.tamper import cells, contents, copy_of, flip

TABLES = """
alembic_version version_num
log_events index leaf prev_root root
log_nodes level position hash
log_checkpoints size note
artifacts digest stored
registrations index kind digest name
changes change_id index leaf_hash tenant deployment scope requester request_commitment base_model parent_state
changes pointer_head policy suite state delta status activation_index rejection_index rollback_index subject
approvals index change_id meaning approver required self_approved
pointers tenant deployment state change_id head_index base_model
pointer_moves index tenant deployment cause moved_by from_head from_state from_change to_state to_change
pointer_moves base_model
responses response_id index change_id tenant deployment state served subject
log_keys key purpose public_key from_index to_index revoked_index compromised trusted_size
subjects subject held_index erased_index
controls index tenant deployment extent cause monitor frozen_by ended_index
principals principal index roles scopes public_key tenants
tokens token_id index principal token_hash issued_at expires_at revoked_index
events index time reached type tenant deployment actor role change_id terms
marks term block bits
incidents incident_id index opened tenant deployment opened_by opened_at aware_at severity due_at acknowledged_index
incidents reported_index reported_at closed_index outcome
incident_updates index incident_id step author
"""
COLUMNS = [(line.split()[0], name) for line in TABLES.strip().splitlines() for name in line.split()[1:]]
NO_LIMITS = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module", autouse=True)
def short_stretches() -> Iterator[None]:
    """So that a few events have bits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marks, "STRETCH", 2)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed home whose ledger has a row in every table."""
    folder = tmp_path_factory.mktemp("flip") / "home"
    world = LedgerWorld.make(folder, BOTH_SCOPES)
    fill_every_table(world)
    world.close()
    return folder


def check(folder: Path) -> VerificationReport:
    """Verify with everything that an operator's own verification has."""
    keys = KeyStore.open(folder / "keys")
    return verify(folder / "ledger.db", keys=keys, checkpoints=folder / "checkpoints")


def flipped(home: Path, to: Path, table: str, column: str, row: int, position: int, bit: int) -> bool:
    """Copy `home` and flip one bit of one value; False when the flipped key is another row's."""
    shutil.rmtree(to, ignore_errors=True)
    path = copy_of(home, to)
    rows = [cell for cell in cells(path) if (cell.table, cell.column) == (table, column)]
    return flip(path, rows[row % len(rows)], position, bit)


def test_the_world_without_a_flip_verifies(home: Path) -> None:
    report = check(home)
    assert report.ok, report.first_wrong


def test_every_column_of_every_table_is_tried(home: Path) -> None:
    tried = {(cell.table, cell.column) for cell in cells(home / "ledger.db")}
    # What rows add up to says nothing to an auditor: `test_ledger_tally` has what a false sum does.
    assert tried - {("log_checkpoints", "tally")} == set(COLUMNS)


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_a_flipped_bit_in_any_column_is_named(home: Path, tmp_path: Path, table: str, column: str) -> None:
    assert flipped(home, tmp_path / "copy", table, column, row=1, position=11, bit=2)
    report = check(tmp_path / "copy")
    assert not report.ok
    assert report.first_wrong is not None
    named = " ".join(str(fault) for step in report.steps for fault in step.faults)
    assert table in named


@pytest.mark.slow
@NO_LIMITS
@given(
    place=st.sampled_from(COLUMNS),
    row=st.integers(0, 10**6),
    position=st.integers(0, 10**6),
    bit=st.integers(0, 7),
)
def test_a_flipped_bit_anywhere_is_named(
    home: Path, tmp_path_factory: pytest.TempPathFactory, place: tuple[str, str], row: int, position: int, bit: int
) -> None:
    to = tmp_path_factory.getbasetemp() / "flip-any"
    assume(flipped(home, to, *place, row=row, position=position, bit=bit))
    report = check(to)
    assert not report.ok
    assert place[0] in " ".join(str(fault) for step in report.steps for fault in step.faults)


@pytest.mark.slow
@NO_LIMITS
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_the_file_is_found_or_touches_no_row(
    home: Path, tmp_path_factory: pytest.TempPathFactory, share: float, bit: int
) -> None:
    to = tmp_path_factory.getbasetemp() / "flip-file"
    shutil.rmtree(to, ignore_errors=True)
    path = copy_of(home, to)
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 1 << bit
    path.write_bytes(data)
    report = check(to)
    assert report.first_wrong is None if report.ok else report.first_wrong is not None
    if report.ok:
        assert contents(path) == contents(home / "ledger.db")


def test_a_schema_that_is_not_text_any_more_is_found(home: Path, tmp_path: Path) -> None:
    path = copy_of(home, tmp_path / "home")
    data = path.read_bytes()
    assert data.count(b"CREATE TRIGGER") > 1
    path.write_bytes(data.replace(b"CREATE TRIGGER", b"CREATE TRIGG\xc5R"))
    assert check(tmp_path / "home").first_wrong is not None


@pytest.mark.slow
@NO_LIMITS
@given(which=st.integers(0, 10**6), share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_an_artifact_in_the_file_names_the_artifact(
    home: Path, tmp_path_factory: pytest.TempPathFactory, which: int, share: float, bit: int
) -> None:
    to = tmp_path_factory.getbasetemp() / "flip-artifact"
    shutil.rmtree(to, ignore_errors=True)
    path = copy_of(home, to)
    data = bytearray(path.read_bytes())
    stored = [cell.value for cell in cells(path) if (cell.table, cell.column) == ("artifacts", "stored")]
    whole = [value for value in stored if value in data]  # those that fit one page
    victim = whole[which % len(whole)]
    data[data.index(victim) + int(share * len(victim))] ^= 1 << bit
    path.write_bytes(data)
    report = check(to)
    assert report.first_wrong is not None
    assert report.first_wrong.step == 7
    assert "artifact" in report.first_wrong.what
