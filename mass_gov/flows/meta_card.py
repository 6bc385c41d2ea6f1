"""The model card of a meta-training run.

Rules: it says nothing that was not measured in that run; every share comes with its n; what was settled before the run
(seed, settings, which weights are kept) stands beside what came out. Does not train or measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mass_gov.flows.meta_recipes import find_recipe
from mass_gov.mass.meta_values import MetaSettings

if TYPE_CHECKING:
    from mass_gov.flows.meta_train import MetaTrainReport

_LAST = 20  # steps behind "at the end"
_SHOWN = ("loss_task", "loss_sibling", "loss_other", "reward", "valid", "distinct", "copies", "kl", "step_size")
_ENDINGS = {
    "steps": "all its steps were taken",
    "flops": "its metered FLOPs were spent",
    "patience": "validation had not become better for as long as its patience",
}


def write_card(path: Path, report: MetaTrainReport, rows: Sequence[Mapping[str, Any]]) -> None:
    """MODEL_CARD.md. `rows` are the lines of progress.jsonl."""
    parts = [_head(report), _how(report), _validation(report), _steps(rows), _LIMITS]
    path.write_text("\n".join(parts), encoding="utf-8")


def _head(report: MetaTrainReport) -> str:
    s, recipe = report.settings, find_recipe(report.settings.recipe)
    beside = (
        ""
        if s.meta.practice == "none"
        else (" Beside them lies what its inner loop learned (core.json, core.safetensors): start, step sizes, scorer.")
    )
    return f"""# Meta-trained by mass-gov: {s.recipe}

{recipe.about[0].upper()}{recipe.about[1:]}. Written by `mass-gov train meta --recipe {s.recipe} --seed {s.meta.seed}`
from the base model with digest
`{report.base_digest}`; the digest of this folder is
`{report.digest}`.{beside}

Intended use: the demonstration, tests and evaluations of mass-gov (`--weights DIR` with this folder as
`DIR/{recipe.folder}`).
"""


def _how(report: MetaTrainReport) -> str:
    s = report.settings
    minutes, cpu = report.wall_seconds / 60, report.cpu_seconds / 60
    changed = "\n".join(f"| {name} | {value} |" for name, value in sorted(_leaves(s.meta)))
    rule = "the last" if s.keep == "last" else "best mean adapted validation accuracy, of equals the later"
    patience = f"after {s.patience} validations without a new best" if s.patience else "never"
    return f"""## How

| | |
|---|---|
| outer steps | {report.steps}; it ended because {_ENDINGS[report.ended]} |
| metered FLOPs | {report.flops:,}{f" of {s.flops:,}" if s.flops else ""} |
| weights kept | of step {report.kept} (rule fixed before the run: {rule}) |
| stopped early | {patience} |
| skipped steps | {report.skipped}, whose gradient was not finite or spiked |
| processes, threads each | {report.processes}, {s.threads} |
| device, numbers | {s.device}, {s.dtype} |
| time | {minutes:.1f} min wall, {cpu:.1f} min of CPU time of the first process, validations included |
| data digest | `{report.data_digest}` (SHA-256 chained over the tasks of all steps) |

Settings:

| | |
|---|---|
{changed}
"""


def _leaves(holder: MetaSettings, path: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for field in fields(holder):
        value = getattr(holder, field.name)
        name = f"{path}{field.name}"
        found += _leaves(value, f"{name}.") if is_dataclass(value) else [(name, value)]  # type: ignore[arg-type]
    return found


def _validation(report: MetaTrainReport) -> str:
    names = list(report.validations[-1]["domains"])
    rows = "\n".join(
        f"| {one['step']} | {_pair(one['bare'], one['adapted'])} | "
        + " | ".join(_pair(*one["domains"][name]) for name in names)
        + " |"
        for one in report.validations
    )
    return f"""## Validation

Percent solved un-adapted / adapted, greedy, on n = {report.validations[-1]["n"]} tasks of the `meta` split, drawn with
seeds of their own, round-robin over the domains; where a domain has few questions, some of them were a step's too. It
chose nothing but, under `--keep best`, which weights are kept. Figures on held-out tasks are `mass-gov evaluate`'s.

| step | all | {" | ".join(names)} |
|---|---|{"---|" * len(names)}
{rows}
"""


def _pair(bare: float, adapted: float) -> str:
    return f"{100 * bare:.0f} / {100 * adapted:.0f}"


def _steps(rows: Sequence[Mapping[str, Any]]) -> str:
    parts = (rows[:_LAST], rows[-_LAST:])
    names = [name for name in _SHOWN if any(row.get(name) is not None for row in rows)]
    cells = "\n".join(f"| {name} | {_mean(parts[0], name)} | {_mean(parts[1], name)} |" for name in names)
    return f"""## Steps

Means over the first and the last {min(_LAST, len(rows))} steps; all of them in `meta_curves.json`, drawn in
`meta_curves.png`.

| | first | last |
|---|---|---|
{cells}
"""


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    return f"{sum(values) / len(values):.3f}" if values else "-"


_LIMITS = """## Limits

- It knows the domains it was trained on and nothing else; on other text it writes nonsense.
- One seed is one draw: compare recipes over several.
- The weights are reproducible on the same machine with the same threads and processes; other CPUs differ in the last
  bits.
"""
