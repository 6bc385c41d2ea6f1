"""Portable numerics begins with the process or not at all: never a silent fallback."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mass_gov.errors import SettingsError
from mass_gov.mass import numerics
from mass_gov.mass.inner_loop import norm_of
from mass_gov.mass.learner import Learner
from tests.contract.checkout import ROOT

OPEN = "import sys; from pathlib import Path; from mass_gov.mass.learner import Learner\n"
BEGIN = "from mass_gov.mass import numerics; numerics.begin()\n"


def python(code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, env=environment)


def test_a_process_that_began_natively_never_computes_portably(tiny_model: Callable[[str], Path]) -> None:
    with pytest.raises(SettingsError, match="before the process starts"):
        Learner.open(tiny_model("llama"), numerics="portable")


def test_beginning_where_torch_is_loaded_is_refused() -> None:
    with pytest.raises(SettingsError, match="before the process starts"):
        numerics.begin()


def test_variables_that_are_set_too_late_do_not_count(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in numerics.environment(os.environ).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="before the process starts"):
        Learner.open(tiny_model("llama"), numerics="portable")


@pytest.mark.parametrize("name", [*numerics.PINNED, numerics.TUNABLES])
def test_every_variable_is_insisted_on(name: str, tiny_model: Callable[[str], Path]) -> None:
    variables = numerics.environment(os.environ)
    assert numerics._is_portable(variables)
    assert not numerics._is_portable({other: value for other, value in variables.items() if other != name})
    assert not numerics._is_portable(variables | {name: "2"})


@pytest.mark.parametrize("name", numerics.CLEARED)
def test_a_variable_that_pulls_the_other_way_is_taken_out(name: str) -> None:
    variables = numerics.environment({**os.environ, name: "1"})
    assert name not in variables and numerics._is_portable(variables)
    assert not numerics._is_portable(variables | {name: "1"})


def test_other_tunables_of_the_c_library_stay() -> None:
    found = numerics.environment({"GLIBC_TUNABLES": "glibc.malloc.check=1:glibc.cpu.hwcaps=AVX2", "HOME": "/h"})
    assert found["GLIBC_TUNABLES"] == "glibc.malloc.check=1:glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4"
    assert found["HOME"] == "/h"


def test_more_than_one_thread_is_refused(tiny_model: Callable[[str], Path]) -> None:
    with pytest.raises(SettingsError, match="one thread"):
        Learner.open(tiny_model("llama"), threads=2, numerics="portable")


@pytest.mark.parametrize("machine", ["aarch64", "arm64"])
def test_another_kind_of_cpu_is_refused(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    with pytest.raises(SettingsError, match="x86-64 Linux with glibc"):
        numerics.require(1)


@pytest.mark.slow
def test_a_library_on_which_the_variables_have_no_effect_is_refused() -> None:
    code = BEGIN + OPEN + "numerics._PROBED = '0x0p+0'; Learner.open(Path(sys.argv[1]), numerics='portable')"
    ran = python(code, "nowhere", **numerics.environment(os.environ))
    assert ran.returncode == 1 and "has no effect" in ran.stderr


def test_beginning_keeps_the_command_line_and_happens_once(tiny_model: Callable[[str], Path]) -> None:
    code = (
        BEGIN
        + OPEN
        + "import json; found = Learner.open(Path(sys.argv[1]), numerics='portable').fingerprint()\n"
        + "print(json.dumps([sys.argv[2:], found]))"
    )
    ran = python(code, str(tiny_model("llama")), "a b", "--c")
    assert ran.returncode == 0, ran.stderr
    arguments, found = json.loads(ran.stdout)
    assert arguments == ["a b", "--c"] and found["numerics"] == "portable"
    assert not [name for name in found if name.startswith(("cpu.", "env.", "torch.cpu"))], "what cannot matter"


def test_variables_that_get_lost_on_the_way_are_an_error_and_no_loop() -> None:
    ran = python(BEGIN, **{numerics._AGAIN: "1"})
    assert ran.returncode == 1 and "something takes them away" in ran.stderr


def test_the_norm_of_a_gradient_is_rounded_once() -> None:
    """By the CPU's square root: torch's is MKL's, off by one for some of these, and not on each CPU alike."""
    for one in range(1, 400):
        root = math.sqrt(one)
        values = torch.tensor([root, 1.0], dtype=torch.float64)
        assert norm_of({"one": values}) == math.sqrt(root * root + 1.0)
