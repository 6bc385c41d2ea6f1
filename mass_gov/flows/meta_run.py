"""One meta-training run on disk: what determines it, its state after every step, and the snapshot that it resumes from.

Layout of a run folder: `snapshot/` and, with `keep` "best", `best/snapshot/` (see `mass.snapshot`), `progress.jsonl`,
`tensorboard/` (see `meta_log`); `weights/` is `meta_train`'s.

Rules: a run goes on only with the settings that it began with, on as many processes; a snapshot carries a digest over
all that it says, and one that does not bear it out, or does not fit the model, is refused. While steps are being
skipped no snapshot is written, so that the last one is from before. Does not know the command line or the card.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mass_gov.errors import InputError, SettingsError
from mass_gov.flows.meta_examples import MetaSource, validation_tasks
from mass_gov.flows.meta_processes import Processes
from mass_gov.flows.meta_recipes import find_recipe
from mass_gov.flows.meta_state import differences, opened, plain, put, put_optimizer, sealed
from mass_gov.flows.meta_validation import Accuracies, validate
from mass_gov.mass import loading
from mass_gov.mass.meta_training import MetaTraining
from mass_gov.mass.meta_values import MetaSettings, MetaTask
from mass_gov.mass.model_folder import base_digest
from mass_gov.mass.snapshot import Snapshot, load_snapshot, optimizer_tensors, save_snapshot

MOST_SKIPPED = 20
"""So many skipped steps in a row end a run."""
_PLANNED = 3  # throwaway steps that say what a step costs
_NOTHING = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class MetaTrainSettings:
    """Everything that determines a run, and how often it is looked at.

    Args:
        base: model folder that training starts from; a core in it is left aside.
        recipe: name in `meta_recipes`, for the record and for how validation answers; `meta` are its settings.
        flops: stop at so many metered FLOPs (all processes together) instead of after `meta.steps`.
        plan_steps: with flops: let a few throwaway steps say how many steps that is, for the schedule of the rates.
        validate_every, validation_tasks, answer_tokens: how often, on how many tasks, solutions of what length.
        keep: which weights are written: the last, or those with the best mean adapted accuracy (of equals the later).
        patience: stop after so many validations in a row without a new best; None never.
        threads: of torch; they decide bits, as device and dtype do.
    """

    base: Path
    recipe: str = "mass-gold"
    meta: MetaSettings = field(default_factory=MetaSettings)
    flops: int | None = None
    plan_steps: bool = False
    validate_every: int = 50
    validation_tasks: int = 120
    answer_tokens: int = 96
    keep: Literal["last", "best"] = "last"
    patience: int | None = None
    snapshot_every: int = 20
    threads: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        find_recipe(self.recipe)
        for name in ("validate_every", "validation_tasks", "answer_tokens", "snapshot_every", "threads"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}. Give 1 or more.")
        if any(value is not None and value < 1 for value in (self.flops, self.patience)):
            raise SettingsError("flops and patience, where given, must be 1 or more.")


class MetaRun:
    """The state of one run in this process. `steps` takes the steps that are left.

    Attributes:
        steps_planned: length of the rates' schedule; the end of the run too, unless FLOPs end it.
        data_digest: SHA-256 chained over every task of every step, in order (hex): runs on the same data share it.
        seconds: (wall, CPU of this process) of the steps and validations behind the present state.
        validations: {"step", "n", "bare", "adapted", "domains"} each, in order; best: {"step", "adapted"}.

    Raises:
        InputError: the folder holds a run with other settings, or a snapshot that is not what such a run writes.
        ModelError: the base cannot be loaded.
    """

    def __init__(self, run_dir: Path, settings: MetaTrainSettings, processes: Processes) -> None:
        self.run_dir, self.settings, self.processes = run_dir, settings, processes
        _set_up(settings)
        self._identity = _identity(settings, processes)
        snapshot = load_snapshot(run_dir)
        remembered = self._checked(snapshot) if snapshot is not None else {}
        self.steps_planned: int = remembered.get("steps_planned") or self._plan()
        self.training = self._training(replace(settings.meta, steps=self.steps_planned))
        self.source = MetaSource(settings.meta.seed, settings.meta.tasks)
        self.flops, self.skipped_in_row, self.data_digest = 0, 0, _NOTHING
        self.seconds = (0.0, 0.0)
        self.validations: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        if snapshot is not None:
            self._resume(snapshot)
        self._clock = time.monotonic(), time.process_time()

    @property
    def done(self) -> int:
        """Steps taken."""
        return self.training.done

    @property
    def ended(self) -> str | None:
        """Why the run is over: "steps", "flops" or "patience"; None while it is not."""
        s = self.settings
        if s.patience is not None and self.best is not None:
            since = [one for one in self.validations if one["step"] > self.best["step"]]
            if len(since) >= s.patience:
                return "patience"
        if s.flops is not None:
            return "flops" if self.flops >= s.flops else None
        return "steps" if self.done >= self.steps_planned else None

    def steps(self) -> Iterator[dict[str, float]]:
        """Take the steps that are left, validating and saving on the way; what each measured.

        Raises InputError where too many in a row were skipped.
        """
        if not self.validations:
            self.validate()
        while self.ended is None:
            yield self._step()
            validated = self.done % self.settings.validate_every == 0 or self.ended is not None
            if validated:
                self.validate()
            if validated or self.done % self.settings.snapshot_every == 0:
                self.save()

    def validate(self) -> Accuracies:
        """Measure the present weights; remember the result, and the weights if they are the best to be kept."""
        s = self.settings
        self.training.weights.write()
        engine = self.training.engine.with_core(self.training.core())
        tasks = validation_tasks(s.validation_tasks)
        found = validate(engine, find_recipe(s.recipe).method, tasks, s.meta, s.answer_tokens)
        domains = {name: list(pair) for name, pair in found.domains.items()}  # as JSON gives it back
        self.validations.append({"step": self.done, **asdict(found), "domains": domains})
        if self.best is None or found.adapted >= self.best["adapted"]:
            self.best = {"step": self.done, "adapted": found.adapted}
            if s.keep == "best" and self.processes.is_first:
                save_snapshot(self.run_dir / "best", Snapshot(self._weights(), {}, dict(self.best)))
        return found

    def save(self) -> None:
        """Write a snapshot from which this run can go on, unless steps are being skipped."""
        self._count_time()
        if not self.processes.is_first or self.skipped_in_row:
            return
        weights, optimizer = self._weights(), plain(optimizer_tensors(self.training.weights.optimizer))
        progress = {"identity": self._identity, **{name: getattr(self, name) for name in _REMEMBERED}}
        progress |= {name: getattr(self.training, name) for name in _REMEMBERED_BY_TRAINING}
        save_snapshot(self.run_dir, sealed(weights, optimizer, progress))

    def take_kept(self) -> int:
        """Put the weights that are to be kept into the model; the number of steps behind them."""
        step = self.done
        if self.settings.keep == "best" and self.best is not None:
            kept = load_snapshot(self.run_dir / "best")
            step = self.best["step"]
            if kept is None or kept.progress != self.best:
                raise InputError(f"{self.run_dir / 'best'} does not hold the weights of step {step}. Train again.")
            put(self.training.weights.named(), kept.weights)
        self.training.weights.write()
        return step

    def _step(self) -> dict[str, float]:
        tasks = self.source.step(self.done)
        self.data_digest = _chain(self.data_digest, tasks)
        skipped, flops, began = self.training.skipped, self.training.flops, time.monotonic()
        measured = self.training.step(tasks[self.processes.slice(len(tasks))])
        own = {"flops": float(self.training.flops - flops)}
        measured = self.processes.means({**measured, **own})
        self.flops += round(measured["flops"] * self.processes.count)
        self.skipped_in_row = self.skipped_in_row + 1 if self.training.skipped > skipped else 0
        if self.skipped_in_row >= MOST_SKIPPED:
            raise InputError(
                f"{MOST_SKIPPED} steps in a row had a gradient that diverged, the last of them step {self.done}. The "
                f"last good snapshot is in {self.run_dir}. Start anew with lower rates, say --set rates.model=1e-4."
            )
        return {**measured, "flops": float(self.flops), "seconds": round(time.monotonic() - began, 3)}

    def _plan(self) -> int:
        """How many steps the schedule has: as set, or what the FLOPs will do for by the cost of a few steps."""
        s = self.settings
        if s.flops is None or not s.plan_steps:
            return s.meta.steps
        probe, source = self._training(s.meta), MetaSource(s.meta.seed, s.meta.tasks)
        for step in range(_PLANNED):
            tasks = source.step(step)
            probe.step(tasks[self.processes.slice(len(tasks))])
        cost = self.processes.means({"flops": probe.flops * self.processes.count / _PLANNED})["flops"]
        return max(1, round(s.flops / cost))

    def _training(self, meta: MetaSettings) -> MetaTraining:
        model, text = loading.load(self.settings.base)
        model = model.to(device=self.processes.device, dtype=getattr(torch, self.settings.dtype))
        training = MetaTraining(model, text, meta, self.processes.average)
        training.first_task = self.processes.slice(meta.tasks).start
        return training

    def _weights(self) -> dict[str, Tensor]:
        return plain(self.training.weights.named())

    def _count_time(self) -> None:
        now = time.monotonic(), time.process_time()
        wall, cpu = (before + b - a for before, a, b in zip(self.seconds, self._clock, now, strict=True))
        self.seconds, self._clock = (wall, cpu), now

    def _checked(self, snapshot: Snapshot) -> dict[str, Any]:
        """What the snapshot remembers, if it is whole and of these settings."""
        progress = opened(snapshot, {"identity", *_REMEMBERED, *_REMEMBERED_BY_TRAINING})
        odd = list(differences(progress["identity"], self._identity))
        if odd:
            raise InputError(
                f"{self.run_dir} holds a run with other settings: {'; '.join(odd[:4])}. Give those of the run, or name "
                "a new folder."
            )
        return progress

    def _resume(self, snapshot: Snapshot) -> None:
        for name in _REMEMBERED:
            setattr(self, name, snapshot.progress[name])
        for name in _REMEMBERED_BY_TRAINING:
            setattr(self.training, name, snapshot.progress[name])
        put(self.training.weights.named(), snapshot.weights)
        put_optimizer(self.training.weights.optimizer, snapshot.optimizer)


_REMEMBERED = (
    "steps_planned",
    "flops",
    "skipped_in_row",
    "data_digest",
    "seconds",
    "validations",
    "best",
)
_REMEMBERED_BY_TRAINING = ("done", "skipped", "running_norm")


def _set_up(settings: MetaTrainSettings) -> None:
    if settings.device == "cpu":
        loading.set_up_torch(settings.threads)
        return
    if not torch.cuda.is_available():
        raise InputError("there is no CUDA device here. Train with --device cpu, or where there is one.")
    torch.set_num_threads(settings.threads)  # not every CUDA kernel has a deterministic form


def _identity(settings: MetaTrainSettings, processes: Processes) -> dict[str, Any]:
    """What must be the same for a run to go on, as JSON values read back from JSON."""
    values = {name: value for name, value in vars(settings).items() if name not in ("base", "meta", "snapshot_every")}
    meta = asdict(settings.meta)
    meta["lora"]["targets"] = list(meta["lora"]["targets"])
    return {**values, "meta": meta, "base": base_digest(settings.base), "processes": processes.count}


def _chain(digest: str, tasks: Sequence[MetaTask]) -> str:
    """SHA-256 (hex) of the former digest and a step's tasks with all that they are judged on."""
    texts = (part for task in tasks for query in task.queries for part in (query.role, query.question, query.solution))
    return hashlib.sha256("\0".join((digest, *texts)).encode()).hexdigest()
