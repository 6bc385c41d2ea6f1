"""Regression suites: versioned files of cases with exact golds, named by the digest of their bytes.

Rules: a suite is read whole or refused; a case is compared by exact text, so that an auditor needs no checker. Who runs
a suite and what counts as a loss is not known here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from mass_gov.errors import TaskError

MAX_BYTES = 4 * 1024 * 1024
_FIELDS: dict[str, type] = {
    "case_id": str,
    "domain": str,
    "split": str,
    "question": str,
    "answer": str,
    "critical": bool,
}


@dataclass(frozen=True, slots=True)
class SuiteCase:
    """One question whose answer must not get lost. `critical`: losing it alone stops a change."""

    case_id: str
    domain: str
    split: str
    question: str
    answer: str
    critical: bool


@dataclass(frozen=True, slots=True)
class Suite:
    """All cases in the file's order, and the SHA-256 of the file's bytes."""

    digest: str
    cases: tuple[SuiteCase, ...]


def parse_suite(source: bytes, where: str = "suite") -> Suite:
    """Read a suite: JSON Lines, one object with exactly the fields of `SuiteCase` each.

    Raises:
        TaskError: with `where`, the line and what is wrong with it.
    """
    if not 0 < len(source) <= MAX_BYTES:
        raise TaskError(f"{where}: a suite has 1 to {MAX_BYTES} bytes, this one {len(source)}. Use a shipped suite.")
    cases = tuple(_case(line, f"{where}, line {i}") for i, line in enumerate(source.splitlines(), start=1))
    for name in ("case_id", "question"):
        values = [getattr(case, name) for case in cases]
        if len(set(values)) != len(values):
            repeated = next(value for value in values if values.count(value) > 1)
            raise TaskError(f"{where}: the {name} {repeated!r} stands there twice. Keep one of the two cases.")
    return Suite(hashlib.sha256(source).hexdigest(), cases)


def _case(line: bytes, where: str) -> SuiteCase:
    try:
        raw: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{where}: not JSON ({error}). Mend or remove the line.") from None
    if not isinstance(raw, dict) or raw.keys() != _FIELDS.keys():
        raise TaskError(f"{where}: a case has exactly the fields {', '.join(_FIELDS)}. Mend the line.")
    for name, kind in _FIELDS.items():
        if type(raw[name]) is not kind:
            raise TaskError(f"{where}: {name} is not a {kind.__name__}. Mend the line.")
    return SuiteCase(**raw)
