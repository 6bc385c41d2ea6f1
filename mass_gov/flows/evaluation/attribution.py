"""Does attribution tell which samples helped? Against the judge that knows: practising again without each of them.

Both are of one task, from the core's start, and of the token-mean cross-entropy L of the reference solution by the
adapted model; `mass_gov.mass.attribution` defines them. Reported are Spearman correlations within a task, averaged over
the tasks whose samples differ at all. Rules: float32 as in use, the exact sweep of `meta_gradient`; the reference
solution is used here, for a figure, and never by a method.

Does not know methods.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mass_gov.errors import ModelError
from mass_gov.flows.evaluation.ranks import spearman
from mass_gov.mass import loading
from mass_gov.mass.adapter_losses import adapter_losses
from mass_gov.mass.attribution import attributions
from mass_gov.mass.bilevel import BilevelTask
from mass_gov.mass.core import Core, read_core
from mass_gov.mass.inner_loop import Parameters, gradient_descent, run_inner_loop
from mass_gov.mass.lora import LoraModel, module_of
from mass_gov.mass.losses import SolutionBatch, solution_batch
from mass_gov.mass.rivals.values import Written
from mass_gov.mass.text import Text

FEWEST = 3  # samples; two ranks always agree or disagree wholly


@dataclass(frozen=True)
class Practised:
    """A task's question, its reference solution, and the samples that were practised on."""

    question: str
    solution: str
    samples: tuple[Written, ...]


@dataclass(frozen=True)
class Agreement:
    """Mean Spearman correlations within tasks, and how many tasks had one.

    attribution_loo: attribution with leave-one-out. score_attribution, score_loo: the scorer's score with either,
    turned so that 1 means: the score prefers exactly what helps.
    """

    attribution_loo: float
    score_attribution: float
    score_loo: float
    tasks: int


class AttributionJudge:
    """Opened on a folder with a core. Raises ModelError where it has none, or no scorer."""

    def __init__(self, folder: Path) -> None:
        model, self._text = loading.load(folder)
        self._lora = LoraModel(model)
        core = read_core(folder, self._lora)
        if core is None or core.scorer is None:
            raise ModelError(f"{folder} has no core with a scorer, so that nothing is attributed. Name a trained one.")
        self._core: Core = core
        self._lora.attach(core.adapter.settings)

    def agreement(self, practised: Iterable[Practised]) -> Agreement:
        """Compare attribution, leave-one-out and scores over tasks."""
        rows = [self._of_task(task) for task in practised]
        known = [row for row in rows if row is not None and all(map(math.isfinite, row))]
        if not known:
            return Agreement(math.nan, math.nan, math.nan, 0)
        first, second, third = (math.fsum(column) / len(known) for column in zip(*known, strict=True))
        return Agreement(first, second, third, len(known))

    def _of_task(self, task: Practised) -> tuple[float, float, float] | None:
        used = [one for one in task.samples if one.weight > 0]
        if len(used) < FEWEST:
            return None
        scores = [one.score or 0.0 for one in used]
        attribution, without = self.effects(task.question, task.solution, used)
        helped = [-value for value in attribution], [-value for value in without]
        return spearman(attribution, without), spearman(scores, helped[0]), spearman(scores, helped[1])

    def effects(self, question: str, solution: str, samples: Sequence[Written]) -> tuple[list[float], list[float]]:
        """(attribution, leave-one-out) of each sample; all must parse."""
        bilevel = self._bilevel(question, solution, samples)
        loss, attribution = attributions(bilevel, self._core.steps)
        return attribution, [loss - self._loss_without(bilevel, i) for i in range(len(samples))]

    def _bilevel(self, question: str, solution: str, samples: Sequence[Written]) -> BilevelTask:
        inner = adapter_losses(
            self._lora,
            self._core.adapter,
            self._batch([(one.question, one.solution) for one in samples]),
            self._softening,
        )
        outer = adapter_losses(self._lora, self._core.adapter, self._batch([(question, solution)]))
        weights = torch.tensor([one.weight for one in samples])
        sizes = {name: self._core.step_sizes[module_of(name)] for name in self._core.adapter.tensors}
        return BilevelTask(
            losses=inner,
            outer=lambda phi, theta: outer(phi, theta, slice(None)).sum(),
            start=dict(self._core.adapter.tensors),
            step_sizes=sizes,
            scores=(weights / weights.sum()).requires_grad_(),
        )

    @property
    def _softening(self) -> float:
        return self._core.softening

    def _batch(self, pairs: Sequence[tuple[str | None, str | None]]) -> SolutionBatch:
        text: Text = self._text
        tokens = [(text.solve_prompt(question or ""), text.solution(answer or "")) for question, answer in pairs]
        return solution_batch(tokens, text.pad_id)

    def _loss_without(self, task: BilevelTask, left_out: int) -> float:
        weights = task.scores.detach().clone()
        weights[left_out] = 0.0
        weights = weights / weights.sum()

        def loss(phi: Parameters) -> Tensor:
            return (weights * task.losses(phi, {}, slice(None))).sum()

        trace = run_inner_loop(loss, dict(task.start), gradient_descent(task.step_sizes), self._core.steps)
        with torch.no_grad():
            return float(task.outer(trace.parameters, {}))
