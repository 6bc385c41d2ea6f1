"""Portable numerics on CPUs that are not here: a whole adaptation under an emulated one has this machine's digests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from mass_gov.mass.numerics import environment
from tests.contract.checkout import ROOT

QEMU = "qemu-x86_64"
CELL = str(ROOT / "bench" / "numerics_cell.py")
STAGES = {"samples", "readings", "ratios", "delta", "losses", "norms", "divergence", "answer"}
CANARIES = {"canary.prefill", "canary.decode", "canary.step"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def cell(numerics: str, *machine: str) -> dict[str, Any]:
    """A short adaptation in a process of its own."""
    variables = environment(os.environ) if numerics == "portable" else dict(os.environ)
    ran = subprocess.run(
        [*machine, sys.executable, CELL, numerics, "--tokens", "12", "--samples", "3"],
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
        env=variables | {"PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    """The digests of this machine, in portable numerics."""
    return cell("portable")


@pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"no {QEMU} here: `apt install qemu-user` emulates other CPUs")
@pytest.mark.parametrize(("cpu", "avx2"), [("Nehalem", False), ("Haswell", True)])
def test_a_whole_adaptation_has_the_same_bits_on_another_cpu(here: dict[str, Any], cpu: str, avx2: bool) -> None:
    there = cell("portable", QEMU, "-cpu", cpu)
    assert there["avx2"] is avx2, "the process ran on the emulated CPU, and not beside it"
    assert there["digests"].keys() == STAGES | CANARIES
    assert there["digests"] == here["digests"]
    assert there["fingerprint"] == here["fingerprint"]


def test_native_numerics_has_other_bits_where_the_cpu_has_wider_vectors(here: dict[str, Any]) -> None:
    native = cell("native")
    if native["fingerprint"]["torch.cpu_capability"] == "DEFAULT":
        pytest.skip("this CPU has no wider vectors than the plain kernels use")
    assert {name for name in CANARIES if native["digests"][name] != here["digests"][name]} == CANARIES
