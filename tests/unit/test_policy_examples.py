"""The examples beside the shipped policies: each decided as it should be, for the reason that it names."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mass_gov.config_data import data_folder
from mass_gov.errors import NotFoundError, PolicyError
from mass_gov.flows.policy_examples import FOLDERS, Tried, try_examples
from mass_gov.policy import Policy, load_policy
from mass_gov.policy.examples import decide_example
from mass_gov.policy.gate_settings import LATER_GATES

NAMES = ("default", "solo", "strict", "research")


def shipped(name: str) -> Policy:
    return load_policy((data_folder("policies") / name / "v1.yaml").read_bytes(), name)


def tried(name: str, folder: Path | None = None) -> list[Tried]:
    return try_examples(shipped(name), folder or data_folder("policies") / name)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The default policy's folder, to be spoilt."""
    return Path(shutil.copytree(data_folder("policies") / "default", tmp_path / "default"))


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_decided_as_it_should_be(name: str) -> None:
    wrong = {one.example.name: (one.decision.verdict, one.because) for one in tried(name) if not one.as_it_should}
    assert not wrong


@pytest.mark.parametrize("name", NAMES)
def test_every_policy_ships_with_several_examples_of_each_verdict(name: str) -> None:
    found = [one.expected for one in tried(name)]
    assert all(found.count(verdict) >= 3 for verdict in FOLDERS.values())


@pytest.mark.parametrize("name", NAMES)
def test_each_gate_that_can_stop_a_change_alone_stops_an_example(name: str) -> None:
    gates = shipped(name).document.gates.model_dump(by_alias=True)
    stopping = {gate for gate, settings in gates.items() if settings != "unused" and settings["on_fail"] != "drop"}
    alone = {one.because[0] for one in tried(name) if one.expected != "apply" and len(one.because) == 1}
    assert len(stopping) >= 10
    assert not stopping - alone


@pytest.mark.parametrize("name", ["default", "solo"])
def test_a_gate_that_drops_stops_no_example_although_it_fails(name: str) -> None:
    (one,) = [one for one in tried(name) if one.example.name == "accept/many-samples-dropped.yaml"]
    failed = {gate.name for gate in decide_example(one.example, shipped(name))[0] if gate.verdict == "fail"}
    assert failed == {
        "sample.near_duplicate",
        "sample.target_leakage",
        "sample.contamination",
        "sample.personal_data",
        "sample.secrets",
    }


def test_an_example_in_the_wrong_folder_fails(copied: Path) -> None:
    shutil.move(copied / "hold" / "large-step.yaml", copied / "accept" / "large-step.yaml")
    assert [one.example.name for one in tried("default", copied) if not one.as_it_should] == ["accept/large-step.yaml"]


def test_the_right_verdict_for_another_reason_fails(copied: Path) -> None:
    file = copied / "hold" / "large-step.yaml"
    file.write_text(file.read_text().replace("envelope.step_norm", "envelope.scopes"))
    (wrong,) = [one for one in tried("default", copied) if not one.as_it_should]
    assert (wrong.decision.verdict, wrong.because) == ("hold", ("envelope.step_norm",))


def test_a_policy_without_examples_was_not_tested(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no examples"):
        tried("default", tmp_path)


@pytest.mark.parametrize(
    ("example", "says"),
    [
        ("why: x\nbecause: [a]\nchange: {step_nrm: 0.1}", "line 3: step_nrm is no metric"),
        ("why: x\nbecause: [a]\nchange: {base_difference: 0.1}", "is no metric that an example sets"),
        ("why: x\nbecause: [a]\nchange: {steps: 1.5}", "is of type int"),
        ("why: x\nbecause: [a]\nchange: {forced: 1}", "is of type bool"),
        ("why: x\nbecause: [a]\nchange: {step_norm: missing}", "is of type double"),
        ("why: x\nbecause: [a]\nchange: {kept: 24}", "24 kept are not the 24 generated"),
        ("why: x\nbecause: [a]\nchange: {previous_lost: 120}", "no change"),
        ("why: x\nbecause: [a]\nchange: {regression_n: 0}", "no change"),
        ("why: x\nbecause: [a]\nchange: {scope: everywhere}", "no change"),
        ("why: x\nchange: {}", "an example says"),
        ("why: x\nbecause: a\nchange: {}", "an example says"),
        ("why: x\nbecause: [a]\nchange: 1", "mapping of metrics"),
        ("because: [a", "line"),
    ],
)
def test_an_example_that_is_no_change_is_refused(copied: Path, example: str, says: str) -> None:
    (copied / "accept" / "spoilt.yaml").write_text(example)
    with pytest.raises(PolicyError, match=r"accept/spoilt\.yaml") as caught:
        tried("default", copied)
    assert says in str(caught.value)


def test_strict_has_an_example_of_what_was_never_measured() -> None:
    """A measure that is missing is as bad as one beyond its limit; `strict` uses every gate of the catalogue."""
    gates = shipped("strict").document.gates.model_dump(by_alias=True)
    assert all(gates[name] != "unused" for name in LATER_GATES)
    assert any("missing" in file.read_text() for file in (data_folder("policies") / "strict" / "hold").glob("*.yaml"))
