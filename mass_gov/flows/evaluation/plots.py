"""Plots of an evaluation as PNG: the table, gains per domain, the learned curriculum, amortised use.

Does not know how the numbers were found.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

_BEFORE, _AFTER = "#9aa0a6", "#1a73e8"


def draw(folder: Path, report: Mapping[str, Any], figures: Mapping[str, Any]) -> list[Path]:
    """Write methods.png, domains.png, curriculum.png and, where there is such a domain, amortised.png."""
    drawn = {
        "methods.png": _methods(report["methods"]),
        "domains.png": _domains(report["methods"]),
        "curriculum.png": _curriculum(figures["curriculum"]),
    }
    if figures["amortised"]:
        drawn["amortised.png"] = _amortised(figures["amortised"])
    for name, figure in drawn.items():
        figure.savefig(folder / name, dpi=120, bbox_inches="tight", metadata={"Software": None})
        pyplot.close(figure)
    return [folder / name for name in drawn]


def _methods(methods: Mapping[str, Any]) -> Any:
    figure, axes = pyplot.subplots(figsize=(7, 0.35 * len(methods) + 1))
    names = list(methods)[::-1]
    for place, name in enumerate(names):
        low, high = methods[name]["ci"]
        axes.plot([100 * low, 100 * high], [place, place], color=_BEFORE)
        axes.plot(100 * methods[name]["accuracy"], place, "o", color=_AFTER)
    axes.axvline(100 * methods["base"]["accuracy"], color=_BEFORE, linestyle=":")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("right answers, % (95% interval); dotted: base")
    return figure


def _domains(methods: Mapping[str, Any]) -> Any:
    names = [name for name in methods if name != "base"]
    domains = list(methods["base"]["domains"])
    gains = [[100 * methods[name]["domains"][d]["delta_vs_base"][1] for d in domains] for name in names]
    figure, axes = pyplot.subplots(figsize=(1.1 * len(domains) + 3, 0.35 * len(names) + 1.5))
    if not names:
        axes.text(0.5, 0.5, "base only", ha="center")
        return figure
    axes.imshow(gains, cmap="RdBu", vmin=-40, vmax=40, aspect="auto")
    for y, row in enumerate(gains):
        for x, gain in enumerate(row):
            axes.text(x, y, f"{gain:+.0f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(domains)), domains, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_title("points against base")
    return figure


def _curriculum(curriculum: Mapping[str, Any]) -> Any:
    domains = list(curriculum["after"])
    shares = list(curriculum["after"][domains[0]])
    figure, all_axes = pyplot.subplots(1, len(shares), figsize=(3 * len(shares), 3), sharey=True)
    for axes, share in zip(all_axes, shares, strict=True):
        for shift, (when, colour) in enumerate((("before", _BEFORE), ("after", _AFTER))):
            heights = [curriculum[when].get(domain, {}).get(share, 0.0) for domain in domains]
            axes.bar([x + 0.4 * shift for x in range(len(domains))], heights, 0.4, color=colour, label=when)
        axes.set_xticks([x + 0.2 for x in range(len(domains))], domains, rotation=60, ha="right", fontsize=8)
        axes.set_title(share)
    all_axes[0].legend()
    return figure


def _amortised(domains: Mapping[str, Any]) -> Any:
    figure, rows = pyplot.subplots(len(domains), 2, figsize=(9, 3 * len(domains)), squeeze=False, layout="constrained")
    for axes, (name, found) in zip(rows, domains.items(), strict=True):
        for way, curve in found["curves"].items():
            tasks = range(1, len(curve["accuracy"]) + 1)
            axes[0].plot(tasks, [100 * share for share in curve["accuracy"]], label=way)
            axes[1].plot(tasks, [flops / 1e6 for flops in curve["flops"]], label=way)
        axes[0].set_title(f"{name}: right, %")
        axes[1].set_title(f"{name}: MFLOP per task")
        axes[1].set_yscale("log")
        axes[0].legend(fontsize=8)
        for one in axes:
            one.set_xlabel("tasks in the stream")
    return figure
