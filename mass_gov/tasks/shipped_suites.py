"""The regression suites that ship, by the names that policies use, and every question that they ask.

Not known here: which of them a policy names, and what their cases are for.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from mass_gov.errors import InputError
from mass_gov.tasks.suites import parse_suite

_FOLDER = files("mass_gov.tasks") / "suites"


def suite_names() -> list[str]:
    """Names of all suites that ship, sorted: `core-v1`, ..."""
    return sorted(one.name.removesuffix(".jsonl") for one in _FOLDER.iterdir() if one.name.endswith(".jsonl"))


def suite_bytes(name: str) -> bytes:
    """Return the file of a shipped suite by the name that policies use, `instance-v1`.

    Raises:
        InputError: there is none of that name; the message lists those that there are.
    """
    if name not in (known := suite_names()):
        raise InputError(f"there is no regression suite {name!r}. Name one that ships: {', '.join(known)}.")
    return (_FOLDER / f"{name}.jsonl").read_bytes()


@cache
def questions_of(names: tuple[str, ...]) -> frozenset[str]:
    """Every question that the suites of these names ask; read once per process."""
    return frozenset(case.question for name in names for case in parse_suite(suite_bytes(name), name).cases)
