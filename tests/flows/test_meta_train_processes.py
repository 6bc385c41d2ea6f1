"""Two processes on one meta-training run, started as the documentation says, compute what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mass_gov.errors import InputError
from mass_gov.flows.meta_examples import MetaSource
from mass_gov.flows.meta_processes import Processes
from mass_gov.flows.meta_recipes import RECIPES, find_recipe
from mass_gov.mass import loading
from mass_gov.mass.meta_training import MetaTraining
from mass_gov.mass.meta_values import MetaTask
from tests.fakes.fluent_base import make_fluent

STEPS, RATE = 2, 4e-4
OPTIONS = (
    *("--steps", str(STEPS), "--tasks", "4", "--samples", "3", "--validation-tasks", "2", "--answer-tokens", "8"),
    *("--set", "max_new_tokens=16", "--set", "warmup=1", "--set", f"rates.model={RATE}", "--json"),
)
LAUNCH = (
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
)


def run(base: Path, folder: Path, *launcher: str) -> dict[str, object]:
    command = [sys.executable, *launcher, "-m", "mass_gov.cli.main", "train", "meta", "--base", str(base)]
    done = subprocess.run(
        [*command, "--out", str(folder), *OPTIONS],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report: dict[str, object] = json.loads(done.stdout)  # and nothing else there
    return report


@pytest.mark.slow
def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    """Up to rounding: sums over tasks run in another order.

    AdamW divides by the gradient's own size, so where a gradient is nothing but rounding a weight may go either way: by
    at most twice the rate a step. All others agree to single precision.
    """
    base = make_fluent(tmp_path / "base")
    one = run(base, tmp_path / "one")
    two = run(base, tmp_path / "two", *LAUNCH)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["data_digest"] == two["data_digest"] and one["steps"] == two["steps"] == STEPS
    rows = [_rows(tmp_path / name) for name in ("one", "two")]
    for step in range(STEPS):
        for name in ("loss_task", "inner", "kl", "valid", "distinct", "gradient_norm", "step_size"):
            assert rows[1][step][name] == pytest.approx(rows[0][step][name], rel=1e-4, abs=1e-6), name
    ours, theirs = (load_file(tmp_path / name / "weights" / "model.safetensors") for name in ("one", "two"))
    gaps = torch.cat([(ours[name] - theirs[name]).abs().flatten() for name in ours])
    assert gaps.max() <= 2 * RATE * STEPS
    assert (gaps < 1e-6).double().mean() > 0.98


def _rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]


def test_tasks_that_cannot_be_shared_out_are_refused() -> None:
    processes = Processes("cpu")
    assert processes.slice(3) == slice(0, 3) and processes.is_first
    processes.count, processes.index = 2, 1
    assert processes.slice(4) == slice(2, 4)
    with pytest.raises(InputError, match="cannot be shared by 2"):
        processes.slice(3)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_slices_of_a_step_average_to_the_whole(tmp_path: Path, recipe: str) -> None:
    """Gradients and rewards of two halves of a step's tasks, each as a process of its own would compute them."""
    base, tasks = make_fluent(tmp_path / "base"), [_answered_by_eight(task) for task in MetaSource(0, 4).step(0)]
    whole, figures = gradients(base, recipe, tasks, 0)
    halves = [gradients(base, recipe, tasks[first : first + 2], first) for first in (0, 2)]
    norm = whole.norm()
    assert norm > 0 and figures.get("reward", 0.5) > 0
    assert (whole - (halves[0][0] + halves[1][0]) / 2).norm() <= 1e-4 * norm
    for name in {"valid", "distinct", "kl", "solve"} & set(figures):
        assert (halves[0][1][name] + halves[1][1][name]) / 2 == pytest.approx(figures[name], rel=1e-4, abs=1e-6)


def _answered_by_eight(task: MetaTask) -> MetaTask:
    """An answer that this base writes now and then, so that rewards differ."""
    return replace(task, queries=tuple(replace(query, answer="8") for query in task.queries))


def gradients(base: Path, recipe: str, tasks: list[MetaTask], first: int) -> tuple[torch.Tensor, dict[str, float]]:
    """The gradient of one step on these tasks as one long vector, and what the step measured."""
    seen: list[torch.Tensor] = []

    def keep(tensors: list[torch.Tensor]) -> None:
        seen.append(torch.cat([tensor.double().flatten() for tensor in tensors]))

    small = {"tasks": 4, "samples": 3, "max_new_tokens": 16, "solution_tokens": 8, "solutions": 4}
    settings = find_recipe(recipe).settings(**small, step_size=0.1)  # a long step leaves this base without answers
    training = MetaTraining(*loading.load(base), settings, keep)
    training.first_task = first
    measured = training.step(tasks)
    return seen[0], measured
