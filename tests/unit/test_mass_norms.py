"""Norms of a step against dense linear algebra, projection to the bit, and the divergence from the base by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mass_gov.mass import norms
from mass_gov.mass.learner import Learner
from mass_gov.mass.lora import pairs
from mass_gov.mass.values import Adapter, LoraSettings, TrainingSample, UpdateOutcome, UpdateSettings
from tests.fakes.tiny_models import ARCHITECTURES, make_model

FORCED = [TrainingSample("3+4", "three and four#7", 0.5), TrainingSample("2*5", "#10", 0.25)]
PAIRS = [("3+4", "#7"), ("what is 2*5?", "two fives#10"), ("1", "#1")]
STEP = UpdateSettings(step_size=0.3)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def learner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Learner:
    return Learner.open(make_model(tmp_path_factory.mktemp(request.param), request.param))


@pytest.fixture
def parent(learner: Learner) -> Adapter:
    start = learner.initial_adapter(LoraSettings(rank=4, alpha=8))
    return learner.update(FORCED, start, UpdateSettings(steps=2, step_size=0.3)).adapter


def weights(adapter: Adapter) -> dict[str, Tensor]:
    """s B A of every module, dense, float64."""
    scale = adapter.settings.alpha / adapter.settings.rank
    return {module: scale * (b.double() @ a.double()) for module, a, b in pairs(adapter)}


def base_weights(learner: Learner) -> dict[str, Tensor]:
    return {name: layer.get_base_layer().weight.detach().double() for name, layer in learner._model.layers.items()}


def test_both_norms_are_those_of_the_dense_weight_change(learner: Learner, parent: Adapter) -> None:
    result = learner.update(FORCED, parent, STEP, spectral=True)
    before, after, base = weights(parent), weights(result.adapter), base_weights(learner)
    assert result.outcome is UpdateOutcome.STEPPED
    for norm in result.norms:
        for order, step, state in (
            ("fro", norm.step, norm.cumulative),
            (2, norm.step_spectral, norm.cumulative_spectral),
        ):
            unit = torch.linalg.matrix_norm(base[norm.module], order)
            moved = torch.linalg.matrix_norm(after[norm.module] - before[norm.module], order) / unit
            stands = torch.linalg.matrix_norm(after[norm.module], order) / unit
            assert step == pytest.approx(float(moved), rel=1e-6)
            assert state == pytest.approx(float(stands), rel=1e-9)


def test_a_step_too_small_to_see_in_the_weights_still_has_its_norm(learner: Learner, parent: Adapter) -> None:
    """Subtracting dense float32 products would lose it in rounding; the factored form does not cancel."""
    short = learner.update(FORCED, parent, UpdateSettings(step_size=3e-3), spectral=True).norms
    shorter = learner.update(FORCED, parent, UpdateSettings(step_size=3e-4), spectral=True).norms
    for one, other in zip(short, shorter, strict=True):
        assert one.step_spectral is not None
        assert other.step_spectral == pytest.approx(one.step_spectral / 10, rel=0.05)


def test_a_spectral_norm_never_exceeds_the_frobenius_norm_it_belongs_to(learner: Learner, parent: Adapter) -> None:
    base = base_weights(learner)
    for norm in learner.update(FORCED, parent, STEP, spectral=True).norms:
        ratio = float(base[norm.module].norm() / torch.linalg.matrix_norm(base[norm.module], 2))
        assert norm.step_spectral is not None
        assert norm.step_spectral <= norm.step * ratio * (1 + 1e-9)


def test_spectral_norms_have_the_bits_of_each_product_by_itself() -> None:
    generator = torch.Generator().manual_seed(5)
    shapes = [(out, k, into) for out in (3, 40, 96) for k in (4, 16) for into in (2, 40, 288)] * 2
    products = [
        tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((out, k), (k, into)))
        for out, k, into in shapes
    ]
    for (left, right), found in zip(products, norms._spectral(products), strict=True):
        core = torch.linalg.qr(left, mode="r").R @ torch.linalg.qr(right.T, mode="r").R.T
        assert found == float(torch.linalg.matrix_norm(core, 2))


def test_spectral_norms_cost_nothing_where_nobody_asks(learner: Learner, parent: Adapter) -> None:
    plain, asked = learner.update(FORCED, parent, STEP), learner.update(FORCED, parent, STEP, spectral=True)
    assert all(norm.step_spectral is None for norm in plain.norms)
    assert [(n.module, n.step, n.cumulative) for n in plain.norms] == [
        (n.module, n.step, n.cumulative) for n in asked.norms
    ]
    assert plain.adapter.tensors.keys() == asked.adapter.tensors.keys()
    assert all(torch.equal(tensor, asked.adapter.tensors[name]) for name, tensor in plain.adapter.tensors.items())


# --- projection ---


def test_projection_leaves_modules_that_fit_as_they_are_and_ends_no_other_beyond_the_radius(
    learner: Learner, parent: Adapter
) -> None:
    free = learner.update(FORCED, parent, STEP, spectral=True)
    norms = sorted(norm.step for norm in free.norms)
    radius = (norms[0] + norms[-1]) / 2
    held = learner.update(FORCED, parent, UpdateSettings(step_size=0.3, max_norm=radius), spectral=True)
    assert held.norms == free.norms  # both norms are kept
    inside = {norm.module for norm in free.norms if norm.step <= radius}
    assert 0 < len(inside) < len(free.norms)
    tensors = {module: (a, b) for module, a, b in pairs(held.adapter)}
    for module, a, b in pairs(free.adapter):
        same = torch.equal(a, tensors[module][0]) and torch.equal(b, tensors[module][1])
        assert same == (module in inside)
    for norm in held.projected_norms:
        assert norm.step <= radius
        if norm.module not in inside:
            assert norm.step == pytest.approx(radius, rel=1e-4)


def test_what_is_said_after_projection_is_of_the_weights_that_are_left(learner: Learner, parent: Adapter) -> None:
    radius = 0.01
    held = learner.update(FORCED, parent, UpdateSettings(step_size=0.3, max_norm=radius), spectral=True)
    before, after, base = weights(parent), weights(held.adapter), base_weights(learner)
    for norm in held.projected_norms:
        moved = (after[norm.module] - before[norm.module]).norm() / base[norm.module].norm()
        assert norm.step == pytest.approx(float(moved), rel=1e-5)
        assert norm.cumulative == pytest.approx(float(after[norm.module].norm() / base[norm.module].norm()), rel=1e-9)


def test_projection_gives_the_same_bits_again(learner: Learner, parent: Adapter) -> None:
    settings = UpdateSettings(step_size=0.3, max_norm=0.01)
    first, second = (learner.update(FORCED, parent, settings) for _ in range(2))
    assert first.projected_norms == second.projected_norms
    assert learner.write_adapter(first.adapter) == learner.write_adapter(second.adapter)


def test_a_radius_that_leaves_nothing_of_a_step_is_a_step_that_moved_nothing(learner: Learner, parent: Adapter) -> None:
    result = learner.update(FORCED, parent, UpdateSettings(step_size=0.3, max_norm=1e-30))
    assert result.outcome is UpdateOutcome.UNMOVED
    assert result.adapter is parent


# --- the loss after the step ---


def test_the_loss_after_the_step_is_the_loss_before_the_next_one(learner: Learner, parent: Adapter) -> None:
    one = learner.update(FORCED, parent, STEP, loss_after=True)
    two = learner.update(FORCED, parent, UpdateSettings(steps=2, step_size=0.3))
    assert one.loss_after == pytest.approx(two.losses[1], rel=1e-6)
    assert learner.update(FORCED, parent, STEP).loss_after is None


# --- the divergence from the base ---


def by_hand(learner: Learner, pair: tuple[str, str], adapter: Adapter) -> list[float]:
    """One text alone, no batch, with torch's own divergence."""
    text = learner._text
    prompt, solution = text.solve_prompt(pair[0]), text.solution(pair[1])
    ids = torch.tensor([[*prompt, *solution]])
    found = []
    for given in (None, adapter):
        with learner._model.using(given) as model, torch.no_grad():
            logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double()
            found.append(torch.log_softmax(logits, dim=-1))
    each = torch.nn.functional.kl_div(found[1], found[0], reduction="none", log_target=True).sum(dim=-1)
    values: list[float] = each.tolist()
    return values


def test_the_divergence_is_that_of_every_solution_token_alone(learner: Learner, parent: Adapter) -> None:
    found = learner.divergence(PAIRS, parent)
    for pair, values in zip(PAIRS, found, strict=True):
        assert list(values) == pytest.approx(by_hand(learner, pair, parent), rel=1e-3, abs=1e-6)
        assert min(values) >= 0
        assert max(values) > 0


def test_what_is_remembered_of_the_base_changes_no_bit(learner: Learner, parent: Adapter) -> None:
    first = learner.divergence(PAIRS, parent)
    assert learner.divergence(PAIRS, parent) == first
    learner.divergence(PAIRS[:1], parent)  # other texts take their place
    assert learner.divergence(PAIRS, parent) == first


def test_a_state_that_is_the_base_does_not_diverge_from_it(learner: Learner) -> None:
    start = learner.initial_adapter(LoraSettings(rank=4, alpha=8))  # B = 0 changes nothing
    assert all(value < 1e-9 for values in learner.divergence(PAIRS, start) for value in values)


def test_weights_that_are_not_numbers_give_a_divergence_that_is_not_one(learner: Learner, parent: Adapter) -> None:
    broken = Adapter(parent.settings, {name: torch.full_like(t, math.nan) for name, t in parent.tensors.items()})
    values = [value for row in learner.divergence(PAIRS, broken) for value in row]
    assert values
    assert not any(math.isfinite(value) for value in values)


def test_a_text_that_cannot_be_put_to_the_model_has_no_tokens(learner: Learner, parent: Adapter) -> None:
    found = learner.divergence([PAIRS[0], ("é", "#7"), *PAIRS[1:]], parent)
    assert found[1] == ()
    assert [len(row) for row in (found[0], *found[2:])] == [len(row) for row in learner.divergence(PAIRS, parent)]
