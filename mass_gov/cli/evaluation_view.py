"""What `mass-gov evaluate` prints for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mass_gov.cli.output import BAD, FAINT, GOOD, facts, grid, one_line


def listing(names: Mapping[str, str]) -> RenderableType:
    """Names of methods, with what each does."""
    return facts(dict(names))


def table(report: Mapping[str, Any]) -> RenderableType:
    """Two tables, one row per method: what it comes to and costs; and where (percent right per domain)."""
    methods: Mapping[str, Any] = report["methods"]
    caption = f"{report['n']} tasks, seed {report['seed']}; percent right, points against base, cost per task"
    parts: list[RenderableType] = [_overall(methods), "", _by_domain(methods), Text(caption, style=FAINT)]
    return Group(*parts, *([_decided(report["governed"])] if "governed" in report else []))


def _decided(governed: Mapping[str, Any]) -> Table:
    """What the policy decided, why, and what adapting was worth among the changes of each verdict."""
    columns = grid("verdict", "changes", "adapting gained", "adapting lost", "stood in the way")
    columns.title = f"under {governed['policy']}"
    for verdict, worth in governed["by_verdict"].items():
        why = ", ".join(f"{name} {count}" for name, count in worth["violated"].items())
        columns.add_row(verdict, str(worth["n"]), str(worth["gained"]), str(worth["lost"]), why or "-")
    return columns


def _overall(methods: Mapping[str, Any]) -> Table:
    columns = grid("method", "right", "95%", "vs base", "95%", "none", "late", "MFLOP", "ms")
    columns.columns[0].no_wrap = True
    for name, row in methods.items():
        low, gain, high = row["delta_vs_base"]
        columns.add_row(
            name,
            _share(row["accuracy"]),
            Text(f"{_share(row['ci'][0])}-{_share(row['ci'][1])}", style=FAINT),
            Text(f"{100 * gain:+.1f}", style=GOOD if low > 0 else BAD if high < 0 else ""),
            Text(f"{100 * low:+.1f}..{100 * high:+.1f}", style=FAINT),
            str(row["unparseable"]),
            str(row["timeout"]),
            f"{row['flops_per_task'] / 1e6:,.0f}",
            f"{1000 * row['seconds_per_task']:.0f}",
        )
    return columns


def _by_domain(methods: Mapping[str, Any]) -> Table:
    domains = list(next(iter(methods.values()))["domains"])
    columns = grid("method", *(one_line(domain, 24) for domain in domains))
    columns.columns[0].no_wrap = True
    for name, row in methods.items():
        columns.add_row(name, *(_share(row["domains"][domain]["accuracy"]) for domain in domains))
    return columns


def _share(value: float) -> str:
    return f"{100 * value:.1f}"
