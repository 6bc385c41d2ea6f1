"""What a replay says: stages with their digests, one verdict, where the first difference is, and where the numeric
environments differ.

Rules: a stage that was taken from the record and not computed again is `given`, never `equal`. `equal` means: every
stage that was computed agrees, under the same fingerprint. Nothing here computes or reads a ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.flows.fingerprints import compare
from mass_gov.flows.replay_difference import Difference
from mass_gov.records.events import Stage

Start = Literal["delta", "samples", "scratch"]
Verdict = Literal["equal", "equal, other fingerprint", "differs", "not replayable"]
STAGES: tuple[Stage, ...] = ("samples", "gates", "delta", "regression", "decision", "answer")
_LISTED, _SHORT = 6, 40


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage, recorded and recomputed."""

    stage: Stage
    recorded: str | None
    recomputed: str | None
    verdict: Literal["equal", "differs", "given", "unreadable", "not reached"]
    detail: str = ""
    difference: Difference | None = None
    """Where the two part; None unless the verdict is `differs`."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came out of a replay."""

    target: str
    change_id: str | None
    start: Start
    verdict: Verdict
    stages: tuple[StageResult, ...]
    first_difference: Stage | None
    detail: str
    fingerprint: str
    fingerprint_differs: dict[str, tuple[Any, Any]]
    """Fingerprint entries that differ: recorded and present value."""
    compared: bool = True
    """False when nothing could be compared (another base model is at hand): nothing was found about the record, and
    the log says nothing of it."""

    @property
    def difference(self) -> Difference | None:
        """Where the first stage that differs parts from the record."""
        return next((one.difference for one in self.stages if one.stage == self.first_difference), None)


class UnreadableError(Exception):
    """An artifact of one stage cannot be used as evidence.

    `compared` is False when nothing was held against the record, because what is here is not what it was made with.
    """

    def __init__(self, stage: Stage, detail: str, *, compared: bool = True) -> None:
        super().__init__(detail)
        self.stage = stage
        self.compared = compared


class MissingError(UnreadableError):
    """What the change was made with is not here, or this release does not know its form: nothing is wrong with it."""

    def __init__(self, stage: Stage, detail: str) -> None:
        super().__init__(stage, detail, compared=False)


def conclude(
    target: str,
    change_id: str | None,
    start: Start,
    stages: Sequence[StageResult],
    recorded: Mapping[str, Any],
    present: Mapping[str, Any],
) -> Replayed:
    """Draw the verdict from compared stages and the two fingerprints."""
    first = next((result for result in stages if result.verdict == "differs"), None)
    numeric = compare(recorded, present)
    verdict: Verdict = "differs" if first else "equal, other fingerprint" if numeric.different else "equal"
    said = [
        f"the first difference is in stage {first.stage}: {first.detail}" if first else "every recomputed digest agrees"
    ]
    if numeric.different:
        said.append(f"the fingerprint differs in {_listed(numeric.different)}")
    return Replayed(
        target=target,
        change_id=change_id,
        start=start,
        verdict=verdict,
        stages=tuple(stages),
        first_difference=first.stage if first else None,
        detail="; ".join((*said, *numeric.words())),
        fingerprint=sha256_hex(canonical_bytes(dict(present))),
        fingerprint_differs=numeric.different,
    )


def _listed(other: Mapping[str, tuple[Any, Any]]) -> str:
    """Which parameters are not as recorded; of many the first, and how many more. What was chosen comes before what
    was measured: a canary is never the cause."""
    causes_first = sorted(other.items(), key=lambda item: item[0].startswith("canary."))[:_LISTED]
    named = [f"{name} ({_said(was)} recorded, {_said(now)} here)" for name, (was, now) in causes_first]
    more = len(other) - len(named)
    return ", ".join(named) + f" and {more} more" * (more > 0)


def _said(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"


def not_replayable(
    target: str,
    change_id: str | None,
    start: Start,
    why: str,
    present: Mapping[str, Any],
    stages: Sequence[Stage] = STAGES,
) -> Replayed:
    """Report content that was erased or not retained: nothing was compared, and nothing is wrong with the record."""
    return Replayed(
        target=target,
        change_id=change_id,
        start=start,
        verdict="not replayable",
        stages=tuple(StageResult(stage, None, None, "not reached") for stage in stages),
        first_difference=None,
        detail=why,
        fingerprint=sha256_hex(canonical_bytes(dict(present))),
        fingerprint_differs={},
    )


def cut_short(
    target: str,
    change_id: str | None,
    start: Start,
    unreadable: UnreadableError,
    present: Mapping[str, Any],
    stages: Sequence[Stage] = STAGES,
) -> Replayed:
    """Report a record that cannot be used: its stage differs, and what comes after it was not reached.

    Where something is only missing, nothing differs.
    """
    missing = isinstance(unreadable, MissingError)
    results = tuple(
        StageResult(stage, None, None, "unreadable", str(unreadable))
        if stage == unreadable.stage
        else StageResult(stage, None, None, "not reached")
        for stage in stages
    )
    return Replayed(
        target=target,
        change_id=change_id,
        start=start,
        verdict="not replayable" if missing else "differs",
        stages=results,
        first_difference=None if missing else unreadable.stage,
        detail=str(unreadable),
        fingerprint=sha256_hex(canonical_bytes(dict(present))),
        fingerprint_differs={},
        compared=unreadable.compared,
    )
