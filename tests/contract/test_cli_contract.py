"""The command line is documented whole: every command, option, exit status and setting, in both directions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest

from mass_gov.cli import exits
from mass_gov.cli.main import command_tree
from mass_gov.config import Settings
from tests.contract.checkout import ROOT, read

PAGE = "docs/reference/cli.md"


def commands(node: Any = None, path: tuple[str, ...] = ("mass-gov",)) -> dict[str, Any]:
    """Every command without subcommands, by how it is called."""
    node = command_tree() if node is None else node
    if not hasattr(node, "commands"):
        return {" ".join(path): node}
    found: dict[str, Any] = {}
    for name, child in node.commands.items():
        found |= commands(child, (*path, name))
    return found


def sections() -> dict[str, str]:
    """The page's text by the command that a section is about."""
    parts = re.split(r"^## ", read(PAGE), flags=re.MULTILINE)[1:]
    return {part.split("\n")[0].strip("`"): part for part in parts if part.startswith("`mass-gov")}


def documented(section: str) -> set[str]:
    """Arguments and options that a section's table has rows for."""
    table = section.partition("| argument or option |")[2] or section.partition("| option |")[2]
    first_cells = re.findall(r"^\| (`.+?`(?: / `.+?`)?) \|", table.partition("\n\n")[0], re.MULTILINE)
    return {name.replace("\\|", "|") for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)}


def taken(command: Any) -> set[str]:
    """What the command takes."""
    names: set[str] = set()
    for param in command.params:
        names |= {param.metavar} if param.param_type_name == "argument" else {*param.opts, *param.secondary_opts}
    return names


def test_every_command_has_its_section_and_no_other() -> None:
    assert sections().keys() == commands().keys()


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_argument_and_option_is_documented_and_no_other(name: str) -> None:
    assert documented(sections()[name]) == taken(commands()[name])


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_and_option_explains_itself(name: str) -> None:
    command = commands()[name]
    assert command.help and command.help.strip().endswith(".")
    assert not [param.name for param in command.params if not getattr(param, "help", None)]
    assert "--json" in taken(command), "every command can be read by a program"


def test_every_exit_status_is_documented() -> None:
    rows = {int(number) for number in re.findall(r"^\| (\d+) \|", read(PAGE), re.MULTILINE)}
    used = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert rows == used == {0, 1, 2, 3, 4, 5, 6, 70, 130, 141}


def test_every_error_of_the_tree_has_an_exit_status() -> None:
    from mass_gov import errors

    leaves = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    statuses = {kind.__name__: exits.status_of(kind("x")) for kind in leaves if kind is not errors.MassGovError}
    assert exits.DEFECT not in statuses.values()
    assert (statuses["IntegrityError"], statuses["TaskError"], statuses["NotRetainedError"]) == (1, 2, 4)
    assert (statuses["StaleChangeError"], statuses["KeyUnavailableError"]) == (5, 6)
    assert exits.status_of(OSError(28, "no space")) == 6


def test_every_setting_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `MASS_GOV_([A-Z_]+)` \| (.+?) \|", read("docs/reference/settings.md"), re.MULTILINE))
    assert {name.lower() for name in rows} == Settings.model_fields.keys()
    for name, shown in rows.items():
        default = Settings.model_fields[name.lower()].default
        if shown.startswith("`") and "/" not in shown:
            assert shown.strip("`") == (str(default).lower() if isinstance(default, bool) else str(default))


def test_only_config_reads_settings_from_the_environment() -> None:
    found = []
    for path in sorted((ROOT / "mass_gov").rglob("*.py")):
        text = path.read_text("utf-8")
        if path.name != "config.py" and re.search(r"environ(\.get\(|\[)\s*[\"']MASS_GOV_", text):
            found.append(path.name)
    assert not found


SCRIPT = """
import sys
from mass_gov.cli.main import run
status = run(sys.argv[1:])
heavy = sorted({name.split(".")[0] for name in sys.modules} & set(%r))
print("LOADED " + ",".join(heavy), file=sys.stderr)
sys.exit(status)
"""
LEARNER = ("torch", "transformers", "peft", "numpy", "sympy")
SLOW = (*LEARNER, "sqlalchemy", "alembic", "cryptography", "pydantic_settings")


def loaded(heavy: tuple[str, ...], *arguments: str, status: int = 0) -> str:
    """Which of the heavy packages a command line loads."""
    command = [sys.executable, "-c", SCRIPT % (heavy,), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT, env={**os.environ})
    assert ran.returncode == status, ran.stderr
    return ran.stderr.rpartition("LOADED ")[2].strip()


def test_help_loads_nothing_heavy() -> None:
    assert loaded(SLOW, "--help") == ""
    assert loaded(SLOW, "solve", "--help") == ""


@pytest.mark.parametrize(
    "arguments", [["init"], ["policy", "show", "solo"], ["tasks", "sample", "--n", "6"], ["tasks", "domains"]]
)
def test_what_needs_no_learner_loads_none(arguments: list[str]) -> None:
    assert loaded(LEARNER, *arguments) == ""


def test_a_bad_task_is_refused_before_torch_is_loaded() -> None:
    assert loaded(LEARNER, "solve", "", status=2) == ""
    assert loaded(LEARNER, "solve", "--file", "/nowhere.jsonl", status=2) == ""


def test_completion_knows_the_commands() -> None:
    env = os.environ | {"_MASS_GOV_COMPLETE": "complete_bash", "COMP_WORDS": "mass-gov changes ro", "COMP_CWORD": "2"}
    command = [sys.executable, "-m", "mass_gov.cli.main"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env, cwd=ROOT)
    assert ran.stdout.split() == ["rollback"]
