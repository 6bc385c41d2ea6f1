"""Regression suites: versioned files of cases with exact golds, named by the digest of their bytes.

The first line is the header: who the suite is, what it holds, and what it can tell. It declares the margin that it was
made for and the number of cases that this takes at the declared discordance (the share of cases that a harmless update
answers otherwise), so that its power is known before any change. `core-v1`, the first suite, has no header.

Rules: a suite is read whole or refused; a header that its cases do not bear out is refused; a case is compared by exact
text, so that an auditor needs no checker. Who runs a suite, what counts as a loss, and whether the declared number of
cases is enough (`mass_gov.policy.power`) is not known here.
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
FORMAT = 2
"""Of files with a header; a file without one is of format 1."""
_HEADER: dict[str, type] = {
    "format": int,
    "name": str,
    "version": int,
    "domains": list,
    "cases": int,
    "critical": int,
    "margin": float,
    "discordance": float,
    "power": float,
    "needed": int,
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
class SuiteHeader:
    """What a suite says of itself.

    Attributes:
        domains: of its cases, in their order.
        cases, critical: how many there are.
        margin: the loss that it was made to tell, as a difference of two shares.
        discordance: the share of cases that flip, lost or gained, that it was sized for.
        power: how likely a truly equal model passes at least, at that discordance.
        needed: cases that this takes.
    """

    format: int
    name: str
    version: int
    domains: tuple[str, ...]
    cases: int
    critical: int
    margin: float
    discordance: float
    power: float
    needed: int

    @property
    def label(self) -> str:
        """The name that policies use: `instance-v1`."""
        return f"{self.name}-v{self.version}"


@dataclass(frozen=True, slots=True)
class Suite:
    """All cases in the file's order, the SHA-256 of the file's bytes, and the header where the file has one."""

    digest: str
    cases: tuple[SuiteCase, ...]
    header: SuiteHeader | None = None


def parse_suite(source: bytes, where: str = "suite") -> Suite:
    """Read a suite: JSON Lines, a header and then one object with exactly the fields of `SuiteCase` each.

    Raises:
        TaskError: with `where`, the line and what is wrong with it.
    """
    if not 0 < len(source) <= MAX_BYTES:
        raise TaskError(f"{where}: a suite has 1 to {MAX_BYTES} bytes, this one {len(source)}. Use a shipped suite.")
    lines = [_object(line, f"{where}, line {i}") for i, line in enumerate(source.splitlines(), start=1)]
    header = _header(lines[0], f"{where}, line 1") if "format" in lines[0] else None
    first = 1 if header is None else 2
    rest = lines[first - 1 :]
    cases = tuple(_case(raw, f"{where}, line {i}") for i, raw in enumerate(rest, start=first))
    for name in ("case_id", "question"):
        values = [getattr(case, name) for case in cases]
        if len(set(values)) != len(values):
            repeated = next(value for value in values if values.count(value) > 1)
            raise TaskError(f"{where}: the {name} {repeated!r} stands there twice. Keep one of the two cases.")
    if header is not None:
        _borne_out(header, cases, where)
    return Suite(hashlib.sha256(source).hexdigest(), cases, header)


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        raw: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{where}: not JSON ({error}). Mend or remove the line.") from None
    if not isinstance(raw, dict):
        raise TaskError(f"{where}: a case has exactly the fields {', '.join(_FIELDS)}. Mend the line.")
    return raw


def _header(raw: dict[str, Any], where: str) -> SuiteHeader:
    if raw.keys() != _HEADER.keys():
        raise TaskError(f"{where}: a header has exactly the fields {', '.join(_HEADER)}. Mend the line.")
    _typed(raw, _HEADER, where)
    shares = [raw[name] for name in ("margin", "discordance", "power")]
    if raw["format"] != FORMAT or raw["version"] < 1 or not all(0 < share <= 1 for share in shares):
        raise TaskError(f"{where}: format {FORMAT}, a version from 1 and shares in (0, 1] are wanted. Mend the header.")
    if not all(type(name) is str for name in raw["domains"]):
        raise TaskError(f"{where}: domains is not a list of names. Mend the header.")
    return SuiteHeader(**{**raw, "domains": tuple(raw["domains"])})


def _borne_out(header: SuiteHeader, cases: tuple[SuiteCase, ...], where: str) -> None:
    """The header says what the cases are."""
    held = {
        "domains": tuple(dict.fromkeys(case.domain for case in cases)),
        "cases": len(cases),
        "critical": sum(case.critical for case in cases),
    }
    for name, value in held.items():
        if getattr(header, name) != value:
            said = getattr(header, name)
            raise TaskError(
                f"{where}: the header says {name} {said}, and its cases have {value}. Build the suite anew."
            )


def _case(raw: dict[str, Any], where: str) -> SuiteCase:
    if raw.keys() != _FIELDS.keys():
        raise TaskError(f"{where}: a case has exactly the fields {', '.join(_FIELDS)}. Mend the line.")
    _typed(raw, _FIELDS, where)
    return SuiteCase(**raw)


def _typed(raw: dict[str, Any], fields: dict[str, type], where: str) -> None:
    for name, kind in fields.items():
        if type(raw[name]) is not kind:
            raise TaskError(f"{where}: {name} is not a {kind.__name__}. Mend the line.")
