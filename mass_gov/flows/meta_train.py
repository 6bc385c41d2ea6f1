"""Meta-train a base model: `mass-gov train meta`, from a model folder to a model folder.

    tasks -> outer steps (validated now and then) -> weights and core -> curves -> card

Layout of the run folder: as `meta_run` says, and at the end `weights/`: model.safetensors and config.json, the base's
tokenizer and prompt template, core.json and core.safetensors (unless nothing is practised), meta_curves.json,
meta_curves.png, MODEL_CARD.md. Called again with `resume` and the same settings, an interrupted run goes on where it
stopped and ends in the same weights, bit for bit (same machine, threads and number of processes).

Does not know the command line: progress goes to a callback.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from mass_gov.errors import InputError
from mass_gov.flows.meta_card import write_card
from mass_gov.flows.meta_curves import write_curves
from mass_gov.flows.meta_log import MetaLog, read_progress
from mass_gov.flows.meta_processes import Processes
from mass_gov.flows.meta_run import MetaRun, MetaTrainSettings
from mass_gov.mass.core import write_core
from mass_gov.mass.model_folder import base_digest

MetaProgress = Callable[[int, int, dict[str, float], float | None], None]
"""(steps done, steps planned, what the last one measured, last adapted validation accuracy)."""
_OF_THE_BASE = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template*")


@dataclass(frozen=True, slots=True)
class MetaTrainReport:
    """What came out.

    Args:
        steps: outer steps taken; kept: the step that the written weights are from; ended: why the run is over.
        flops: metered, all processes together. wall_seconds, cpu_seconds: of the first process, validations included.
        validations: as in `MetaRun`.
    """

    weights: Path
    settings: MetaTrainSettings
    base_digest: str
    digest: str
    steps: int
    kept: int
    ended: str
    skipped: int
    flops: int
    data_digest: str
    processes: int
    wall_seconds: float
    cpu_seconds: float
    validations: list[dict[str, Any]]


def train_meta(
    run_dir: Path, settings: MetaTrainSettings, *, resume: bool = False, progress: MetaProgress | None = None
) -> MetaTrainReport | None:
    """Meta-train in `run_dir` and write `run_dir/weights`; None in a process that does not write.

    Raises:
        InputError: the folder is not as `resume` says, holds a run with other settings or a snapshot that cannot be
            trusted; too many steps in a row diverged.
        ModelError: the base cannot be loaded.
    """
    processes = Processes(settings.device)
    try:
        processes.slice(settings.meta.tasks)
        _check_folder(run_dir, resume)
        processes.wait()  # nobody writes before all have looked
        run = MetaRun(run_dir, settings, processes)
        _train(run, progress)
        return _write(run) if processes.is_first else None
    finally:
        processes.close()


def _check_folder(run_dir: Path, resume: bool) -> None:
    if run_dir.exists() and not run_dir.is_dir():
        raise InputError(f"{run_dir} is a file. Name a folder for the run: --out RUN_DIR.")
    begun = run_dir.is_dir() and any(run_dir.iterdir())
    if begun and not resume:
        raise InputError(f"{run_dir} is not empty. Give --resume to go on with its run, or name a new folder.")
    if resume and not begun:
        raise InputError(f"there is no run in {run_dir} to go on with. Start one without --resume.")


def _train(run: MetaRun, progress: MetaProgress | None) -> None:
    if not run.processes.is_first:
        for _ in run.steps():
            pass
        return
    run.run_dir.mkdir(parents=True, exist_ok=True)
    with MetaLog(run.run_dir, run.done) as log:
        shown = len(run.validations)
        for measured in run.steps():
            log.step(run.done, measured)
            shown = _log_validations(run, log, shown)
            if progress is not None:
                last = run.validations[-1]["adapted"] if run.validations else None
                progress(run.done, run.steps_planned, measured, last)
        _log_validations(run, log, shown)


def _log_validations(run: MetaRun, log: MetaLog, shown: int) -> int:
    """Log the validations that were not shown yet; how many there are."""
    for one in run.validations[shown:]:
        by_domain = {f"adapted/{name}": adapted for name, (_, adapted) in one["domains"].items()}
        log.validation(one["step"], {"bare": one["bare"], "adapted": one["adapted"], **by_domain})
    return len(run.validations)


def _write(run: MetaRun) -> MetaTrainReport:
    """The folder, built aside and moved into place: a kill leaves none, or all of it."""
    kept = run.take_kept()
    new, weights = run.run_dir / "weights.new", run.run_dir / "weights"
    shutil.rmtree(new, ignore_errors=True)
    _write_model(run, new)
    report = _report(run, weights, base_digest(new), kept)
    rows = read_progress(run.run_dir)
    write_curves(new, rows, run.validations)
    write_card(new / "MODEL_CARD.md", report, rows)
    shutil.rmtree(weights, ignore_errors=True)
    new.replace(weights)
    return report


def _write_model(run: MetaRun, folder: Path) -> None:
    """Weights in float32 with their configuration, the base's tokenizer and template, and the core."""
    transformers_logging.disable_progress_bar()
    run.training.engine.model.float().cpu().save_pretrained(folder)
    for pattern in (*_OF_THE_BASE, "prompt_template.json"):
        for path in sorted(run.settings.base.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)
            else:
                shutil.copytree(path, folder / path.name)
    core = run.training.core()
    if core is not None:
        write_core(core, folder)


def _report(run: MetaRun, weights: Path, digest: str, kept: int) -> MetaTrainReport:
    return MetaTrainReport(
        weights=weights,
        settings=run.settings,
        base_digest=base_digest(run.settings.base),
        digest=digest,
        steps=run.done,
        kept=kept,
        ended=run.ended or "",
        skipped=run.training.skipped,
        flops=run.flops,
        data_digest=run.data_digest,
        processes=run.processes.count,
        wall_seconds=run.seconds[0],
        cpu_seconds=run.seconds[1],
        validations=run.validations,
    )
