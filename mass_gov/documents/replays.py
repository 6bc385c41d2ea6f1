"""One replay as every door says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mass_gov.flows.replay_report import Replayed


def replay_document(replayed: Replayed) -> dict[str, Any]:
    """One replay, stage by stage."""
    difference = replayed.difference
    return {
        "target": replayed.target,
        "change_id": replayed.change_id,
        "from": replayed.start,
        "verdict": replayed.verdict,
        "first_difference": replayed.first_difference,
        "difference": difference.document() if difference is not None else None,
        "detail": replayed.detail,
        "compared": replayed.compared,
        "stages": [
            {
                "stage": one.stage,
                "recorded": one.recorded,
                "recomputed": one.recomputed,
                "verdict": one.verdict,
                "detail": one.detail,
            }
            for one in replayed.stages
        ],
        "fingerprint": replayed.fingerprint,
        "fingerprint_differs": {
            name: {"recorded": was, "present": now} for name, (was, now) in replayed.fingerprint_differs.items()
        },
    }
