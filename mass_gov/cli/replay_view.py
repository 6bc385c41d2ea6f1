"""How a replay looks: as JSON, as a screen for people, and as the summary of many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from mass_gov.cli.output import facts, grid, number, one_line, styled

if TYPE_CHECKING:
    from mass_gov.cli.replay_runs import Row
    from mass_gov.flows.replay_difference import Difference, Distance
    from mass_gov.flows.replay_report import Replayed


def summary(rows: Sequence[Row], drawn: tuple[int, int] | None, left: int) -> dict[str, Any]:
    """Many replays as JSON; `drawn` is the seed of the draw and how many there were to draw from, `left` how many an
    interrupt left out."""
    return {
        "replays": [row.document() for row in rows],
        "verdicts": dict(Counter(row.verdict for row in rows)),
        "drawn": {"seed": str(drawn[0]), "of": drawn[1]} if drawn is not None else None,
        "not_reached": left,
    }


def screen(replayed: Replayed) -> list[RenderableType]:
    """One replay for a person, on one screen."""
    table = grid("stage", "recorded", "recomputed", "verdict")
    for one in replayed.stages:
        table.add_row(one.stage, _short(one.recorded), _short(one.recomputed), styled(one.verdict))
    parts: list[RenderableType] = [
        table,
        facts({"verdict": styled(replayed.verdict), "detail": one_line(replayed.detail, 600)}),
    ]
    if (difference := replayed.difference) is not None:
        parts += ["", *_difference(difference)]
    if replayed.fingerprint_differs:
        other = grid("fingerprint", "recorded", "here")
        for name, (was, now) in replayed.fingerprint_differs.items():
            other.add_row(name, one_line(str(was), 60), one_line(str(now), 60))
        parts += ["", other]
    return parts


def overview(rows: Sequence[Row]) -> list[RenderableType]:
    """Many replays for a person: each that is not simply equal, then how many came to what."""
    others = [row for row in rows if row.verdict != "equal"]
    table = grid("what", "verdict", "first difference", "exit")
    table.columns[0].no_wrap = True
    for row in others:
        first = row.replayed.first_difference if row.replayed is not None else None
        table.add_row(row.target, styled(row.verdict), first or "-", str(row.status))
    counts = grid("verdict", "replays")
    for verdict, count in Counter(row.verdict for row in rows).most_common():
        counts.add_row(styled(verdict), str(count))
    equal = sum(row.status == 0 for row in rows)
    said = f"{equal} of {len(rows)} replays are equal."
    details = [f"{row.target}: {one_line(row.detail, 300)}" for row in others]
    listed: list[RenderableType] = [table, "", *details, ""] if others else []
    return [*listed, counts, said]


def _difference(found: Difference) -> list[RenderableType]:
    rows = {kind: str(name) for kind, name in found.at}
    rows |= {f"{found.field} recorded": _value(found.recorded), f"{found.field} recomputed": _value(found.recomputed)}
    parts: list[RenderableType] = [facts({name: one_line(text, 200) for name, text in rows.items()})]
    if found.delta is not None:
        table = grid("apart", "numbers", "differing", "max abs", "ULP", "cosine")
        for name, far in (("this tensor", found.tensor), ("whole delta", found.delta)):
            if far is not None:
                table.add_row(name, *_distance(far))
        parts += [table]
    return parts


def _distance(far: Distance) -> list[str]:
    cosine = "-" if far.cosine is None else f"{far.cosine:.9f}"
    return [str(far.numbers), str(far.differing), number(far.max_abs), str(far.max_ulp), cosine]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    return "-" if value is None else repr(value) if isinstance(value, str) else str(value)


def _short(digest: str | None) -> str:
    return digest[:16] if digest else "-"
