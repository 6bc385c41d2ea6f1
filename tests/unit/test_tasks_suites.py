"""Regression suites: strict to read, and no case that anybody else may ask."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from mass_gov.errors import TaskError
from mass_gov.flows.base_suite import core_suite
from mass_gov.mass.reference_model import reference_folder
from mass_gov.tasks.registry import DOMAINS, sample_tasks
from mass_gov.tasks.suite_building import build_suite, load_suite, suite_bytes

CORE = Path(str(files("mass_gov.tasks"))) / "suites" / "core-v1.jsonl"


def _edited(tmp_path: Path, **changes: object) -> Path:
    lines = CORE.read_text().splitlines()
    first = {**json.loads(lines[0]), **changes}
    path = tmp_path / "suite.jsonl"
    path.write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    return path


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


def test_no_shipped_case_is_ever_sampled_for_a_test() -> None:
    asked = {case.question for case in load_suite(CORE).cases}
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
