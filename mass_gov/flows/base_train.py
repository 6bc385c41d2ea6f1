"""Train the reference base model from scratch, measure it, and write the folder that ships.

    examples -> steps (with a measurement every thousand) -> weights -> figures -> card

Layout of the run folder: `snapshot/` (to resume from) and, at the end, `weights/`: config.json,
generation_config.json, model.safetensors, tokenizer.json, tokenizer_config.json, prompt_template.json, curves.json,
curves.png, MODEL_CARD.md. Called again with the same settings, an interrupted run goes on where it stopped and ends in
the same weights, bit for bit. Does not know the command line: progress goes to a callback.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rfc8785
import torch
from transformers.utils import logging as transformers_logging

from mass_gov.errors import SettingsError
from mass_gov.flows.base_card import write_card, write_curves
from mass_gov.flows.base_examples import SHARES, TEMPLATE, ExampleSource
from mass_gov.flows.base_figures import DomainFigures, Probe, card_tasks, measure_domain, probe_practice, solved
from mass_gov.mass.character_tokenizer import build_tokenizer
from mass_gov.mass.pretraining import Architecture, Pretraining, Recipe
from mass_gov.tasks.registry import DOMAINS

BaseTrainProgress = Callable[[int, int, float], None]  # (steps done, steps in all, loss of the last step)
_MILESTONE_STEPS = 1000
_MILESTONE_TASKS = 60


@dataclass(frozen=True, slots=True)
class BaseTrainSettings:
    """Everything that determines the weights, and how much is measured afterwards.

    Args:
        seed: of the initial weights and of the data.
        steps, decay: optimizer steps, and the last of them during which the rates fall.
        practise_percent: of 100 examples, how many teach to write practice.
        threads: torch threads; the weights depend on their number in the last bits. One by default: at this size a
            second one gains little, and on a busy machine it loses.
        card_tasks: tasks per domain and split behind each figure of the card.
        probe_tasks: tasks per domain for the oracle-practice probe.
        probe_rates: step sizes of that probe.
    """

    seed: int = 0
    steps: int = 8000
    decay: int = 7500
    batch: int = 32
    practise_percent: int = 40
    threads: int = 1
    card_tasks: int = 300
    probe_tasks: int = 50
    probe_rates: tuple[float, ...] = (3.0, 10.0)
    architecture: Architecture = field(default_factory=Architecture)

    def __post_init__(self) -> None:
        for name, least in (
            ("steps", 1),
            ("decay", 1),
            ("batch", 1),
            ("threads", 1),
            ("card_tasks", 1),
            ("probe_tasks", 1),
        ):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} is {getattr(self, name)}: give at least {least}")
        if not 0 <= self.practise_percent <= 100 or self.seed < 0:
            raise SettingsError("practise_percent must lie in 0..100 and seed must not be negative")

    def recipe(self) -> Recipe:
        """The training recipe of these settings."""
        return Recipe(steps=self.steps, decay=self.decay, batch=self.batch, seed=self.seed)


@dataclass(frozen=True, slots=True)
class BaseTrainReport:
    """What came out. `wall_seconds` and `cpu_seconds` are those of the training steps, resumed parts included."""

    weights: Path
    settings: BaseTrainSettings
    parameters: int
    tokens: int
    data_digest: str
    wall_seconds: float
    cpu_seconds: float
    figures: dict[str, DomainFigures]
    probes: dict[str, list[Probe]]


def train_base(
    run_dir: Path, settings: BaseTrainSettings, progress: BaseTrainProgress | None = None
) -> BaseTrainReport:
    """Train (or go on training) in `run_dir`, and write `run_dir/weights`.

    Raises:
        InputError: the folder holds a run with other settings, or an unreadable snapshot.
        OSError: the folder cannot be written.
    """
    torch.set_num_threads(settings.threads)
    run_dir.mkdir(parents=True, exist_ok=True)
    source = ExampleSource(settings.seed, settings.practise_percent)
    run = Pretraining(run_dir, settings.architecture, settings.recipe(), source)
    _train_by_milestones(run, progress)
    weights = _write_weights(run, run_dir / "weights")
    report = _measure(run, weights, settings)
    write_curves(weights, run.losses, run.notes["milestones"], settings.recipe())
    write_card(weights / "MODEL_CARD.md", report, run.notes["milestones"], SHARES)
    return report


def _train_by_milestones(run: Pretraining, progress: BaseTrainProgress | None) -> None:
    """Train; after every thousand steps and at the end, note per domain the share of easy and hard tasks solved."""
    steps = run.recipe.steps
    milestones: list[dict[str, Any]] = run.notes.setdefault("milestones", [])
    for until in [*range(_MILESTONE_STEPS, steps, _MILESTONE_STEPS), steps]:
        if run.step < until:
            run.run(progress, until)
        if not any(noted["step"] == until for noted in milestones):
            milestones.append({"step": until, "solved": _solved_now(run)})
            run.save()
    run.model.eval()


def _solved_now(run: Pretraining) -> dict[str, dict[str, float]]:
    run.model.eval()
    return {
        name: {
            split: solved(run.model, one, card_tasks(one, split, _MILESTONE_TASKS)).value for split in ("easy", "hard")
        }
        for name, one in DOMAINS.items()
    }


def _write_weights(run: Pretraining, folder: Path) -> Path:
    """The Hugging Face folder: weights, configuration, tokenizer, prompt template."""
    transformers_logging.disable_progress_bar()
    run.model.save_pretrained(folder)
    build_tokenizer(run.architecture.positions).save_pretrained(folder)
    (folder / "prompt_template.json").write_bytes(rfc8785.dumps(TEMPLATE))
    return folder


def _measure(run: Pretraining, weights: Path, settings: BaseTrainSettings) -> BaseTrainReport:
    return BaseTrainReport(
        weights=weights,
        settings=settings,
        parameters=sum(p.numel() for p in run.model.parameters()),
        tokens=run.tokens,
        data_digest=run.data_digest,
        wall_seconds=run.seconds[0],
        cpu_seconds=run.seconds[1],
        figures={name: measure_domain(run.model, one, settings.card_tasks) for name, one in DOMAINS.items()},
        probes={
            name: [probe_practice(run.model, one, settings.probe_tasks, rate) for rate in settings.probe_rates]
            for name, one in DOMAINS.items()
        },
    )
