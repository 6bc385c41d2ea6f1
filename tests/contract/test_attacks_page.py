"""The page of attacks tells of tests that there are: each is collected, on the engines that its row says."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.contract.checkout import ROOT, read

PAGE = "docs/reference/attacks.md"
IMPORTS = "--import-mode=importlib -p no:cacheprovider"
CATALOGUES = ("tests/flows/test_attacks.py", "tests/unit/test_audit_forgeries.py", "tests/unit/test_audit_windows.py")
"""Every test there is of an attack and has a row, but for those that tell a truth."""
TRUTHS = ("test_the_forger_can_write_the_truth", "test_an_event_of_a_newer_program_is_no_tampering")
FINDINGS = re.compile(r"^def (test_verify_(?:names|finds)_\w+)", re.MULTILINE)
"""Wherever a test is named so, it is of an attack that verification catches."""
ENGINES = {"both": {"sqlite", "postgresql"}, "SQLite": {"sqlite"}, "PostgreSQL": {"postgresql"}, "none": set()}
"""By the last column of a row; "none" is of bytes that lie in no database."""

Row = tuple[str, str, str]
"""A test's file and name, the case in brackets or nothing, and the engines."""


def rows() -> list[Row]:
    """Every test that a row of a table names."""
    found = []
    for line in read(PAGE).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        for name, case in re.findall(r"`(tests/\w+/\w+\.py::\w+)(?:\[(\w+)\])?`", line):
            found.append((name, case, cells[-1].rstrip(" |")))
    return found


@pytest.fixture(scope="module")
def collected() -> list[str]:
    """What pytest collects of the files that the page names."""
    files = sorted({name.split("::")[0] for name, _, _ in rows()})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-o", f"addopts={IMPORTS}", *files]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return [line for line in listing.splitlines() if "::" in line]


def of(row: Row, collected: list[str]) -> list[str]:
    """The collected tests that a row means."""
    name, case, _ = row
    tests = [test for test in collected if test == name or test.startswith(f"{name}[")]
    return [test for test in tests if not case or re.search(rf"[\[-]{case}[-\]]", test)]


def engines_of(tests: list[str]) -> set[str]:
    """The engines that tests name; a test that names none runs on files."""
    named = {engine for test in tests for engine in ("sqlite", "postgresql") if re.search(rf"\[{engine}[-\]]", test)}
    server = {"postgresql"} if any("test_postgres" in test or "_a_server_" in test for test in tests) else set()
    return named or server or {"sqlite"}


@pytest.mark.slow
def test_every_test_that_the_page_names_is_collected_on_the_engines_that_it_says(collected: list[str]) -> None:
    assert len(rows()) > 40
    faults = []
    for row in rows():
        tests, wanted = of(row, collected), ENGINES[row[2]]
        if not tests or (wanted and engines_of(tests) != wanted):
            faults.append(f"{row}: {tests[:3] or 'there is no such test'}")
    assert not faults


def test_every_attack_of_the_catalogues_has_a_row(collected: list[str]) -> None:
    assert len(collected) > 100
    told = {test for row in rows() for test in of(row, collected)}
    attacks = [test for test in collected if test.startswith(CATALOGUES) and not any(name in test for name in TRUTHS)]
    assert {test.split("::")[0] for test in attacks} == set(CATALOGUES)
    assert not [test for test in attacks if test not in told]


def test_whatever_verify_is_said_to_find_has_a_row() -> None:
    files = [path for folder in ("unit", "flows", "properties") for path in (ROOT / "tests" / folder).glob("*.py")]
    found = {
        f"{path.relative_to(ROOT).as_posix()}::{name}" for path in files for name in FINDINGS.findall(path.read_text())
    }
    assert len(found) > 5
    assert not found - {name for name, _, _ in rows()}


def test_the_page_counts_the_lies_that_have_no_row_of_their_own(collected: list[str]) -> None:
    (line,) = [line for line in read(PAGE).splitlines() if " lies more: " in line]
    (name,) = re.findall(r"`(tests/\S+)`", line)
    tests = of((name, "", "both"), collected)
    assert line.startswith(f"| {len(tests) // len(engines_of(tests))} lies more: ")
