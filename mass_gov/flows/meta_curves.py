"""The learning curves of a meta-training run: meta_curves.json and meta_curves.png.

Rules: every number is one that the run measured, a mean over a few steps where there are many; axes say what they
show. Does not train or measure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_POINTS = 100
"""About so many points a curve."""
_PANELS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "outer loss, nats per token",
        (("loss_task", "the task"), ("loss_sibling", "siblings"), ("loss_other", "other questions")),
    ),
    ("share of samples", (("valid", "valid"), ("distinct", "distinct"), ("copies", "copies of the task"))),
    ("KL to the start, nats per sample", (("kl", "generator"),)),
    (
        "step size",
        (("step_size", "mean"), ("step_size_least", "least"), ("step_size_most", "most")),
    ),
    ("share of right solutions (training)", (("reward", "reward"),)),
)


def write_curves(folder: Path, rows: Sequence[Mapping[str, Any]], validations: Sequence[Mapping[str, Any]]) -> None:
    """Write both files. `rows`: a mapping a step with "step"; validations as in `MetaRun`."""
    points = averaged(rows)
    text = json.dumps({"steps": points, "validations": list(validations)}, indent=1)
    (folder / "meta_curves.json").write_text(text + "\n", encoding="utf-8")
    _draw(folder / "meta_curves.png", points, validations)


def averaged(rows: Sequence[Mapping[str, Any]], points: int = _POINTS) -> list[dict[str, float]]:
    """Means over equally many steps each, about `points` of them; "step" is the last of each. null is left out."""
    width = max(1, len(rows) // points)
    found = []
    for first in range(0, len(rows), width):
        part = rows[first : first + width]
        names = dict.fromkeys(name for row in part for name, value in row.items() if value is not None)
        values = {name: [row[name] for row in part if row.get(name) is not None] for name in names}
        means = {name: sum(all_) / len(all_) for name, all_ in values.items()}
        found.append({**means, "step": part[-1]["step"]})
    return found


def _draw(path: Path, points: Sequence[Mapping[str, float]], validations: Sequence[Mapping[str, Any]]) -> None:
    import matplotlib  # noqa: PLC0415  (slow to import, and only wanted here)

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    panels = [panel for panel in _PANELS if any(name in point for name, _ in panel[1] for point in points)]
    figure, axes = pyplot.subplots(len(panels) + 1, 1, figsize=(7, 2.6 * (len(panels) + 1)), sharex=True)
    _draw_validations(axes[0], validations)
    for axis, (label, curves) in zip(axes[1:], panels, strict=True):
        for name, legend in curves:
            there = [point for point in points if name in point]
            axis.plot([point["step"] for point in there], [point[name] for point in there], label=legend)
        axis.set_ylabel(label, fontsize="small")
        axis.legend(fontsize="x-small")
    axes[-1].set_xlabel("outer step")
    figure.tight_layout()
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)


def _draw_validations(axis: Any, validations: Sequence[Mapping[str, Any]]) -> None:
    steps = [one["step"] for one in validations]
    axis.plot(steps, [one["adapted"] for one in validations], "k-", label="adapted")
    axis.plot(steps, [one["bare"] for one in validations], "k--", label="un-adapted")
    for index, name in enumerate(validations[-1]["domains"] if validations else ()):
        shares = [one["domains"][name][1] for one in validations]
        axis.plot(steps, shares, color=f"C{index}", linewidth=0.8, label=f"{name}, adapted")
    axis.set_ylim(0, 1)
    axis.set_ylabel("validation accuracy", fontsize="small")
    axis.set_title("Meta-training", fontsize="medium")
    axis.legend(fontsize="x-small", ncols=2)
