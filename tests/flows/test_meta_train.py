"""Meta-training as a command runs it: resumable to the bit, refuses what it cannot trust, writes folders that open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mass_gov.errors import InputError, SettingsError
from mass_gov.flows.meta_examples import MetaSource
from mass_gov.flows.meta_processes import Processes
from mass_gov.flows.meta_recipes import RECIPES, find_recipe
from mass_gov.flows.meta_run import MOST_SKIPPED, MetaRun, MetaTrainSettings
from mass_gov.flows.meta_train import MetaTrainReport, train_meta
from mass_gov.mass import loading
from mass_gov.mass.batched_learner import BatchedLearner
from mass_gov.mass.learner import Learner
from mass_gov.mass.meta_training import MetaTraining
from mass_gov.mass.meta_values import MetaTask
from mass_gov.mass.values import Generation
from tests.fakes.fluent_base import make_fluent

SMALL = {"tasks": 2, "samples": 4, "max_new_tokens": 16, "solution_tokens": 8, "solutions": 2, "warmup": 1}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows nothing, but of whose samples most parse."""
    return make_fluent(tmp_path_factory.mktemp("base") / "model")


def settings(
    base: Path, recipe: str = "mass-gold", *, meta: dict[str, Any] | None = None, **run: Any
) -> MetaTrainSettings:
    """Three small steps, validated on two tasks."""
    given = {"steps": 3, **SMALL, **(meta or {})}
    looked = {"validate_every": 2, "validation_tasks": 2, "answer_tokens": 8, "snapshot_every": 1, **run}
    return MetaTrainSettings(base, recipe, find_recipe(recipe).settings(**given), **looked)


def trained(run_dir: Path, wanted: MetaTrainSettings, **more: Any) -> MetaTrainReport:
    report = train_meta(run_dir, wanted, **more)
    assert report is not None
    return report


def bits(report: MetaTrainReport) -> dict[str, bytes]:
    names = ("model.safetensors", "core.safetensors", "core.json")
    return {name: (report.weights / name).read_bytes() for name in names}


def without_times(run_dir: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run_dir / "progress.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


class _KilledError(Exception):
    pass


def kill_at(step: int) -> Callable[[int, int, dict[str, float], float | None], None]:
    def progress(done: int, total: int, measured: dict[str, float], adapted: float | None) -> None:
        if done == step:
            raise _KilledError

    return progress


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MetaTrainReport]:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, trained(folder, settings(base))


def test_a_run_leaves_everything_that_the_page_says(whole: tuple[Path, MetaTrainReport], base: Path) -> None:
    folder, report = whole
    assert {path.name for path in folder.iterdir()} == {"snapshot", "progress.jsonl", "tensorboard", "weights"}
    written = {path.name for path in report.weights.iterdir()}
    assert {"MODEL_CARD.md", "meta_curves.json", "meta_curves.png", "core.json", "prompt_template.json"} <= written
    assert (report.weights / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert [row["step"] for row in without_times(folder)] == [1, 2, 3]
    assert [one["step"] for one in report.validations] == [0, 2, 3] and report.kept == 3
    card = (report.weights / "MODEL_CARD.md").read_text()
    assert report.data_digest in card and report.base_digest in card and "| kl_weight |" in card
    assert any((folder / "tensorboard").iterdir())
    assert sum(row["valid"] for row in without_times(folder)) > 0  # some samples were practised on


def test_same_seed_same_bits_and_another_seed_others(
    whole: tuple[Path, MetaTrainReport], base: Path, tmp_path: Path
) -> None:
    again = trained(tmp_path / "again", settings(base))
    other = trained(tmp_path / "other", settings(base, meta={"seed": 1}))
    assert bits(again) == bits(whole[1]) and again.data_digest == whole[1].data_digest
    assert without_times(tmp_path / "again") == without_times(whole[0])
    assert bits(other) != bits(again) and other.data_digest != again.data_digest


@pytest.mark.parametrize("killed_at", [1, 2])
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(
    whole: tuple[Path, MetaTrainReport], base: Path, tmp_path: Path, killed_at: int
) -> None:
    wanted = replace(settings(base), snapshot_every=3 - killed_at)  # how often is no part of what must agree
    with pytest.raises(_KilledError):
        train_meta(tmp_path, wanted, progress=kill_at(killed_at))
    resumed = trained(tmp_path, wanted, resume=True)
    assert bits(resumed) == bits(whole[1])
    assert without_times(tmp_path) == without_times(whole[0])
    assert (resumed.validations, resumed.flops) == (whole[1].validations, whole[1].flops)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.flows.test_meta_train import settings
from mass_gov.flows.meta_train import train_meta

def progress(done, total, measured, adapted):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)

train_meta(Path(sys.argv[2]), settings(Path(sys.argv[1])), progress=progress)
"""


def test_kill_nine_loses_nothing(whole: tuple[Path, MetaTrainReport], base: Path, tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(base), str(tmp_path)], check=False, env={**os.environ, "PYTHONPATH": "."}
    )
    assert killed.returncode == -signal.SIGKILL
    assert bits(trained(tmp_path, settings(base), resume=True)) == bits(whole[1])


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_takes_a_step_and_writes_a_folder_that_opens(base: Path, tmp_path: Path, recipe: str) -> None:
    report = trained(tmp_path, settings(base, recipe, meta={"steps": 1}, validation_tasks=6))
    engine = BatchedLearner.open(report.weights)
    learner = Learner.open(report.weights)
    assert (engine.core is None) is (RECIPES[recipe].settings().practice == "none")
    assert learner.answer(["1+2"], None, max_new_tokens=4)[0].tokens
    assert report.skipped == 0 and without_times(tmp_path)[0]["gradient_norm"] >= 0
    before = load_file(base / "model.safetensors")
    after = load_file(report.weights / "model.safetensors")
    moved = any(not torch.equal(before[name], after[name]) for name in before)
    assert moved is (without_times(tmp_path)[0]["gradient_norm"] > 0)


def test_a_step_whose_inner_loop_diverges_moves_nothing_and_is_counted(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep hands on zeros then: with a momentum, a step on zeros is a step, and a norm of zero a false measure."""
    model, text = loading.load(base)
    training = MetaTraining(model, text, find_recipe("mass-gold").settings(**SMALL))
    source, losses = MetaSource(0, 2), training.network.sample_losses
    training.step(source.step(0))  # so that there is a momentum
    norm, before = training.running_norm, {name: one.detach().clone() for name, one in training.weights.named().items()}

    def diverging(theta: Any, phi: Any, batch: Any, softening: float = 1.0) -> Any:
        found = losses(theta, phi, batch, softening)
        return found if phi is None or softening == 1.0 else found * float("inf")

    monkeypatch.setattr(training.network, "sample_losses", diverging)
    for number in (1, 2):
        measured = training.step(source.step(number))
        assert (measured["finite"], measured["skipped"], measured["gradient_norm"]) == (0.0, number, -1.0)
    assert training.running_norm == norm
    assert all(torch.equal(before[name], one) for name, one in training.weights.named().items())
    monkeypatch.setattr(training.network, "sample_losses", losses)
    assert training.step(source.step(3))["skipped"] == 2
    assert not all(torch.equal(before[name], one) for name, one in training.weights.named().items())


def test_other_settings_are_refused_with_what_differs(base: Path, tmp_path: Path) -> None:
    with pytest.raises(_KilledError):
        train_meta(tmp_path, settings(base), progress=kill_at(2))
    with pytest.raises(InputError, match=r"meta\.kl_weight is 0\.1 there and 0\.2 here"):
        train_meta(tmp_path, settings(base, meta={"kl_weight": 0.2}), resume=True)
    with pytest.raises(InputError, match="not empty"):
        train_meta(tmp_path, settings(base))
    with pytest.raises(InputError, match="no run"):
        train_meta(tmp_path / "nothing", settings(base), resume=True)


def _edit_progress(folder: Path, **values: Any) -> None:
    path = folder / "snapshot" / "progress.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _forge_weights(folder: Path) -> None:
    path = folder / "snapshot" / "model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] += 1.0
    save_file(tensors, path)


def _forge_optimizer(folder: Path) -> None:
    path = folder / "snapshot" / "optimizer.safetensors"
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (_forge_weights, "do not belong together"),
        (_forge_optimizer, "do not belong together"),
        (lambda folder: _edit_progress(folder, done=0), "do not belong together"),
        (lambda folder: _edit_progress(folder, digest="0" * 64), "do not belong together"),
        (lambda folder: (folder / "progress.jsonl").write_text('{"step": 2}\n'), "does not hold the 1 steps"),
    ],
)
def test_a_forged_snapshot_is_refused(
    base: Path, tmp_path: Path, forge: Callable[[Path], object], message: str
) -> None:
    with pytest.raises(_KilledError):
        train_meta(tmp_path, settings(base), progress=kill_at(2))
    _load_of_step_one(base, tmp_path)
    forge(tmp_path)
    with pytest.raises(InputError, match=message):
        train_meta(tmp_path, settings(base), resume=True)


def _load_of_step_one(base: Path, folder: Path) -> None:
    """The snapshot is that of the step before the kill."""
    assert MetaRun(folder, settings(base), Processes("cpu")).done in (1, 2)


def test_lora_meta_parameters_leave_embeddings_and_norms_alone(base: Path, tmp_path: Path) -> None:
    meta = {"meta_parameters": "lora", "lora_meta_rank": 2, "steps": 2}
    report = trained(tmp_path, settings(base, meta=meta))
    before, after = load_file(base / "model.safetensors"), load_file(report.weights / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name, tensor in before.items() if tensor.ndim == 2 and "embed" not in name}
    for name in moved:
        difference = (after[name] - before[name]).double()
        assert torch.linalg.matrix_rank(difference, atol=1e-6) <= 2


def test_gold_answers_never_reach_what_is_written(base: Path) -> None:
    tasks = MetaSource(0, 2).step(0)
    written = [_written(base, given) for given in (tasks, [_randomised(task) for task in tasks])]
    assert written[0][0] == written[1][0] and len(written[0][0]) == 8
    assert written[0][1] != written[1][1]  # they do reach the outer loss


def _randomised(task: MetaTask) -> MetaTask:
    queries = tuple(replace(query, solution="#987", answer="987") for query in task.queries)
    return replace(task, queries=queries)


def _written(base: Path, tasks: list[MetaTask]) -> tuple[list[Generation], float]:
    """The samples of a step on these tasks, and its outer loss."""
    training = MetaTraining(*loading.load(base), find_recipe("mass-gold").settings(**SMALL))
    found: list[list[Generation]] = []
    generate = training.engine.generate

    def watched(*args: Any, **more: Any) -> list[Generation]:
        found.append(generate(*args, **more))
        return found[-1]

    training.engine.generate = watched  # type: ignore[method-assign]
    return found[0] if (loss := training.step(tasks)["loss_task"]) and found else [], loss


def test_a_run_that_diverges_stops_and_keeps_what_was_good(base: Path, tmp_path: Path) -> None:
    """With a spike at next to nothing every step after the first counts as one."""
    wanted = settings(base, "solver-sft", meta={"steps": 60, "spike": 1e-9, "tasks": 1}, validate_every=50)
    with pytest.raises(InputError, match=f"{MOST_SKIPPED} steps in a row.*step {MOST_SKIPPED + 1}"):
        train_meta(tmp_path, wanted)
    assert json.loads((tmp_path / "snapshot" / "progress.json").read_text())["done"] == 1


def test_flops_end_a_rival_and_plan_its_schedule(base: Path, tmp_path: Path) -> None:
    one = trained(tmp_path / "one", settings(base, "solver-sft", meta={"steps": 1}))
    wanted = settings(base, "solver-sft", flops=4 * one.flops, plan_steps=True, validate_every=50)
    report = trained(tmp_path / "four", wanted)
    assert report.ended == "flops" and wanted.flops is not None
    assert report.flops >= wanted.flops > report.flops - 2 * one.flops
    assert json.loads((tmp_path / "four" / "snapshot" / "progress.json").read_text())["steps_planned"] in (3, 4, 5)


def test_the_best_weights_are_kept_where_asked(base: Path, tmp_path: Path) -> None:
    wanted = settings(base, "solver-sft", keep="best", patience=2)
    run = MetaRun(tmp_path, wanted, Processes("cpu"))
    run.validate()
    kept = {name: tensor.detach().clone() for name, tensor in run.training.weights.named().items()}
    run.best = {"step": 0, "adapted": 2.0}  # better than anything to come
    list(run.steps())
    assert run.ended == "patience" and len(run.validations) == 3
    assert not all(torch.equal(kept[name], tensor) for name, tensor in run.training.weights.named().items())
    with pytest.raises(InputError, match="does not hold the weights"):
        run.take_kept()  # the folder's best says another accuracy
    run.best = {"step": 0, "adapted": run.validations[0]["adapted"]}
    assert run.take_kept() == 0
    assert all(torch.equal(kept[name], tensor) for name, tensor in run.training.weights.named().items())


def test_bfloat16_takes_a_step_and_writes_float32(base: Path, tmp_path: Path) -> None:
    report = trained(tmp_path, settings(base, meta={"steps": 1}, dtype="bfloat16"))
    assert {tensor.dtype for tensor in load_file(report.weights / "model.safetensors").values()} == {torch.float32}
    assert report.skipped == 0


@pytest.mark.parametrize("bad", [{"validate_every": 0}, {"flops": 0}, {"patience": 0}, {"threads": 0}])
def test_unusable_settings_are_refused(base: Path, bad: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        settings(base, **bad)
