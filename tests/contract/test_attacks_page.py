"""The page of attacks tells of tests that there are: each is collected, on the engines that its row says."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.contract.checkout import ROOT, read

PAGE = "docs/reference/attacks.md"
IMPORTS = "--import-mode=importlib -p no:cacheprovider"
CATALOGUE = "tests/flows/test_attacks.py"
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


def test_every_test_that_the_page_names_is_collected_on_the_engines_that_it_says(collected: list[str]) -> None:
    assert len(rows()) > 40
    faults = []
    for row in rows():
        tests, wanted = of(row, collected), ENGINES[row[2]]
        if not tests or (wanted and engines_of(tests) != wanted):
            faults.append(f"{row}: {tests[:3] or 'there is no such test'}")
    assert not faults


def test_every_attack_of_the_catalogue_has_a_row(collected: list[str]) -> None:
    assert len(collected) > 100
    told = {test for row in rows() for test in of(row, collected)}
    assert not [test for test in collected if test.startswith(CATALOGUE) and test not in told]
