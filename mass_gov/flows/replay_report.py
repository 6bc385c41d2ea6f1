"""What a replay says: stages with their digests, one verdict, and where the numeric environments differ.

Rules: a stage that was taken from the record and not computed again is `given`, never `equal`. `equal` means: every
stage that was computed agrees, under the same fingerprint. Nothing here computes or reads a ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.flows.fingerprints import compare
from mass_gov.records.events import Stage

Start = Literal["delta", "samples", "scratch"]
Verdict = Literal["equal", "equal, other fingerprint", "differs", "not replayable"]
STAGES: tuple[Stage, ...] = ("samples", "gates", "delta", "regression", "decision", "answer")


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage, recorded and recomputed."""

    stage: Stage
    recorded: str | None
    recomputed: str | None
    verdict: Literal["equal", "differs", "given", "unreadable", "not reached"]
    detail: str = ""


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
    """False when nothing could be compared (another base model is at hand): nothing was found about the record."""


class UnreadableError(Exception):
    """An artifact of one stage cannot be used as evidence.

    `compared` is False when nothing was held against the record, because what is here is not what it was made with.
    """

    def __init__(self, stage: Stage, detail: str, *, compared: bool = True) -> None:
        super().__init__(detail)
        self.stage = stage
        self.compared = compared


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
    found = f"the first difference is in stage {first.stage}" if first else "every recomputed digest agrees"
    return Replayed(
        target=target,
        change_id=change_id,
        start=start,
        verdict=verdict,
        stages=tuple(stages),
        first_difference=first.stage if first else None,
        detail="; ".join((found, *numeric.words())),
        fingerprint=sha256_hex(canonical_bytes(dict(present))),
        fingerprint_differs=numeric.different,
    )


def cut_short(
    target: str,
    change_id: str | None,
    start: Start,
    unreadable: UnreadableError,
    present: Mapping[str, Any],
    stages: Sequence[Stage] = STAGES,
) -> Replayed:
    """Report a record that cannot be used: its stage differs, and what comes after it was not reached."""
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
        verdict="differs",
        stages=results,
        first_difference=unreadable.stage,
        detail=str(unreadable),
        fingerprint=sha256_hex(canonical_bytes(dict(present))),
        fingerprint_differs={},
        compared=unreadable.compared,
    )
