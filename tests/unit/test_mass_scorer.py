"""The scorer: a pure function of its tensors, weights that add up, and features that padding cannot reach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mass_gov.errors import SettingsError
from mass_gov.mass import loading, scorer
from tests.fakes.tiny_models import ARCHITECTURES


def random_head(d: int = 5, h: int = 3) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    head = scorer.initial_head(d, h, seed=3)
    return {name: tensor + torch.randn(tensor.shape, generator=random) for name, tensor in head.items()}


def test_an_initial_head_weighs_every_sample_alike() -> None:
    head = scorer.initial_head(16, 8, seed=1)
    hidden = torch.randn(6, 16, generator=torch.Generator().manual_seed(1))
    scores = scorer.score(head, hidden)
    assert scores.tolist() == [0.0] * 6
    assert torch.equal(scorer.weights(scores, torch.ones(6, dtype=torch.bool)), torch.full((6,), 1 / 6))
    assert head["input.weight"].std() > 0  # else the last layer alone could never learn to tell samples apart
    assert head["input.weight"].abs().max() <= 16**-0.5


def test_an_initial_head_is_its_seeds() -> None:
    assert scorer.head_digest(scorer.initial_head(4, 2, seed=1)) == scorer.head_digest(
        scorer.initial_head(4, 2, seed=1)
    )
    assert scorer.head_digest(scorer.initial_head(4, 2, seed=1)) != scorer.head_digest(
        scorer.initial_head(4, 2, seed=2)
    )


def test_a_head_without_units_is_refused() -> None:
    for sizes in ((0, 4), (4, 0)):
        with pytest.raises(SettingsError):
            scorer.initial_head(*sizes)


def test_the_score_has_a_gradient_in_every_tensor_and_in_the_hidden_state() -> None:
    head = {name: tensor.double().requires_grad_() for name, tensor in random_head().items()}
    hidden = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    names = sorted(head)

    def function(h: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        scores = scorer.score(dict(zip(names, tensors, strict=True)), h)
        return scorer.weights(scores, torch.tensor([True, True, False, True]))

    assert torch.autograd.gradcheck(function, (hidden, *(head[name] for name in names)))
    function(hidden, *(head[name] for name in names))[0].backward()
    assert all(
        tensor.grad is not None and bool(tensor.grad.any()) for name, tensor in head.items() if "bias" not in name
    )


def test_weights_are_over_the_kept_samples_alone() -> None:
    scores = torch.tensor([[1.0, 50.0, 2.0], [3.0, 1.0, 0.0]], requires_grad=True)
    kept = torch.tensor([[True, False, True], [False, False, False]])
    found = scorer.weights(scores, kept)
    assert found[0].tolist() == pytest.approx([1 / (1 + torch.e), 0.0, torch.e / (1 + torch.e)])
    assert found[1].tolist() == [0.0, 0.0, 0.0]
    found[0, 0].backward()
    assert scores.grad is not None and bool(torch.isfinite(scores.grad).all())
    assert scores.grad[0, 1] == 0 and scores.grad[0, 0] > 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_features_are_what_the_models_own_head_reads_and_how_surprised_it_was(
    architecture: str, tiny_model: Callable[[str], Path]
) -> None:
    model, _ = loading.load(tiny_model(architecture))
    rows = [([1, 20, 30], [40, 50, 2]), ([1, 20, 30], [41]), ([1, 20, 30], [42, 43, 44, 45, 2])]
    with torch.inference_mode():
        found = scorer.features(model, scorer.scoring_batch(rows, pad_id=0))
        assert found.shape == (3, scorer.feature_size(model))
        for row, (prompt, sample) in zip(found, rows, strict=True):
            logits = model(input_ids=torch.tensor([[*prompt, *sample]])).logits[0]
            assert torch.allclose(model.lm_head(row[:-2]), logits[-1], atol=1e-4)  # padding moves the last bits only
            losses = -logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(sample)[:, None])
            assert row[-2].item() == pytest.approx(losses.mean().item(), abs=1e-4)
            assert row[-1].item() == pytest.approx(losses.max().item(), abs=1e-4)
