"""The learner: one model folder opened for writing practice, taking steps on it, and answering.

Rules: every method is a pure function of its arguments and the folder: adapters go in and come out as values, seeds are
given, nothing is remembered between calls but the counters and what the frozen base alone decides. On the same machine
with the same number of threads the same call gives the same bits in any process. One thread at a time: a lock keeps
concurrent callers apart.

Does not know gates, policies, records or whether an answer is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call

from mass_gov.mass import canaries, fingerprint, loading, losses
from mass_gov.mass.adapter_losses import adapter_losses
from mass_gov.mass.attribution import attributions
from mass_gov.mass.bilevel import BilevelTask
from mass_gov.mass.core import Core, read_core
from mass_gov.mass.divergence import ReadByBase
from mass_gov.mass.inner_loop import InnerTrace, Loss, Parameters, gradient_descent, run_inner_loop
from mass_gov.mass.lora import LoraModel, module_of
from mass_gov.mass.model_folder import base_digest
from mass_gov.mass.norms import BaseNorms, step_result
from mass_gov.mass.numerics import Numerics
from mass_gov.mass.reader import Reader
from mass_gov.mass.text import Text
from mass_gov.mass.values import (
    Adapter,
    TrainingSample,
    UpdateOutcome,
    UpdateResult,
    UpdateSettings,
)
from mass_gov.mass.writer import Writer


class Learner(Writer, Reader):
    """A causal language model that can practise. Make one with `Learner.open`."""

    def __init__(
        self,
        model: LoraModel,
        text: Text,
        digest: str,
        threads: int,
        core: Core | None = None,
        numerics: Numerics = "native",
    ) -> None:
        super().__init__(model, text, threads, core)
        self._numerics: Numerics = numerics
        self._canaries: dict[str, str] = {}
        self._base_norms = BaseNorms(model)
        self.base_digest = digest

    @classmethod
    def open(cls, folder: Path, *, threads: int = 1, numerics: Numerics = "native") -> Learner:
        """Open a Hugging Face model folder (local files only).

        Sets this process's torch thread counts and deterministic algorithms. Raises ModelError with what to do next
        for a folder that is missing, damaged, unsafe or unknown, and SettingsError where portable numerics was asked
        for and the process was not started for it.
        """
        loading.set_up_torch(threads, numerics)
        model, text = loading.load(folder)
        lora_model = LoraModel(model)
        return cls(lora_model, text, base_digest(folder), threads, read_core(folder, lora_model), numerics)

    def fingerprint(self) -> fingerprint.Fingerprint:
        """The numeric environment of this process, with its canaries: computed once, when it is first asked for."""
        with self._lock:
            self._canaries = self._canaries or self._sing()
            return fingerprint.fingerprint(self._model.model, self._numerics) | self._canaries

    def update(
        self,
        samples: Sequence[TrainingSample],
        adapter: Adapter,
        settings: UpdateSettings,
        *,
        spectral: bool = False,
        loss_after: bool = False,
        compared: Sequence[tuple[str, str]] = (),
    ) -> UpdateResult:
        """K weighted steps, phi_{k+1} = phi_k - alpha * grad sum_i w_i l_i(phi_k), from `adapter`.

        l_i is the token-mean cross-entropy of sample i's solution given its own solve prompt. Samples of weight 0 are
        left out of the batch. No weight, a step that moves nothing and a non-finite step are outcomes, not errors.
        `spectral` asks for spectral norms too, `loss_after` for the weighted loss after the last step, `compared` for
        the `divergence` of the state that is left on these pairs: one forward pass more for both, two where the step
        was projected. Raises TaskError for a weighted sample that `unusable` names.
        """
        weighted = [sample for sample in samples if sample.weight > 0]
        if not weighted:
            return UpdateResult(adapter, UpdateOutcome.NO_WEIGHT, 0)
        with self._computing(adapter):
            batch, weights = self._objective(weighted)
            trace = self._descend(batch, weights, adapter, settings)
            result = step_result(self._base_norms, adapter, trace, settings.max_norm, spectral=spectral)
            taken = Adapter(adapter.settings, trace.parameters) if loss_after and trace.finite else None
            base = self._as_the_base_reads(compared) if compared and result.outcome is UpdateOutcome.STEPPED else None
            own, others = self._read_after(taken, batch, result, base)
        if own is not None:
            after = (weights * losses.counted_losses(own, batch, settings.softening)).sum()
            result = replace(result, loss_after=float(after))
        return replace(result, divergences=base.divergences(others)) if base is not None else result

    def attribute(
        self,
        samples: Sequence[TrainingSample],
        adapter: Adapter,
        settings: UpdateSettings,
        target: tuple[str, str],
        scored: Sequence[bool],
    ) -> list[float]:
        """How much each sample moved the token-mean loss of `target`, a question with its solution (`attribution`).

        In nats by unit of a sample's score, negative where it made the solution likelier; of the steps as taken,
        before any projection. Every sample needs a weight above 0. `scored` is false for anchors, which have no score;
        theirs is 0. Not metered. Raises TaskError as `update` does.
        """
        weights = torch.tensor([sample.weight for sample in samples])
        pairs = [(sample.question, sample.solution) for sample in samples]
        with self._computing(adapter):
            batch, outer = self._solutions(pairs), self._solutions([target])
            loss = adapter_losses(self._model, adapter, outer)
            task = BilevelTask(
                losses=adapter_losses(self._model, adapter, batch, settings.softening),
                outer=lambda phi, theta: loss(phi, theta, slice(None)).sum(),
                start=dict(adapter.tensors),
                step_sizes={name: settings.step_size_of(module_of(name)) for name in adapter.tensors},
                scores=(weights / weights.sum()).requires_grad_(),
            )
            return attributions(task, settings.steps, torch.tensor(scored, dtype=weights.dtype))[1]

    def _sing(self) -> dict[str, str]:
        start = self._start()
        with self._computing(start) as model:
            return {
                "canary.prefill": canaries.prefill(model),
                "canary.decode": canaries.decode(model),
                "canary.step": canaries.step(
                    model, start, lambda batch, weights: self._weighted_loss(batch, weights, start, 1.0)
                ),
            }

    def _objective(self, samples: Sequence[TrainingSample]) -> tuple[losses.SolutionBatch, Tensor]:
        batch = self._solutions([(sample.question, sample.solution) for sample in samples])
        return batch, torch.tensor([sample.weight for sample in samples])

    def _descend(
        self, batch: losses.SolutionBatch, weights: Tensor, adapter: Adapter, settings: UpdateSettings
    ) -> InnerTrace:
        loss = self._weighted_loss(batch, weights, adapter, settings.softening)
        sizes = {name: settings.step_size_of(module_of(name)) for name in adapter.tensors}
        trace = run_inner_loop(loss, dict(adapter.tensors), gradient_descent(sizes), settings.steps)
        for _ in range(len(trace.losses) + (not trace.finite)):
            self._total.forward(self._parameters(adapter), batch.positions_computed)
            self._total.backward(self._parameters(adapter), batch.positions_computed)
        return trace

    def _read_after(
        self, taken: Adapter | None, batch: losses.SolutionBatch, result: UpdateResult, base: ReadByBase | None
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Logits of `batch` by the step as taken, and of what the base read by the state that is left; where both are
        asked for and are the same weights, in one pass."""
        others = base.batches if base is not None else []
        if taken is None:
            return None, self._counted_logits(result.adapter, others)
        if result.projection < 1.0:
            return self._counted_logits(taken, [batch])[0], self._counted_logits(result.adapter, others)
        own, *found = self._counted_logits(taken, [batch, *others])
        return own, found

    def _weighted_loss(self, batch: losses.SolutionBatch, weights: Tensor, adapter: Adapter, softening: float) -> Loss:
        """sum_i w_i l_i as a function of the adapter's tensors alone."""
        slots = self._model.slot_names(adapter)

        def loss(parameters: Parameters) -> Tensor:
            swapped = {slots[name]: tensor for name, tensor in parameters.items()}

            def forward(**inputs: object) -> Tensor:
                logits: Tensor = functional_call(self._model.model, swapped, (), inputs).logits
                return logits

            return (weights * losses.sample_losses(forward, batch, softening)).sum()

        return loss
