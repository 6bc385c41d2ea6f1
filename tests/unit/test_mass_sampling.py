"""Sampling repeats: each sample has numbers of its own, and a number picks a token by the model's distribution."""

from __future__ import annotations

import numpy as np
import torch

from mass_gov.mass.sampling import draw, latin_hypercube, uniform_table, uniforms


def test_a_samples_numbers_do_not_depend_on_the_other_samples_or_on_how_many_are_drawn() -> None:
    table = uniform_table(seed=7, rows=6, count=50)
    assert torch.equal(uniform_table(seed=7, rows=2, count=20), table[:2, :20])
    assert np.array_equal(uniforms(7, 5, 10), table[5, :10].numpy())


def test_samples_and_seeds_have_different_numbers() -> None:
    streams = {tuple(uniforms(seed, index, 4)) for seed in (0, 1, 10) for index in (0, 1, 10)}
    assert len(streams) == 9


def test_the_scheme_is_fixed_for_ever() -> None:
    """Recorded changes are replayed with these numbers; a different one here needs a new scheme name."""
    assert uniforms(7, 0, 3).tolist() == [0.8265071716136693, 0.5742133423121215, 0.8414509454115271]


def test_numpys_own_uniforms_agree() -> None:
    import hashlib

    name = "philox4x64-sha256-inverse-cdf-v1"
    key = int.from_bytes(hashlib.sha256(f"{name}\0{3}\0{4}".encode()).digest()[:16], "little")
    assert np.array_equal(uniforms(3, 4, 100), np.random.Generator(np.random.Philox(key=key)).random(100))


def test_tokens_come_with_the_probability_that_the_model_gives_them() -> None:
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0])
    n = 20_000
    drawn = draw(logits.expand(n, 4), torch.from_numpy(uniforms(0, 0, n)), temperature=0.7)
    shares = torch.bincount(drawn, minlength=4) / n
    assert torch.allclose(shares, torch.softmax(logits / 0.7, -1), atol=0.015)


def test_the_inverse_cdf_agrees_with_a_plain_loop() -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 17)) * 3).float()
    numbers = torch.from_numpy(uniforms(1, 1, 200))
    for row, number, chosen in zip(logits, numbers, draw(logits, numbers, 1.3), strict=True):
        weights = np.exp((row.double().numpy() - row.max().item()) / 1.3)
        total, token = 0.0, -1
        while total <= number:
            token += 1
            total += weights[token] / weights.sum()
        assert token == chosen


def test_an_impossible_token_is_never_drawn_even_at_the_ends_of_the_interval() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(3, 4)
    extremes = torch.tensor([0.0, 1.0 - 2.0**-53, 1.0], dtype=torch.float64)
    assert draw(logits, extremes, 1.0).tolist() == [1, 2, 2]


def test_samples_of_one_task_hit_every_stratum_once_and_each_alone_is_uniform() -> None:
    table = latin_hypercube(5, 8, 400)
    assert torch.equal(latin_hypercube(5, 8, 400), table) and not torch.equal(latin_hypercube(6, 8, 400), table)
    assert torch.equal((table * 8).floor().sort(dim=0).values, torch.arange(8.0).double()[:, None].expand(8, 400))
    assert float(table.min()) >= 0.0 and float(table.max()) < 1.0
    for row in table:  # Kolmogorov-Smirnov at 0.1%: 1.95 / sqrt(n)
        gap = (row.sort().values - (torch.arange(400) + 0.5) / 400).abs().max()
        assert float(gap) < 1.95 / 400**0.5
    assert len({tuple(column.argsort().tolist()) for column in table.T}) > 390, "positions must not share their order"
    assert torch.equal(latin_hypercube(5, 1, 50)[0], uniform_table(5, 1, 50)[0])


def test_eight_draws_meet_nearly_all_of_seven_equal_choices() -> None:
    def met(numbers: torch.Tensor) -> int:
        return len(set(draw(torch.zeros(8, 7), numbers[:, 0], 1.0).tolist()))

    spread = [met(latin_hypercube(seed, 8, 1)) for seed in range(200)]
    alone = [met(uniform_table(seed, 8, 1)) for seed in range(200)]
    assert sum(spread) / 200 > 6.0 and sum(alone) / 200 < 5.3
