"""Runs base training with a progress bar. Loads torch."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mass_gov.errors import InputError, MissingExtraError


def train(folder: Path, given: dict[str, int], resume: bool, console: Console) -> dict[str, Any]:
    """Train in `folder` and return the report as JSON values.

    Raises:
        InputError: the folder is not as `resume` says, or holds a run with other settings.
        MissingExtraError: the learner is not installed.
    """
    _check(folder, resume)
    try:
        from mass_gov.flows.base_train import BaseTrainSettings, train_base
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"training needs the learner, and {error.name} is not installed. Run `pip install 'mass-gov[ml]'`."
        ) from None
    settings = replace(BaseTrainSettings(), **given)  # type: ignore[arg-type]  # only whole-number fields are given
    with _bar(console) as progress:
        task = progress.add_task("training", total=settings.steps, loss="-")

        def show(done: int, total: int, loss: float) -> None:
            progress.update(task, completed=done, total=total, loss=f"{loss:.4f}")

        report = train_base(folder, settings, show)
    return {
        "weights": str(report.weights),
        "parameters": report.parameters,
        "tokens": report.tokens,
        "data_digest": report.data_digest,
        "wall_seconds": round(report.wall_seconds, 1),
        "cpu_seconds": round(report.cpu_seconds, 1),
        "figures": {name: asdict(figures) for name, figures in report.figures.items()},
    }


def _check(folder: Path, resume: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Name a folder for the run: --out RUN_DIR.")
    begun = folder.is_dir() and any(folder.iterdir())
    if begun and not resume:
        raise InputError(f"{folder} is not empty. Give --resume to go on with its run, or name a new folder.")
    if resume and not begun:
        raise InputError(f"there is no run in {folder} to go on with. Start one without --resume.")


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
