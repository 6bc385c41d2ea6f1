"""The wheel is the program: built, installed into an empty folder, and run from outside any checkout.

Dependencies come from the environment that runs the tests; what must come from the wheel is checked to come from there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from mass_gov.mass.reference_model import SHIPPED

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_LEARNER = """
import sys

BLOCKED = {"torch", "transformers", "peft", "numpy", "safetensors", "math_verify", "sklearn", "datasketch"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@dataclass(frozen=True)
class Installed:
    """A wheel, the folder that it was installed into, and an empty folder to work in."""

    wheel: Path
    site: Path
    work: Path

    def run(self, *arguments: str, learner: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the installed `mass-gov`, from the work folder."""
        env = {key: value for key, value in os.environ.items() if not key.startswith(("MASS_GOV_", "PYTHON"))}
        path = [str(self.site)]
        if not learner:
            (self.work / "blocked").mkdir(exist_ok=True)
            (self.work / "blocked" / "sitecustomize.py").write_text(WITHOUT_LEARNER, "utf-8")
            path.append(str(self.work / "blocked"))
        env |= {"PYTHONPATH": os.pathsep.join(path), "MASS_GOV_HOME": str(self.work / "home")}
        command = [str(self.site / "bin" / "mass-gov"), *arguments]
        return subprocess.run(command, cwd=self.work, env=env, capture_output=True, text=True, check=False, timeout=240)

    def json(self, *arguments: str, learner: bool = True) -> dict[str, object]:
        """Run a command that must succeed and return its JSON object."""
        result = self.run(*arguments, "--json", learner=learner)
        assert result.returncode == 0, result.stdout + result.stderr
        return dict(json.loads(result.stdout))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", str(ROOT), "--no-deps", "--wheel-dir", str(folder)], check=True, timeout=240)
    (wheel,) = folder.glob("*.whl")
    site, work = folder / "site", folder / "work"
    work.mkdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True, timeout=240)
    return Installed(wheel, site, work)


def test_the_wheel_carries_what_the_program_reads(installed: Installed) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    model = ("config.json", "model.safetensors", "tokenizer.json", "prompt_template.json", "MODEL_CARD.md")
    policies = ROOT / "policies"
    of_policies = {path.relative_to(policies).as_posix() for path in policies.rglob("*") if path.is_file()}
    assert {"calibration.json", "strict/v1.yaml", "solo/hold/ratchet.yaml"} <= of_policies
    wanted = {
        "mass_gov/py.typed",
        *(f"mass_gov/tasks/suites/{name}.jsonl" for name in ("core-v1", "instance-v1", "deployment-v1")),
        *(f"mass_gov/_data/policies/{path}" for path in of_policies),
        "mass_gov/_data/migrations/env.py",
        "mass_gov/_data/migrations/versions/0001_append_only_ledger.py",
        *(f"mass_gov/mass/reference/{name}" for name in model),
        *(f"mass_gov/mass/trained/{SHIPPED}/{name}" for name in (*model, "core.json", "core.safetensors")),
    }
    assert not wanted - names
    assert not [name for name in names if not name.startswith(("mass_gov/", "mass_gov-")) or "__pycache__" in name]


@pytest.mark.parametrize("folder", ["reference", f"trained/{SHIPPED}"])
def test_a_model_that_ships_is_small(installed: Installed, folder: str) -> None:
    infos = zipfile.ZipFile(installed.wheel).infolist()
    size = sum(
        i.file_size for i in infos if i.filename.startswith(f"mass_gov/mass/{folder}/") and _is_model(i.filename)
    )
    assert 0 < size <= 4 * 1024 * 1024


def _is_model(name: str) -> bool:
    return name.endswith((".safetensors", "tokenizer.json", "tokenizer_config.json"))


@pytest.mark.slow
def test_solve_and_verify_outside_a_checkout(installed: Installed) -> None:
    where = [sys.executable, "-c", "import mass_gov; print(mass_gov.__file__)"]
    env = os.environ | {"PYTHONPATH": str(installed.site)}
    found = subprocess.run(where, cwd=installed.work, env=env, check=True, capture_output=True, text=True).stdout
    assert Path(found.strip()).is_relative_to(installed.site)
    solved = installed.json("solve", "max 3 9 4 1", "--gold", "9")
    assert {"change_id", "answer", "base_answer", "correct", "decision", "state_digest", "log"} <= solved.keys()
    assert installed.json("verify")["ok"] is True


@pytest.mark.slow
def test_an_auditors_install_verifies_and_lists(installed: Installed) -> None:
    solved = installed.json("solve", "max 2 7", "--id", "for the auditor")
    assert installed.json("verify", learner=False)["ok"] is True
    shown = installed.json("changes", "show", str(solved["change_id"]), learner=False)
    assert shown["change_id"] == solved["change_id"]
    installed.json("pointers", "show", learner=False)
    refused = installed.run("solve", "max 1 2", learner=False)
    assert refused.returncode == 2 and "mass-gov[ml]" in refused.stderr
