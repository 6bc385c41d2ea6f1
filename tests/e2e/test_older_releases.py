"""Ledgers of older releases: this release verifies them, computes them again from nothing, and goes on with them.

Made by `python -m tests.fixtures.make_ledger RELEASE` in portable numerics (see its README.md).
"""

from __future__ import annotations

import gzip
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mass_gov.ledger.schema import SCHEMA_HEAD
from mass_gov.mass.numerics import environment
from tests.contract.checkout import ROOT
from tests.e2e.conftest import Command

FIXTURES = ROOT / "tests" / "fixtures"
RELEASES = sorted(path.parent.name for path in FIXTURES.glob("ledgers/*/home.tar.gz"))
COMPUTES = ("package.", "libc", "python")
"""Parts of a portable fingerprint by which another machine or release may compute other bits."""

PORTABLE = (platform.system(), platform.machine(), platform.libc_ver()[0]) == ("Linux", "x86_64", "glibc")


@dataclass(frozen=True)
class Older:
    """A copy of one release's ledger, and what its maker said of it."""

    folder: Path
    home: Path
    told: dict[str, str]
    head: dict[str, Any]
    key: Path


@pytest.fixture(params=RELEASES)
def older(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Older:
    folder = FIXTURES / "ledgers" / str(request.param)
    with tarfile.open(folder / "home.tar.gz") as archive:
        archive.extractall(tmp_path / "older", filter="tar")  # which keeps the modes that the key store insists on
    expected = json.loads((folder / "expected.json").read_text())
    key = tmp_path / "key.vkey"
    key.write_text(expected["key"] + "\n")
    home = tmp_path / "older" / "home"
    monkeypatch.setenv("MASS_GOV_HOME", str(home))
    monkeypatch.setenv("MASS_GOV_KEPT", str(FIXTURES / "kept"))
    return Older(folder, home, expected["told"], expected["head"], key)


def revision(home: Path) -> str:
    """The schema that a home's ledger has."""
    with closing(sqlite3.connect(home / "ledger.sqlite3")) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def test_this_release_has_its_own() -> None:
    from mass_gov import __version__

    assert __version__ in RELEASES


def test_ledger_export_and_bundle_verify_under_the_key_that_was_written_down(
    cli: Command, older: Older, tmp_path: Path
) -> None:
    if revision(older.home) != SCHEMA_HEAD:  # no tampering: it is said, with what to do about it
        told = cli("verify", "--pubkey", older.key, "--json")
        assert told.status == 6 and "Run `mass-gov init`" in told.json["cannot_check"], told.out
        assert cli("init").status == 0
    ran = cli("verify", "--pubkey", older.key, "--json")
    assert ran.status == 0 and ran.json["ok"], ran.out
    assert {name: ran.json[name] for name in ("size", "root")} == older.head
    export = tmp_path / "export.ndjson"
    export.write_bytes(gzip.decompress((older.folder / "export.ndjson.gz").read_bytes()))
    assert cli("verify", "--export", export, "--pubkey", older.key).status == 0
    assert cli("verify", "--against", export, "--pubkey", older.key).status == 0
    assert cli("verify", "--bundle", older.folder / "bundle.zip", "--pubkey", older.key).status == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not PORTABLE, reason="portable numerics is for x86-64 Linux with glibc")
def test_every_change_is_computed_again_from_nothing_and_the_log_goes_on(cli: Command, older: Older) -> None:
    command = [sys.executable, "-m", "mass_gov.cli.main", "replay", "--all", "--json"]
    variables = {**environment(os.environ), "MASS_GOV_NUMERICS": "portable", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=580, env=variables)
    assert ran.returncode in (3, 4), ran.stderr  # 4: one of them is erased
    rows = {one["target"]: one for one in json.loads(ran.stdout)["replays"]}
    assert rows.keys() == set(older.told.values())
    gone = rows.pop(older.told["erased"])
    assert (gone["verdict"], gone["exit"]) == ("not replayable", 4) and "erased by event" in gone["detail"]
    for row in rows.values():
        others = row["fingerprint_differs"].keys()
        if row["verdict"] == "differs":  # another release of what computes may do that, and is named
            assert any(name.startswith(COMPUTES) and name in row["detail"] for name in others), row["detail"]
        else:
            assert row["verdict"] == ("equal, other fingerprint" if others else "equal"), row["detail"]
    verified = cli("verify", "--pubkey", older.key, "--json")
    assert verified.status == 0 and verified.json["size"] == older.head["size"] + len(older.told)
