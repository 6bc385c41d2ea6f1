"""Regression suites: strict to read, and no case that anybody else may ask."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from mass_gov.errors import TaskError
from mass_gov.flows.base_suite import PLANS, core_suite, planned_suite
from mass_gov.mass.reference_model import reference_folder, trained_folder
from mass_gov.tasks.registry import DOMAINS, sample_tasks
from mass_gov.tasks.suite_building import build_suite, load_suite, suite_bytes
from mass_gov.tasks.suites import parse_suite

FOLDER = Path(str(files("mass_gov.tasks"))) / "suites"
CORE = FOLDER / "core-v1.jsonl"
PLANNED = [FOLDER / f"{name}.jsonl" for name in PLANS]


def _edited(tmp_path: Path, **changes: object) -> Path:
    lines = CORE.read_text().splitlines()
    first = {**json.loads(lines[0]), **changes}
    path = tmp_path / "suite.jsonl"
    path.write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    return path


def _headed(**changes: object) -> bytes:
    first, *rest = (FOLDER / "instance-v1.jsonl").read_text().splitlines()
    return "\n".join([json.dumps({**json.loads(first), **changes}), *rest]).encode() + b"\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": 161}, "says cases 161, and its cases have 160"),
        ({"critical": 0}, "says critical 0"),
        ({"domains": ["nested"]}, "says domains"),
        ({"margin": 0.0}, "shares in"),
        ({"margin": float("nan")}, "shares in"),
        ({"margin": "0.1"}, "margin is not a float"),
        ({"power": 1.5}, "shares in"),
        ({"version": 0}, "a version from 1"),
        ({"format": 3}, "format 2"),
        ({"extra": 1}, "exactly the fields"),
    ],
)
def test_a_header_that_its_cases_do_not_bear_out_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        parse_suite(_headed(**changes))


def test_a_header_in_another_place_is_refused() -> None:
    first, second, *rest = _headed().splitlines()
    with pytest.raises(TaskError, match="line 2: a case has exactly the fields"):
        parse_suite(b"\n".join([second, first, *rest]))


def test_a_suite_says_who_it_is_and_the_first_one_has_no_header() -> None:
    header = parse_suite(_headed()).header
    assert header is not None
    assert (header.label, header.cases, header.margin) == ("instance-v1", 160, 0.1)
    assert load_suite(CORE).header is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "99"}, "is right"),
        ({"domain": "chess"}, "no question of domain"),
        ({"domain": "linear"}, "no question of domain"),
        ({"split": "hard"}, "no hard question"),
        ({"critical": 1}, "critical is not a bool"),
        ({"extra": 1}, "exactly the fields"),
    ],
)
def test_a_tampered_case_is_refused_and_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_suite(_edited(tmp_path, **changes))


def test_a_case_that_tests_may_ask_is_refused(tmp_path: Path) -> None:
    task = sample_tasks(1, 0, "nested", "easy")[0]
    with pytest.raises(TaskError, match="question of the suites"):
        load_suite(_edited(tmp_path, question=task.question, answer=task.answer))


def test_a_missing_suite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="cannot be read"):
        load_suite(tmp_path / "none.jsonl")


def test_the_shipped_suite_covers_what_an_update_must_keep_mostly_easy_with_a_few_critical_cases() -> None:
    suite = load_suite(CORE)
    abilities = {name for name, one in DOMAINS.items() if one.kind != "practice"}
    assert {case.domain for case in suite.cases} == abilities
    easy = sum(case.split == "easy" for case in suite.cases)
    assert 40 <= len(suite.cases) <= 60 and len(suite.cases) * 0.6 < easy < len(suite.cases)
    assert 3 <= sum(case.critical for case in suite.cases) <= 10


def test_the_shipped_suite_is_built_again_from_its_seed_and_the_shipped_base() -> None:
    assert core_suite(reference_folder()) == CORE.read_bytes()


@pytest.mark.parametrize("path", PLANNED, ids=lambda path: path.stem)
def test_a_suite_with_a_header_covers_the_same_and_has_a_few_critical_cases_in_every_domain(path: Path) -> None:
    suite = load_suite(path)
    assert suite.header is not None and suite.header.label == path.stem
    critical = [case for case in suite.cases if case.critical]
    assert {case.domain for case in critical} == {case.domain for case in suite.cases} == set(suite.header.domains)
    assert all(case.split == "easy" for case in critical) and len(critical) <= len(suite.cases) // 40


@pytest.mark.slow
def test_the_instance_suite_is_built_again_from_its_seed_and_the_shipped_models() -> None:
    made = planned_suite(PLANS["instance-v1"], (reference_folder(), trained_folder()))
    assert made == (FOLDER / "instance-v1.jsonl").read_bytes()


def test_no_shipped_case_is_ever_sampled_for_a_test() -> None:
    asked = {case.question for path in (CORE, *PLANNED) for case in load_suite(path).cases}
    for seed in range(5):
        for split in ("easy", "hard"):
            assert not asked & {task.question for task in sample_tasks(600, seed, split=split)}


def test_building_is_deterministic_and_differs_by_seed() -> None:
    one = build_suite("core", 1, 0, 10)
    assert one == build_suite("core", 1, 0, 10) and len(one) == 10 * (len(DOMAINS) - 2)
    other = {case.question for case in build_suite("core", 1, 1, 10)}
    assert len({case.question for case in one} & other) < 8  # short easy questions may meet, long ones don't
    assert suite_bytes(one).count(b"\n") == len(one)
    with pytest.raises(TaskError, match="at least one case"):
        build_suite("core", 1, 0, 0)
