"""Paired bootstrap: how sure an accuracy, and a difference to the base, is.

Rules: 10,000 resamples of the tasks with replacement, the same ones for every method (so that differences are paired by
task) and for every part (a domain's resample is what the whole's holds of it); 2.5% and 97.5% percentiles (Efron &
Tibshirani, 1993, chapter 13). Same seed, same intervals.

A part that no task of a resample belongs to gives that resample no value for the part.
Does not know methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
_AT_ONCE = 500  # resamples held in memory together: 500 x tasks float64
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A share of right answers (0..1) with its 95% interval, and the difference to the base with its own."""

    accuracy: float
    low: float
    high: float
    delta: float
    delta_low: float
    delta_high: float


def intervals(
    right: Mapping[str, Array], base: str, parts: Mapping[str, npt.NDArray[np.bool_]], seed: int
) -> dict[str, dict[str, Interval]]:
    """part -> method -> interval.

    Args:
        right: method -> (tasks,) 0/1 by task, every method over the same tasks in the same order.
        base: the method that the others are compared with.
        parts: name -> (tasks,) which tasks it holds; at least one each.
    """
    names = list(right)
    outcomes = np.stack([right[name] for name in names], axis=1)  # (tasks, methods)
    at = names.index(base)
    found: dict[str, dict[str, Interval]] = {}
    means = {part: [] for part in parts}  # type: dict[str, list[Array]]
    for counts in _resamples(len(outcomes), seed):
        for part, mask in parts.items():
            held = counts[:, mask]
            total = held.sum(axis=1)
            some = total > 0
            means[part].append(held[some] @ outcomes[mask] / total[some, None])
    for part, mask in parts.items():
        drawn = np.concatenate(means[part])  # (resamples, methods)
        point = outcomes[mask].mean(axis=0)
        ends = np.percentile(drawn, (2.5, 97.5), axis=0)
        gaps = np.percentile(drawn - drawn[:, [at]], (2.5, 97.5), axis=0)
        found[part] = {
            name: Interval(*map(float, (point[i], *ends[:, i], point[i] - point[at], *gaps[:, i])))
            for i, name in enumerate(names)
        }
    return found


def _resamples(tasks: int, seed: int) -> Iterator[Array]:
    """How often each task stands in each resample: blocks of (<= _AT_ONCE, tasks), RESAMPLES rows in all."""
    generator = np.random.default_rng(seed)
    for start in range(0, RESAMPLES, _AT_ONCE):
        rows = min(_AT_ONCE, RESAMPLES - start)
        yield generator.multinomial(tasks, np.full(tasks, 1.0 / tasks), size=rows).astype(np.float64)
