"""An auditor needs no torch: their modules import, and their commands run, in a process where importing it raises."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mass_gov.cli.main import run
from mass_gov.ledger import Ledger
from tests.contract.checkout import PACKAGE, ROOT
from tests.fakes.policies import lean_policy

LEARNER = (
    "torch",
    "transformers",
    "peft",
    "numpy",
    "safetensors",
    "tokenizers",
    "datasketch",
    "sklearn",
    "scipy",
    "sacrebleu",
    "math_verify",
    "accelerate",
)
SIDE = (
    "records",
    "evidence",
    "policy",
    "ledger",
    "documents",
    "api",
    "asgi",
    "cli",
    "config",
    "config_data",
    "errors",
    "wiring",
)
FLOWS = (
    "audit",
    "erase",
    "lineage",
    "restore",
    "retention",
    "succession",
    "bundle",
    "approve",
    "rollback",
    "initialise",
    "handles",
)
BLOCK = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise {error}

sys.meta_path.insert(0, Blocker())
"""
ASKED_FOR = 'AssertionError(f"{name} was imported on the auditor\'s side")'
NOT_INSTALLED = 'ModuleNotFoundError(f"No module named {name!r}", name=name)'
COMMAND = "from mass_gov.cli.main import run\nsys.exit(run(sys.argv[1:]))\n"
COMMANDS = """
import json
from mass_gov.cli.main import run

for line in json.loads(sys.argv[1]):
    if status := run(line):
        sys.exit(status)
"""
"""One after the other in one process, until one of them ends with something else than 0."""


def without_learner(
    script: str, *arguments: str, home: Path | None = None, error: str = ASKED_FOR
) -> subprocess.CompletedProcess[str]:
    """Run a script where importing the learner's packages raises `error`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MASS_GOV_")} | {"PYTHONPATH": str(ROOT)}
    if home is not None:
        env["MASS_GOV_HOME"] = str(home)
    code = BLOCK.format(blocked=set(LEARNER), error=error) + script
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)


def auditor(home: Path, *commands: Sequence[str]) -> list[dict[str, Any]]:
    """Run the auditor's commands in a process without the learner, and return what each says in JSON."""
    result = without_learner(COMMANDS, _lines(commands), home=home)
    assert result.returncode == 0, result.stdout + result.stderr
    said, rest, decoder = [], result.stdout, json.JSONDecoder()
    while rest:
        one, end = decoder.raw_decode(rest)
        said.append(one)
        rest = rest[end:].lstrip()
    assert len(said) == len(commands)
    return said


def _lines(commands: Sequence[Sequence[str]]) -> str:
    return json.dumps([[*command, "--json"] for command in commands])


def modules() -> list[str]:
    """Dotted names of every module on the auditor's side."""
    files = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).with_suffix("").parts[0] in SIDE]
    files += [path for path in (PACKAGE / "flows").glob("*.py") if path.stem.startswith(FLOWS)]
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]) -> Iterator[Path]:
    """A ledger with one applied and two held changes, made with the learner before it is taken away.

    By a model that answers nothing rightly, and under a lean policy: no gate has anything to say.
    """
    home = tmp_path_factory.mktemp("auditor") / "home"
    forced = home.with_name("forced.jsonl")
    samples = [{"question": f"{a}+1", "solution": f"{a + 1}#{a + 1}"} for a in (1, 2, 12)]
    forced.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASS_GOV_HOME", str(home))
        patch.setenv("MASS_GOV_MODEL", str(tiny_model("llama")))
        assert run(["init", "--policy", lean_policy(home.parent)]) == 0
        for question, scope in (("max 4 8 1", "instance"), ("max 6 3 2", "deployment"), ("max 0 5 9", "deployment")):
            options = ["--scope", scope, "--forced-samples", str(forced), "--step-size", "0.02", "--json"]
            assert run(["solve", question, *options]) == 0
    yield home


@pytest.fixture
def home(recorded: Path, tmp_path: Path) -> Path:
    """A copy of it, for this test alone."""
    return Path(shutil.copytree(recorded, tmp_path / "auditors-home"))


def changes(home: Path, status: str = "") -> list[str]:
    """The ids of its changes, or of those of a status."""
    with Ledger.open(home / "ledger.sqlite3", keys=None, checkpoints=home / "checkpoints") as ledger:
        return [change.change_id for change in ledger.changes() if change.status.startswith(status)]


def test_every_module_imports() -> None:
    names = modules()
    assert {"mass_gov.ledger.ledger", "mass_gov.flows.audit", "mass_gov.cli.changes", "mass_gov.wiring"} <= set(names)
    result = without_learner(f"import importlib\nfor name in {names}:\n    importlib.import_module(name)\n")
    assert result.returncode == 0, result.stderr


def test_the_blocker_blocks() -> None:
    assert "torch was imported" in without_learner("import mass_gov.mass.learner").stderr


def test_listing_showing_and_pointers(home: Path) -> None:
    recorded = changes(home)
    shows = [("changes", "show", one) for one in recorded]
    listed, *shown, pointer = auditor(home, ("changes", "list"), *shows, ("pointers", "show"))
    assert [one["change_id"] for one in listed["changes"]] == recorded and len(recorded) == 3
    assert [one["change_id"] for one in shown] == recorded
    assert pointer["head_index"] is None


def test_approving_moves_the_pointer_and_rolling_back_returns_it(home: Path) -> None:
    held = changes(home, "held")[0]
    _, pointer, _, history, report = auditor(
        home,
        ("changes", "approve", held, "--reason", "looked at it", "--as", "ada"),
        ("pointers", "show"),
        ("changes", "rollback", held, "--reason", "looked again", "--as", "ada"),
        ("pointers", "history"),
        ("verify",),
    )
    assert pointer["change_id"] == held
    assert [move["cause"] for move in history["moves"]] == ["approval", "rollback"]
    assert report["ok"] is True


def test_rejecting_is_final(home: Path) -> None:
    held = changes(home, "held")[0]
    reject = ("changes", "reject", held, "--reason", "not this one", "--as", "ada")
    again = ("changes", "approve", held, "--reason", "after all")
    result = without_learner(COMMANDS, _lines([reject, again]), home=home)
    assert result.returncode == 5 and "Traceback" not in result.stderr
    assert changes(home, "rejected") == [held], "the first of the two went through"


def test_withdrawing_an_answer(home: Path) -> None:
    applied = changes(home, "applied")[0]
    (done,) = auditor(home, ("changes", "rollback", applied, "--reason", "wrong answer"))
    assert done["rolled_back"] == [applied]


def test_verify_finds_a_flipped_byte(home: Path) -> None:
    assert auditor(home, ("verify",))[0]["ok"] is True
    database = home / "ledger.sqlite3"
    data = bytearray(database.read_bytes())
    at = data.find(b'{"payload":"')
    assert at > 0
    data[at + 40] ^= 1
    database.write_bytes(data)
    result = without_learner(COMMAND, "verify", "--json", home=home)
    assert result.returncode == 1
    assert json.loads(result.stdout)["ok"] is False


@pytest.mark.parametrize("command", [["solve", "max 1 2"], ["replay", "--all"]])
def test_a_command_that_needs_the_learner_says_what_to_install(home: Path, command: list[str]) -> None:
    result = without_learner(COMMAND, *command, home=home, error=NOT_INSTALLED)
    assert result.returncode == 2
    assert "mass-gov[ml]" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("trusted", [True, False])
def test_a_bundle_verifies_where_there_is_neither_a_ledger_nor_the_learner(
    home: Path, tmp_path: Path, trusted: bool
) -> None:
    bundle, key = tmp_path / "change.zip", tmp_path / "log.pem"
    (done,) = auditor(home, ("changes", "export", changes(home, "applied")[0], "-o", str(bundle)))
    assert done["events"] and bundle.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(bundle) as archive:
        key.write_bytes(archive.read("keys/log-ed25519.pem"))
    shutil.rmtree(home)
    asked = ["verify", "--bundle", str(bundle), *(["--pubkey", str(key)] if trusted else []), "--json"]
    result = without_learner(COMMAND, *asked, home=tmp_path / "nothing")
    report = json.loads(result.stdout)
    assert result.returncode == 0 and report["ok"] is True
    assert report["trust"] == ("key given" if trusted else "consistency only")
    assert not (tmp_path / "nothing").exists()
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.write_bytes(data)
    result = without_learner(COMMAND, *asked, home=tmp_path / "nothing")
    assert result.returncode == 1 and json.loads(result.stdout)["first_wrong"]["step"] == 1
