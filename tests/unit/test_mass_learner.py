"""The learner on tiny random Llama, Qwen2 and GPT-2 models: refusals, real steps, and an untouched base."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mass_gov.errors import SettingsError
from mass_gov.mass.learner import Learner
from mass_gov.mass.losses import sample_losses
from mass_gov.mass.values import Adapter, LoraSettings, SamplingSettings, TrainingSample, UpdateOutcome, UpdateSettings
from tests.fakes.tiny_models import ARCHITECTURES, make_model

FORCED = [TrainingSample("3+4", "three and four#7", 0.5), TrainingSample("2*5", "#10", 0.25)]
TASKS = ["3+4*2", "1", "what is (2+2)*{n}?"]
SHORT = SamplingSettings(max_new_tokens=12)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make_model(tmp_path_factory.mktemp(name), name) for name in ARCHITECTURES}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def learner(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Learner:
    return Learner.open(folders[request.param])


@pytest.fixture
def start(learner: Learner) -> Adapter:
    return learner.initial_adapter(LoraSettings(rank=4, alpha=8))


def moved(learner: Learner, start: Adapter) -> Adapter:
    return learner.update(FORCED, start, UpdateSettings(steps=2, step_size=0.3)).adapter


# --- what is refused ---


def test_unknown_targets_are_refused(learner: Learner) -> None:
    with pytest.raises(SettingsError, match="Name other targets"):
        learner.initial_adapter(LoraSettings(targets=("nowhere",)))
    learner.initial_adapter(LoraSettings())  # and the learner goes on


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"step_size": math.nan},
        {"step_size": -1.0},
        {"softening": 0.0},
        {"max_norm": 0.0},
        {"module_step_sizes": (("o_proj", math.inf),)},
    ],
)
def test_unusable_update_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        UpdateSettings(**wrong)  # type: ignore[arg-type]


def test_unusable_samples_and_sampling_settings_are_refused() -> None:
    for weight in (-0.1, math.nan, math.inf):
        with pytest.raises(SettingsError):
            TrainingSample("1", "#1", weight)
    for temperature in (0.0, math.nan):
        with pytest.raises(SettingsError):
            SamplingSettings(temperature=temperature)


# --- outcomes that are not errors ---


def test_samples_without_weight_are_an_outcome(learner: Learner, start: Adapter) -> None:
    for samples in ([], [replace(FORCED[0], weight=0.0)]):
        result = learner.update(samples, start, UpdateSettings())
        assert (result.outcome, result.adapter, result.steps_done) == (UpdateOutcome.NO_WEIGHT, start, 0)


def test_a_step_that_moves_nothing_is_an_outcome(learner: Learner, start: Adapter) -> None:
    result = learner.update(FORCED, start, UpdateSettings(steps=2, step_size=0.0))
    assert (result.outcome, result.adapter, result.steps_done) == (UpdateOutcome.UNMOVED, start, 2)


def test_a_step_into_infinity_is_an_outcome_and_reports_finite_numbers_only(learner: Learner, start: Adapter) -> None:
    result = learner.update(FORCED, start, UpdateSettings(steps=3, step_size=1e39))
    assert (result.outcome, result.adapter) == (UpdateOutcome.NON_FINITE, start)
    assert all(math.isfinite(value) for value in (*result.losses, *result.gradient_norms))


# --- what an update does ---


def test_forced_samples_move_every_module_and_lower_the_loss(learner: Learner, start: Adapter) -> None:
    result = learner.update(FORCED, start, UpdateSettings(steps=3, step_size=0.3))
    assert (result.outcome, result.steps_done) == (UpdateOutcome.STEPPED, 3)
    assert result.losses[2] < result.losses[1] < result.losses[0]
    assert all(norm.step > 0 for norm in result.norms)
    assert len(result.norms) * 2 == len(start.tensors)


def test_the_gradient_agrees_with_finite_differences(learner: Learner, start: Adapter) -> None:
    """The loss as the learner sees it (float32), along the gradient's own direction, by central differences."""
    adapter = moved(learner, start)
    batch = learner._solutions([(sample.question, sample.solution) for sample in FORCED])
    weights = torch.tensor([sample.weight for sample in FORCED])
    loss = learner._weighted_loss(batch, weights, adapter, softening=1.0)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in adapter.tensors.items()}
    gradients = dict(zip(leaves, torch.autograd.grad(loss(leaves), list(leaves.values())), strict=True))
    norm = torch.cat([g.flatten() for g in gradients.values()]).norm().item()
    step = 1e-2
    ahead, behind = (
        loss({n: t + sign * step / norm * gradients[n] for n, t in adapter.tensors.items()}).item() for sign in (1, -1)
    )
    assert (ahead - behind) / (2 * step) == pytest.approx(norm, rel=2e-3)


def test_the_loss_has_a_second_derivative(learner: Learner, start: Adapter) -> None:
    adapter = moved(learner, start)
    batch = learner._solutions([("3+4", "#7")])
    loss = learner._weighted_loss(batch, torch.ones(1), adapter, softening=3.0)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in adapter.tensors.items()}
    first = torch.autograd.grad(loss(leaves), list(leaves.values()), create_graph=True)
    second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), list(leaves.values()))
    assert all(bool(torch.isfinite(h).all()) and float(h.abs().sum()) > 0 for h in second)


def test_weights_scale_the_step_and_weightless_samples_do_not_count(learner: Learner, start: Adapter) -> None:
    settings = UpdateSettings(step_size=0.1)
    halves = [replace(sample, weight=sample.weight / 2) for sample in FORCED]
    full = learner.update([*FORCED, TrainingSample("9", "#9", 0.0)], start, settings).adapter
    double = learner.update(halves, start, UpdateSettings(step_size=0.2)).adapter
    for name, tensor in full.tensors.items():
        assert torch.allclose(tensor, double.tensors[name], rtol=1e-5, atol=1e-8)


def test_step_sizes_hold_per_module(learner: Learner, start: Adapter) -> None:
    frozen = sorted({name.rsplit(".", 3)[1] for name in start.tensors})[0]
    settings = UpdateSettings(step_size=0.3, module_step_sizes=((frozen, 0.0),))
    norms = learner.update(FORCED, start, settings).norms
    assert {norm.module.endswith(frozen) for norm in norms} >= {True}
    assert all((norm.step == 0) == norm.module.endswith(frozen) for norm in norms)


def test_a_step_beyond_the_trust_region_is_scaled_back_and_both_norms_are_kept(
    learner: Learner, start: Adapter
) -> None:
    parent = moved(learner, start)
    free = learner.update(FORCED, parent, UpdateSettings(step_size=0.3))
    limit = max(norm.step for norm in free.norms) / 3
    held = learner.update(FORCED, parent, UpdateSettings(step_size=0.3, max_norm=limit))
    assert held.norms == free.norms
    assert max(norm.step for norm in held.projected_norms) == pytest.approx(limit, rel=1e-4)
    assert max(norm.step for norm in held.projected_norms) <= limit
    assert 0 < held.projection < 1
    assert free.projection == 1.0


def test_the_base_answers_as_before_any_update(learner: Learner, folders: dict[str, Path], start: Adapter) -> None:
    before = learner.answer(TASKS, None, max_new_tokens=12)
    adapted = learner.answer(TASKS, moved(learner, start), max_new_tokens=12)
    assert learner.answer(TASKS, None, max_new_tokens=12) == before
    assert learner.answer(TASKS, start, max_new_tokens=12) == before  # B = 0 changes nothing
    assert adapted != before


def test_a_second_adapter_shape_does_not_disturb_the_first(learner: Learner, start: Adapter) -> None:
    adapter = moved(learner, start)
    answers = learner.answer(TASKS, adapter, max_new_tokens=12)
    learner.answer(TASKS, learner.initial_adapter(LoraSettings(rank=2)), max_new_tokens=2)
    assert learner.answer(TASKS, adapter, max_new_tokens=12) == answers


# --- what is written ---


def test_samples_have_streams_of_their_own(learner: Learner, start: Adapter) -> None:
    samples = learner.write_samples("3+4", start, count=4, seed=1, settings=SHORT)
    assert len({sample.tokens for sample in samples}) == 4
    assert [sample.index for sample in samples] == [0, 1, 2, 3]
    assert all(sample.seed == 1 and sample.batch_size == 4 for sample in samples)
    assert samples == learner.write_samples("3+4", start, count=4, seed=1, settings=SHORT)
    assert samples != learner.write_samples("3+4", start, count=4, seed=2, settings=SHORT)


def test_a_sample_does_not_depend_on_how_far_it_may_go(learner: Learner, start: Adapter) -> None:
    short = learner.write_samples("3+4", start, count=3, seed=1, settings=SHORT)
    long = learner.write_samples("3+4", start, count=3, seed=1, settings=SamplingSettings(max_new_tokens=40))
    assert [sample.tokens[:12] for sample in long] == [sample.tokens for sample in short]


def test_a_row_that_finishes_early_leaves_the_others_bits_alone(
    learner: Learner, start: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = learner.answer(TASKS, start, max_new_tokens=20)
    first = free[0].tokens[2]
    monkeypatch.setattr(learner._text, "end_ids", learner._text.end_ids | {first})
    ended = learner.answer(TASKS, start, max_new_tokens=20)
    assert ended[0].finished
    assert len(ended[0].tokens) <= 3
    for whole, cut in zip(free, ended, strict=True):
        assert whole.tokens[: len(cut.tokens)] == cut.tokens


def test_nll_is_the_loss_that_an_update_descends(learner: Learner, start: Adapter) -> None:
    rows = learner.nll([(sample.question, sample.solution) for sample in FORCED], start)
    assert [len(row) for row in rows] == [len(sample.solution) + 1 for sample in FORCED]
    weighted = sum(s.weight * sum(row) / len(row) for s, row in zip(FORCED, rows, strict=True))
    assert learner.update(FORCED, start, UpdateSettings()).losses[0] == pytest.approx(weighted, rel=1e-5)


def test_softening_divides_the_logits(learner: Learner, start: Adapter) -> None:
    batch = learner._solutions([("3+4", "#7")])
    with learner._model.using(start) as model:
        plain = sample_losses(lambda **inputs: model(**inputs).logits / 3.0, batch)
        soft = sample_losses(lambda **inputs: model(**inputs).logits, batch, softening=3.0)
    assert torch.allclose(plain, soft)


# --- what it costs, and where it ran ---


def test_cost_is_counted_exactly(learner: Learner, start: Adapter) -> None:
    parameters = learner._model.parameter_count
    lora = sum(tensor.numel() for tensor in start.tensors.values())
    with learner.meter() as cost:
        (answer,) = learner.answer(["3+4"], None, max_new_tokens=5)
    assert cost.generated_tokens == len(answer.tokens)
    assert cost.flops == 2 * parameters * (len(answer.prompt_tokens) + len(answer.tokens) - 1)
    with learner.meter() as cost:
        learner.update(FORCED[:1], start, UpdateSettings(steps=3))
    length = len("T") + len("Q 3+4\nA three and four#7") + len("E")
    assert cost.flops == 6 * (parameters + lora) * 3 * length
    assert cost.generated_tokens == 0


def test_another_learners_threads_do_not_reach_this_one(learner: Learner, folders: dict[str, Path]) -> None:
    Learner.open(folders["llama"], threads=2)
    learner.answer(["1"], None, max_new_tokens=1)
    assert torch.get_num_threads() == 1


def test_the_fingerprint_is_plain_data_and_names_what_computes(learner: Learner) -> None:
    found = learner.fingerprint()
    assert json.loads(json.dumps(found)) == found
    assert found["package.torch"] == torch.__version__
    assert (found["torch.threads"], found["attention"], found["dtype"]) == (1, "eager", "float32")


def test_opening_and_using_a_model_prints_nothing(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    for folder in folders.values():
        learner = Learner.open(folder)
        learner.update(FORCED, learner.initial_adapter(LoraSettings()), UpdateSettings())
    assert capfd.readouterr() == ("", "")
