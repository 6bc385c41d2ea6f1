"""A trained core is read as strictly as it is written, and the learner starts, steps and scores by it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mass_gov.errors import ModelError, SettingsError, TaskError
from mass_gov.mass.core import Core, write_core
from mass_gov.mass.core_settings import step_sizes_digest
from mass_gov.mass.learner import Learner
from mass_gov.mass.model_folder import base_digest
from mass_gov.mass.values import LoraSettings, SamplingSettings, TrainingSample, UpdateOutcome
from tests.fakes.small_core import make_core, with_core
from tests.fakes.tiny_models import ARCHITECTURES

QUESTION = "3+4*2"
TinyModel = Callable[[str], Path]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cored(architecture: str, tiny_model: TinyModel, tmp_path: Path) -> Path:
    return with_core(tiny_model(architecture), tmp_path / "cored")


@pytest.fixture
def folder(tiny_model: TinyModel, tmp_path: Path) -> Path:
    return with_core(tiny_model("llama"), tmp_path / "cored")


def written(folder: Path) -> Core:
    core = Learner.open(folder).core
    assert core is not None
    return core


# --- what is written is what is read ---


def test_a_core_survives_its_files_to_the_bit(cored: Path, architecture: str, tiny_model: TinyModel) -> None:
    made, core = make_core(tiny_model(architecture)), written(cored)
    assert core.settings() == made.settings()
    assert core.adapter.settings == made.adapter.settings
    assert all(torch.equal(core.adapter.tensors[name], tensor) for name, tensor in made.adapter.tensors.items())
    assert core.scorer is not None and made.scorer is not None
    assert all(torch.equal(core.scorer[name], tensor) for name, tensor in made.scorer.items())


def test_writing_makes_the_same_bytes_each_time(folder: Path) -> None:
    before = [(folder / name).read_bytes() for name in ("core.json", "core.safetensors")]
    write_core(written(folder), folder)
    assert before == [(folder / name).read_bytes() for name in ("core.json", "core.safetensors")]


def test_a_core_without_a_scorer_is_a_core(folder: Path) -> None:
    write_core(replace(written(folder), scorer=None), folder)
    learner = Learner.open(folder)
    assert learner.core is not None and learner.core.scorer_digest is None
    (reading,) = learner.read_samples(QUESTION, [learner.as_written("1+1")])
    assert reading.score is None and reading.surprise > 0


def test_the_core_belongs_to_the_models_digest_and_a_plain_folder_keeps_its_own(
    folder: Path, tiny_model: TinyModel
) -> None:
    plain, cored = base_digest(tiny_model("llama")), base_digest(folder)
    assert plain != cored
    settings = (folder / "core.json").read_bytes()
    (folder / "core.json").write_bytes(settings.replace(b'"count":4', b'"count":5'))
    assert base_digest(folder) not in (plain, cored)
    for name in ("core.json", "core.safetensors"):
        (folder / name).unlink()
    assert base_digest(folder) == plain


# --- what is refused ---


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("", "format", 2),
        ("", "format", True),
        ("", "extra", 1),
        ("sampling", "count", 0),
        ("sampling", "count", 1.5),
        ("sampling", "temperature", 0),
        ("sampling", "temperature", "1"),
        ("sampling", "top_p", 1),
        ("lora", "rank", 0),
        ("lora", "rank", 3),
        ("lora", "targets", []),
        ("lora", "targets", ["nowhere"]),
        ("lora", "targets", "o_proj"),
        ("update", "steps", 0),
        ("update", "softening", 0),
        ("update", "step_sizes", {}),
        ("update", "step_sizes", {"model.layers.0.self_attn.o_proj": 0.1}),
        ("digests", "scorer", None),
        ("digests", "scorer", "0" * 64),
        ("digests", "scorer", 1),
        ("digests", "initial", "0" * 64),
        ("digests", "initial", None),
        ("digests", "step_sizes", "0" * 64),
    ],
)
def test_settings_that_are_not_exactly_in_form_are_refused(folder: Path, part: str, key: str, value: Any) -> None:
    path = folder / "core.json"
    raw = json.loads(path.read_bytes())
    (raw[part] if part else raw)[key] = value
    path.write_text(json.dumps(raw))
    with pytest.raises(ModelError, match=r"remove core\.json and core\.safetensors"):
        Learner.open(folder)


@pytest.mark.parametrize("size", [-0.1, math.inf, True, "0.1"])
def test_a_step_size_that_no_update_can_take_is_refused(folder: Path, size: Any) -> None:
    path = folder / "core.json"
    raw = json.loads(path.read_bytes())
    raw["update"]["step_sizes"] = dict.fromkeys(raw["update"]["step_sizes"], size)
    if isinstance(size, float) and math.isfinite(size):
        raw["digests"]["step_sizes"] = step_sizes_digest(raw["update"]["step_sizes"])
    path.write_text(json.dumps(raw))
    with pytest.raises(ModelError, match=r"remove core\.json and core\.safetensors"):
        Learner.open(folder)


def _drop(tensors: dict[str, torch.Tensor], name: str) -> None:
    del tensors[name]


def _replace(tensors: dict[str, torch.Tensor], name: str, value: torch.Tensor) -> None:
    tensors[name] = value


@pytest.mark.parametrize("prefix", ["initial.", "scorer."])
@pytest.mark.parametrize(
    "change",
    [
        _drop,
        lambda tensors, name: _replace(tensors, f"{name}.more", torch.ones(1)),
        lambda tensors, name: _replace(tensors, name, tensors[name].double()),
        lambda tensors, name: _replace(tensors, name, torch.full_like(tensors[name], math.nan)),
        lambda tensors, name: _replace(tensors, name, torch.cat([tensors[name], tensors[name]])),
        lambda tensors, name: _replace(tensors, name, tensors[name] + 1),
    ],
    ids=["missing", "extra", "float64", "nan", "shape", "altered"],
)
def test_tensors_that_are_not_exactly_the_named_ones_are_refused(
    folder: Path, prefix: str, change: Callable[[dict[str, torch.Tensor], str], None]
) -> None:
    path = folder / "core.safetensors"
    tensors = load_file(path)
    change(tensors, next(name for name in sorted(tensors) if name.startswith(prefix)))
    save_file(tensors, path)
    with pytest.raises(ModelError, match="cannot be used"):
        Learner.open(folder)


@pytest.mark.parametrize("missing", ["core.json", "core.safetensors"])
def test_one_file_without_the_other_is_refused(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ModelError, match="without"):
        Learner.open(folder)


def test_a_truncated_or_foreign_file_is_refused(folder: Path, tiny_model: TinyModel, tmp_path: Path) -> None:
    stored = (folder / "core.safetensors").read_bytes()
    (folder / "core.safetensors").write_bytes(stored[:-4])
    with pytest.raises(ModelError, match="truncated"):
        Learner.open(folder)
    other = with_core(tiny_model("gpt2"), tmp_path / "other", make_core(tiny_model("gpt2")))
    for name in ("core.json", "core.safetensors"):
        (folder / name).write_bytes((other / name).read_bytes())
    with pytest.raises(ModelError, match="cannot be used"):
        Learner.open(folder)


def test_a_core_that_does_not_fit_together_cannot_be_made(folder: Path) -> None:
    core = written(folder)
    module = next(iter(core.step_sizes))
    for wrong in (
        {"step_sizes": {k: v for k, v in core.step_sizes.items() if k != module}},
        {"step_sizes": {**core.step_sizes, "model.layers.9.mlp.down_proj": 0.1}},
        {"step_sizes": {**core.step_sizes, module: math.nan}},
        {"scorer": {"input.weight": torch.ones(2, 2)}},
        {"steps": 0},
        {"samples": 0},
        {"temperature": 0.0},
        {"softening": math.nan},
    ):
        with pytest.raises(SettingsError):
            replace(core, **wrong)  # type: ignore[arg-type]


# --- what the learner does with it ---


def test_the_learner_starts_where_the_core_says(cored: Path) -> None:
    learner = Learner.open(cored)
    core = learner.core
    assert core is not None
    start = learner.initial_adapter(core.lora)
    assert any(bool(tensor.any()) for name, tensor in start.tensors.items() if ".lora_B." in name)
    assert all(torch.equal(start.tensors[name], tensor) for name, tensor in core.adapter.tensors.items())
    seeded = learner.initial_adapter(replace(core.lora, initial=None))
    assert not any(bool(tensor.any()) for name, tensor in seeded.tensors.items() if ".lora_B." in name)


@pytest.mark.parametrize("change", [{"rank": 3}, {"seed": 1}, {"initial": "0" * 64}])
def test_a_start_that_is_not_this_cores_is_refused(folder: Path, change: dict[str, Any]) -> None:
    learner = Learner.open(folder)
    assert learner.core is not None
    with pytest.raises(SettingsError, match="another model folder"):
        learner.initial_adapter(replace(learner.core.lora, **change))


def test_a_plain_folder_knows_no_learned_start(tiny_model: TinyModel) -> None:
    learner = Learner.open(tiny_model("llama"))
    assert learner.core is None
    with pytest.raises(SettingsError, match="another model folder"):
        learner.initial_adapter(LoraSettings(initial="0" * 64))


def test_every_module_steps_by_its_own_size(cored: Path) -> None:
    """phi_1 = phi_0 - alpha_module * gradient: the ratio of two runs whose sizes differ in one module tells."""
    learner = Learner.open(cored)
    core = learner.core
    assert core is not None
    start, samples = core.adapter, [TrainingSample("3+4", "#7", 1.0)]
    module = sorted(core.step_sizes)[1]
    doubled = replace(core, step_sizes={**core.step_sizes, module: 2 * core.step_sizes[module]})
    one, two = (learner.update(samples, start, c.update_settings()) for c in (core, doubled))
    assert one.outcome is two.outcome is UpdateOutcome.STEPPED
    for name, tensor in start.tensors.items():
        first, second = one.adapter.tensors[name] - tensor, two.adapter.tensors[name] - tensor
        factor = 2.0 if f".{module}." in name else 1.0
        assert torch.allclose(second, factor * first, rtol=1e-3, atol=1e-6)
        assert bool(first.any())


def test_scores_are_those_of_the_base_whatever_was_read_or_adapted(cored: Path) -> None:
    learner = Learner.open(cored)
    core = learner.core
    assert core is not None
    settings = SamplingSettings(max_new_tokens=12)
    samples = learner.write_samples(QUESTION, None, count=4, seed=1, settings=settings)
    tokens = [sample.tokens for sample in samples]
    readings = learner.read_samples(QUESTION, tokens)
    scores = [reading.score for reading in readings]
    assert len(set(scores)) > 1 and all(score is not None and math.isfinite(score) for score in scores)
    learner.answer([QUESTION], core.adapter, max_new_tokens=4)  # an adapter lies in the slots now
    assert learner.read_samples(QUESTION, tokens) == readings
    assert Learner.open(cored).read_samples(QUESTION, tokens) == readings
    assert learner.read_samples("1", tokens) != readings


def test_scoring_is_metered(folder: Path) -> None:
    learner = Learner.open(folder)
    (sample,) = learner.write_samples(QUESTION, None, count=1, seed=1, settings=SamplingSettings(max_new_tokens=5))
    with learner.meter() as cost:
        learner.read_samples(QUESTION, [sample.tokens])
    length = len(sample.prompt_tokens) + len(sample.tokens)
    assert (cost.flops, cost.generated_tokens) == (2 * learner.parameter_count * length, 0)


@pytest.mark.parametrize("tokens", [(10**6,), (-1,), (5,) * 300])
def test_tokens_that_the_model_cannot_have_written_are_refused(folder: Path, tokens: tuple[int, ...]) -> None:
    learner = Learner.open(folder)
    with pytest.raises(TaskError):
        learner.read_samples(QUESTION, [tokens])
