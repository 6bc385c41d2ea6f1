"""Homes with recorded changes, made once by the real command line and copied for every test that needs one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mass_gov.cli.main import run
from tests.fakes.ledger_world import LedgerWorld, shipped_policy
from tests.fakes.policies import lean_policy
from tests.fakes.told import Told, tell

FORCED = [("1+1", "2#2"), ("2+1", "3#3"), ("12+19", "31#31")]
INSIDE, OUTSIDE = "0.02", "1.0"
"""Step sizes that leave the tiny model inside and outside the envelope."""


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout: anything else there fails."""
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        """JSON lines on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Ran]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command line in this process."""

    def command(*arguments: str | Path) -> Ran:
        capfd.readouterr()
        status = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return Ran(status, captured.out, captured.err)

    return command


OneChange = Callable[..., str]


@pytest.fixture
def one_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OneChange:
    """Make a home with one change of ada's under the default policy, for the command line; nobody is registered."""

    def make(**options: Any) -> str:
        home = tmp_path / "home"
        world = LedgerWorld.make(home, shipped_policy("default"))
        change = world.record("seven", **options)
        world.close()
        for name, value in (
            ("HOME", str(home)),
            ("DATABASE_URL", f"sqlite:///{home / 'ledger.db'}"),
            ("TENANT", "acme"),
            ("DEPLOYMENT", "tutor"),
        ):
            monkeypatch.setenv(f"MASS_GOV_{name}", value)
        return change.change_id

    return make


@pytest.fixture(scope="session")
def forced_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples that parse under the tiny models' template; random weights write none."""
    path = tmp_path_factory.mktemp("forced") / "forced.jsonl"
    path.write_text("".join(json.dumps({"question": q, "solution": s}) + "\n" for q, s in FORCED))
    return path


@dataclass(frozen=True)
class Recorded:
    """A home and the changes in it, by how they stand."""

    home: Path
    applied: str
    held: str
    held_deployment: str


@pytest.fixture(scope="session")
def recorded_once(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path], forced_file: Path
) -> Recorded:
    """An applied change, a held one, and a held one of scope deployment, under the lean policy solo: where a
    command is the point, the gates are not."""
    home = tmp_path_factory.mktemp("recorded") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASS_GOV_HOME", str(home))
        patch.setenv("MASS_GOV_MODEL", str(tiny_model("llama")))
        assert run(["init", "--policy", lean_policy(home.parent)]) == 0
        for question, size, scope in (
            ("3+4", INSIDE, "instance"),
            ("5+6", OUTSIDE, "instance"),
            ("7+8", INSIDE, "deployment"),
        ):
            options = ["--seed", "1", "--step-size", size, "--scope", scope, "--forced-samples", str(forced_file)]
            assert run(["solve", question, *options]) == 0
        from mass_gov.config import load_settings
        from mass_gov.wiring import read_ledger

        with read_ledger(load_settings()) as ledger:
            changes = ledger.changes(newest_first=False)
    assert [change.status for change in changes] == ["applied", "held", "held"]
    return Recorded(home, *(change.change_id for change in changes))


@pytest.fixture
def recorded(
    recorded_once: Recorded, tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Recorded:
    """A copy of it for this test alone, in force as MASS_GOV_HOME."""
    home = Path(shutil.copytree(recorded_once.home, tmp_path / "recorded"))
    monkeypatch.setenv("MASS_GOV_HOME", str(home))
    monkeypatch.setenv("MASS_GOV_MODEL", str(tiny_model("llama")))
    return Recorded(home, recorded_once.applied, recorded_once.held, recorded_once.held_deployment)


@pytest.fixture(scope="session")
def told_once(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A change, a change under its promoted state, and an answer from the pointer, which replay quickly."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MASS_GOV_")]:
            patch.delenv(name)
        return tell(tmp_path_factory.mktemp("told"))


@pytest.fixture
def told(told_once: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """A copy of it for this test alone, in force."""
    home, model = (
        Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in (told_once.home, told_once.model)
    )
    monkeypatch.setenv("MASS_GOV_HOME", str(home))
    monkeypatch.setenv("MASS_GOV_MODEL", str(model))
    return replace(told_once, home=home, model=model)


def fingerprint_of(folder: Path, *, without: Sequence[str] = ("-wal", "-shm")) -> dict[str, str]:
    """Digest of every file below a folder; SQLite's side files, which hold nothing of their own, are left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(tuple(without))
    }


@pytest.fixture
def tasks_file(tmp_path: Path) -> Callable[[Sequence[object]], Path]:
    """Write a file of tasks, one value a line; bytes and texts are written as they are."""

    def make(lines: Sequence[object]) -> Path:
        path = tmp_path / "tasks.jsonl"
        with path.open("wb") as stream:
            for line in lines:
                raw = line if isinstance(line, bytes) else line.encode() if isinstance(line, str) else None
                stream.write((raw if raw is not None else json.dumps(line).encode()) + b"\n")
        return path

    return make
