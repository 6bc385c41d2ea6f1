"""`mass-gov replay` where numbers may come out otherwise: never `equal`, and the parameter is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from mass_gov.mass import loading
from mass_gov.mass.learner import Learner
from tests.e2e.conftest import Command, Ran
from tests.fakes.told import Told


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MASS_GOV_THREADS", "2")
    yield
    torch.set_num_threads(1)


def elsewhere(status: int, document: Any, parameter: str) -> None:
    """Equal with every digest checked, or differs with the stage: the parameter is named in either case."""
    assert document["verdict"] == {0: "equal, other fingerprint", 3: "differs"}[status], document["detail"]
    assert parameter in document["fingerprint_differs"] and parameter in document["detail"]
    if status == 3:
        assert document["first_difference"] in document["detail"]
    else:
        assert {stage["verdict"] for stage in document["stages"]} == {"equal"}


def checked(ran: Ran, parameter: str) -> None:
    elsewhere(ran.status, ran.json, parameter)


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
def test_with_two_threads_it_is_never_equal(cli: Command, told: Told) -> None:
    ran = cli("replay", told.second, "--no-record", "--json")
    checked(ran, "torch.threads")
    assert ran.json["fingerprint_differs"]["torch.threads"] == {"recorded": 1, "present": 2}
    shown = cli("replay", told.plain, "--no-record")
    assert shown.status in (0, 3) and "torch.threads" in shown.out


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
def test_a_difference_under_two_threads_names_the_threads_the_stage_and_the_tensor(
    cli: Command, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another order of summation, as far as it can be had on demand: every delta comes out by one step of float32."""
    genuine = Learner.write_adapter

    def summed_otherwise(learner: Learner, adapter: Any) -> dict[str, bytes]:
        nudged = {name: torch.nextafter(tensor, torch.tensor(1.0)) for name, tensor in adapter.tensors.items()}
        return genuine(learner, replace(adapter, tensors=nudged))

    monkeypatch.setattr(Learner, "write_adapter", summed_otherwise)
    ran = cli("replay", told.second, "--no-record", "--json")
    assert (ran.status, ran.json["verdict"], ran.json["first_difference"]) == (3, "differs", "delta")
    assert "torch.threads (1 recorded, 2 here)" in ran.json["detail"]
    assert ran.json["difference"]["delta"]["max_ulp"] == 1
    assert "tensor" in ran.json["difference"]["at"]


def test_with_another_attention_it_is_never_equal(cli: Command, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "ATTENTION", "sdpa")
    checked(cli("replay", told.plain, "--no-record", "--json"), "attention")


@pytest.mark.slow
def test_with_another_cpu_capability_it_is_never_equal(told: Told) -> None:
    command = [sys.executable, "-m", "mass_gov.cli.main", "replay", told.second, "--no-record", "--json"]
    here = torch.backends.cpu.get_cpu_capability()
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2" if here == "DEFAULT" else "default"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert ran.returncode in (0, 3), ran.stderr
    elsewhere(ran.returncode, json.loads(ran.stdout), "torch.cpu_capability")
