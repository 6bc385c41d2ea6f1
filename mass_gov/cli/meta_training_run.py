"""Runs meta-training with a progress bar. Loads torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mass_gov.errors import MissingExtraError


@dataclass(frozen=True)
class AskedMeta:
    """The options of `mass-gov train meta` as given: `meta` and `run` hold those that were."""

    base: Path
    folder: Path
    recipe: str
    meta: dict[str, Any]
    run: dict[str, Any]
    changes: Sequence[str]
    resume: bool


def train_meta(asked: AskedMeta, console: Console) -> dict[str, Any] | None:
    """Meta-train and return the report as JSON values; None in a process that is not the first.

    Raises:
        InputError: the options do not go together, or the folder is not as they say.
        MissingExtraError: the learner is not installed.
    """
    try:
        from mass_gov.flows import meta_train
        from mass_gov.flows.meta_recipes import find_recipe, with_setting
        from mass_gov.flows.meta_run import MetaTrainSettings
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"training needs the learner, and {error.name} is not installed. Run `pip install 'mass-gov[ml]'`."
        ) from None
    meta = find_recipe(asked.recipe).settings(**asked.meta)
    for text in asked.changes:
        meta = with_setting(meta, text)
    settings = MetaTrainSettings(asked.base, asked.recipe, meta, **asked.run)
    with _bar(console) as progress:
        task = progress.add_task(asked.recipe, total=meta.steps, loss="-", accuracy="-", distinct="-", size="-")

        def show(done: int, total: int, measured: dict[str, float], adapted: float | None) -> None:
            progress.update(
                task,
                completed=done,
                total=total,
                loss=_shown(measured.get("loss_task", measured.get("reward")), 3),
                accuracy=_shown(adapted, 3),
                distinct=_shown(measured.get("distinct"), 2),
                size=_shown(measured.get("step_size"), 3),
            )

        report = meta_train.train_meta(asked.folder, settings, resume=asked.resume, progress=show)
    return _document(report) if report is not None else None


def _document(report: Any) -> dict[str, Any]:
    return {
        "weights": str(report.weights),
        "recipe": report.settings.recipe,
        "seed": report.settings.meta.seed,
        "digest": report.digest,
        "base_digest": report.base_digest,
        "data_digest": report.data_digest,
        "steps": report.steps,
        "kept": report.kept,
        "ended": report.ended,
        "skipped": report.skipped,
        "flops": report.flops,
        "processes": report.processes,
        "wall_seconds": round(report.wall_seconds, 1),
        "cpu_seconds": round(report.cpu_seconds, 1),
        "validations": report.validations,
    }


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(12),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}", markup=False),
        TextColumn("adapted {task.fields[accuracy]}", markup=False),
        TextColumn("distinct {task.fields[distinct]}", markup=False),
        TextColumn("step {task.fields[size]}", markup=False),
        TimeRemainingColumn(),
        console=console,
    )
