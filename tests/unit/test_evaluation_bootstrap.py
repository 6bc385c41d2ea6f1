"""Intervals: paired, seeded, the same resamples for every method and part."""

from __future__ import annotations

import numpy as np
import pytest

from mass_gov.flows.evaluation.bootstrap import intervals

ALL = {"": np.ones(400, dtype=bool)}


def outcomes(share: float, seed: int, n: int = 400) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < share).astype(np.float64)


def test_an_accuracy_has_the_interval_that_the_normal_law_gives() -> None:
    right = outcomes(0.4, 1)
    found = intervals({"base": right}, "base", ALL, seed=0)[""]["base"]
    half = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / len(right))
    assert found.accuracy == right.mean()
    assert (found.low, found.high) == (
        pytest.approx(right.mean() - half, abs=0.006),
        pytest.approx(right.mean() + half, abs=0.006),
    )


def test_a_difference_is_paired_by_task() -> None:
    base = outcomes(0.5, 2)
    better = base.copy()
    better[np.flatnonzero(base == 0)[:20]] = 1.0  # never worse than base on any task
    shuffled = np.random.default_rng(3).permutation(better)  # as accurate, on other tasks
    found = intervals({"base": base, "better": better, "shuffled": shuffled}, "base", ALL, seed=0)[""]
    assert found["better"].delta == found["shuffled"].delta == pytest.approx(0.05)
    assert found["better"].delta_low > 0
    assert found["shuffled"].delta_low < 0, "an unpaired difference of this size is noise"
    assert (found["base"].delta_low, found["base"].delta, found["base"].delta_high) == (0, 0, 0)


def test_the_percentiles_are_those_of_resampled_differences() -> None:
    base, other = outcomes(0.5, 4, 60), outcomes(0.7, 5, 60)
    found = intervals({"base": base, "other": other}, "base", {"": np.ones(60, dtype=bool)}, seed=0)[""]["other"]
    rows = np.random.default_rng(99).integers(0, 60, size=(20_000, 60))
    low, high = np.percentile((other - base)[rows].mean(axis=1), (2.5, 97.5))
    assert (found.delta_low, found.delta_high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))


def test_a_part_is_judged_on_its_own_tasks() -> None:
    mask = np.arange(400) < 100
    right = np.where(mask, 1.0, 0.0)
    found = intervals({"base": right}, "base", {**ALL, "easy": mask, "hard": ~mask}, seed=0)
    assert (found["easy"]["base"].low, found["easy"]["base"].accuracy) == (1.0, 1.0)
    assert found["hard"]["base"].high == 0.0
    assert found[""]["base"].accuracy == 0.25


def test_a_part_that_some_resamples_miss_still_has_an_interval() -> None:
    mask = np.arange(30) == 0
    found = intervals({"base": outcomes(0.5, 1, 30)}, "base", {"one": mask}, seed=0)
    assert np.isfinite([found["one"]["base"].low, found["one"]["base"].high]).all()


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not() -> None:
    right = {"base": outcomes(0.5, 1), "other": outcomes(0.6, 2)}
    first, again, other = (intervals(right, "base", ALL, seed=seed)[""]["other"] for seed in (7, 7, 8))
    assert first == again != other
