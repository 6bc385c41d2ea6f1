"""What a verification found: steps, faults, the first wrong thing, and what a person should look at anyway.

Faults are ordered by step and then by the place where they were met, so that the first one is the cause as often as
that can be known, and what follows from it comes later. What was not looked at is named as loudly as what was.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cryptography.exceptions import UnsupportedAlgorithm

from mass_gov.errors import LedgerUnavailableError, MassGovError
from mass_gov.ledger.database import DatabaseFault

Progress = Callable[[str, int, int], None]
"""(step's title, done, total)."""

STEPS: dict[int, str] = {
    1: "schema",
    2: "trust root",
    3: "events",
    4: "tree",
    5: "checkpoints",
    6: "checkpoints outside",
    7: "artifacts",
    8: "projections",
    9: "contents",
    10: "decisions",
    11: "storage",
    12: "witnesses",
}
"""The numbered procedure of docs/reference/verification.md."""

ODD_BYTES = (ValueError, ArithmeticError, RecursionError, UnsupportedAlgorithm, DatabaseFault)
"""What libraries raise on bytes that nobody honest wrote: a fault of the bytes, never the end of a verification."""

BY_DIGEST = 7
"""The step that meets its rows by digest: its faults are put in the order of their events."""

KEPT_FAULTS = 10
"""Faults kept per step; more are counted."""

KEPT_WARNINGS = 1000
"""Warnings kept; more are counted, so that a report does not grow with the log."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong thing: where it stands, and what is wrong with it."""

    step: int
    where: str
    what: str
    index: int | None = None
    change_id: str | None = None

    def __str__(self) -> str:
        return f"step {self.step} ({STEPS[self.step]}): {self.where}: {self.what}"


def _by_index(fault: Fault) -> tuple[bool, int]:
    return fault.index is None, fault.index or 0


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step: how many things it looked at, and what it found."""

    number: int
    title: str
    verdict: Literal["ok", "wrong", "skipped"]
    checked: int
    wrong: int
    note: str
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Witnessed:
    """The newest head that a quorum of the verifier's witnesses has cosigned.

    Attributes:
        size: events that it covers.
        by: names of those who cosigned it, the latest first.
        since: seconds since 1970 at which, or after which, a quorum vouched for it; None where none is asked for.
        age: seconds from then to the verification.
    """

    size: int
    by: tuple[str, ...]
    since: int | None
    age: int | None


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """The outcome. `ok` means that nothing was found wrong; `not_checked` says where it was not looked.

    Attributes:
        trust: where the log's key comes from. `consistency only` means that the log vouches for itself.
        log_key: the trusted key of the log that it stands on; without a trust root the one that it names first.
        trusted_size: where trust ends since a log key was compromised; None while all of it is believed.
        size, root: the head that was computed (root in hex).
        witnessed: how far a quorum of witnesses stands behind it; None where none does or none was asked for.
        first_wrong: the first fault in the order of the steps.
        cannot_check: why a program of this version cannot read all of it (a newer one wrote it); then not `ok`.
        counts: how many events, changes, artifacts and so on there are.
        not_checked: what was skipped, sealed or erased, so that nothing is known about it.
        warnings: no faults, and for a person to look at.
    """

    ok: bool
    trust: Literal["key given", "key store", "consistency only"]
    origin: str | None
    log_key: str | None
    trusted_size: int | None
    size: int
    root: str
    witnessed: Witnessed | None
    steps: tuple[StepResult, ...]
    first_wrong: Fault | None
    cannot_check: str | None
    counts: dict[str, int]
    not_checked: tuple[str, ...]
    warnings: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return asdict(self)


@dataclass
class Findings:
    """Collects while the steps run."""

    progress: Progress | None = None
    cannot_check: str | None = None
    warnings: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    _faults: dict[int, list[Fault]] = field(default_factory=dict)
    _wrong: dict[int, int] = field(default_factory=dict)
    _checked: dict[int, int] = field(default_factory=dict)
    _notes: dict[int, str] = field(default_factory=dict)
    _not_checked: dict[str, None] = field(default_factory=dict)
    _more_warnings: int = 0

    def wrong(self, step: int, where: str, what: str, index: int | None = None, change_id: str | None = None) -> None:
        """Note a fault."""
        self._wrong[step] = self._wrong.get(step, 0) + 1
        kept, fault = self._faults.setdefault(step, []), Fault(step, where, what, index, change_id)
        if step == BY_DIGEST:
            insort(kept, fault, key=_by_index)
        else:
            kept.append(fault)
        del kept[KEPT_FAULTS:]

    @contextmanager
    def guard(self, step: int, where: str, index: int | None = None, change_id: str | None = None) -> Iterator[None]:
        """Whatever is raised inside is a fault at `where`, and the verification goes on after the block.

        An outage is none: what a newer program wrote, or a file that cannot be read now, is not tampering.
        """
        try:
            yield
        except LedgerUnavailableError as error:
            self.cannot_check = self.cannot_check or f"{where}: {error}"
            self.unknown(f"step {step} ({STEPS[step]}) from {where} on")
        except MassGovError as error:
            self.wrong(step, where, str(error), index, change_id)
        except ODD_BYTES as error:
            what = f"it cannot be read ({type(error).__name__}: {str(error)[:200]}). Restore it."
            self.wrong(step, where, what, index, change_id)

    def checked(self, step: int, total: int = 0, by: int = 1) -> None:
        """Note that a step looked at one more thing, or `by` more."""
        self._checked[step] = self._checked.get(step, 0) + by
        if self.progress is not None:
            self.progress(STEPS[step], self._checked[step], total)

    def skipped(self, step: int, why: str) -> None:
        """Note why a step, or a part of it, was not done."""
        self._notes[step] = why
        self.unknown(f"step {step} ({STEPS[step]}): {why}")

    def remark(self, step: int, note: str) -> None:
        """Say something beside a step's verdict."""
        if note:
            self._notes[step] = note

    def absent(self, step: int, why: str) -> None:
        """Note why there is nothing for a step to look at."""
        self._notes[step] = why

    def unknown(self, what: str) -> None:
        """Note what was not looked at, once."""
        self._not_checked[what] = None

    def not_checked(self) -> tuple[str, ...]:
        """What was not looked at, in the order in which it was met."""
        return tuple(self._not_checked)

    def count(self, name: str, by: int = 1) -> None:
        """Count one more of something, or `by` more."""
        self.counts[name] = self.counts.get(name, 0) + by

    def warn(self, text: str) -> None:
        """Note what is no fault, and what a person should know; past the first ones they are only counted."""
        if len(self.warnings) < KEPT_WARNINGS:
            self.warnings.append(text)
            return
        self._more_warnings += 1
        self.warnings[KEPT_WARNINGS:] = [f"{self._more_warnings} more notes like these were not kept."]

    def any_wrong(self) -> bool:
        """Whether anything was found."""
        return bool(self._wrong)

    def first(self) -> Fault | None:
        """The first fault in the order of the steps."""
        return self._faults[min(self._faults)][0] if self._faults else None

    def steps(self) -> tuple[StepResult, ...]:
        """Every step with its verdict."""
        return tuple(self._step(number) for number in STEPS)

    def _step(self, number: int) -> StepResult:
        wrong, checked = self._wrong.get(number, 0), self._checked.get(number, 0)
        verdict: Literal["ok", "wrong", "skipped"] = "wrong" if wrong else "ok" if checked else "skipped"
        note = self._notes.get(number, "" if checked or wrong else "nothing to look at, or an earlier step failed")
        return StepResult(number, STEPS[number], verdict, checked, wrong, note, tuple(self._faults.get(number, ())))
