"""The learner: one model folder opened for writing practice, taking steps on it, and answering.

Rules: every method is a pure function of its arguments and the folder: adapters go in and come out as values, seeds are
given, nothing is remembered between calls but the counters and what the frozen base alone decides. On the same machine
with the same number of threads the same call gives the same bits in any process. One thread at a time: a lock keeps
concurrent callers apart.

Does not know gates, policies, records or whether an answer is right.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from mass_gov.errors import SettingsError, TaskError
from mass_gov.mass import adapter_files, canaries, divergence, fingerprint, loading, losses, scorer
from mass_gov.mass.adapter_losses import adapter_losses
from mass_gov.mass.attribution import attributions
from mass_gov.mass.bilevel import BilevelTask
from mass_gov.mass.core import Core, read_core
from mass_gov.mass.decoding import Choose, decode
from mass_gov.mass.inner_loop import InnerTrace, Loss, Parameters, gradient_descent, run_inner_loop
from mass_gov.mass.lora import LoraModel, module_of
from mass_gov.mass.metering import Meter
from mass_gov.mass.model_folder import base_digest
from mass_gov.mass.norms import BaseNorms, step_result
from mass_gov.mass.numerics import Numerics
from mass_gov.mass.prompting import PromptTemplate
from mass_gov.mass.sampling import again_table, draw, latin_hypercube
from mass_gov.mass.text import Text, Tokens
from mass_gov.mass.values import (
    Adapter,
    Generation,
    LoraSettings,
    Reading,
    SamplingSettings,
    TrainingSample,
    UpdateOutcome,
    UpdateResult,
    UpdateSettings,
)

BATCH_SIZE = 48


class Learner:
    """A causal language model that can practise. Make one with `Learner.open`.

    `core` is what meta-training left beside the weights: None for a plain base.
    """

    def __init__(
        self,
        model: LoraModel,
        text: Text,
        digest: str,
        threads: int,
        core: Core | None = None,
        numerics: Numerics = "native",
    ) -> None:
        self._model = model
        self._numerics: Numerics = numerics
        self._canaries: dict[str, str] = {}
        self.core = core
        self._text = text
        self._threads = threads
        self._lock = threading.RLock()
        self._total = Meter()
        self._base_norms = BaseNorms(model)
        self._read_by_base = divergence.Remembered()
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

    @property
    def template(self) -> PromptTemplate:
        """How problems are put to this model."""
        return self._text.template

    @property
    def parameter_count(self) -> int:
        """Parameters of the frozen base, tied ones once."""
        return self._model.parameter_count

    def fingerprint(self) -> fingerprint.Fingerprint:
        """The numeric environment of this process, with its canaries: computed once, when it is first asked for."""
        with self._lock:
            self._canaries = self._canaries or self._sing()
            return fingerprint.fingerprint(self._model.model, self._numerics) | self._canaries

    @property
    def flops(self) -> int:
        """FLOPs of every call so far."""
        return self._total.flops

    @contextmanager
    def meter(self) -> Iterator[Meter]:
        """Count FLOPs and generated tokens inside the block: `with learner.meter() as cost: ...`."""
        before, spent = Meter(self._total.flops, self._total.generated_tokens), Meter()
        try:
            yield spent
        finally:
            spent.flops = self._total.flops - before.flops
            spent.generated_tokens = self._total.generated_tokens - before.generated_tokens

    def check_question(self, question: str, *, max_new_tokens: int) -> None:
        """Raise TaskError where `question` cannot be posed to this model, or leaves no room for an answer."""
        self._text.check_room(self._text.solve_prompt(question), max_new_tokens)

    def initial_adapter(self, lora: LoraSettings) -> Adapter:
        """Where the inner loop starts, the targets spelled out.

        With `lora.initial` the learned phi_0 of this folder's core (`core.lora` asks for it). Without, the adapter that
        changes nothing: A drawn from `lora.seed`, B zero. Raises SettingsError where `lora` asks for another core's.
        """
        if lora.initial is not None:
            if self.core is None or lora != self.core.lora:
                raise SettingsError(
                    f"these settings start from the learned adapter {lora.initial[:12]} of another model folder. "
                    "Open the folder that they were made for."
                )
            return self.core.adapter
        with self._lock:
            return self._model.initial(lora)

    def read_adapter(self, files: Mapping[str, bytes]) -> Adapter:
        """An adapter from the bytes of its two files, exactly as `write_adapter` makes them; else ModelError."""
        settings = adapter_files.read_settings(files)
        with self._lock:
            self._model.attach(settings)
            return Adapter(settings, adapter_files.read_tensors(files, self._model.shapes()))

    def write_adapter(self, adapter: Adapter) -> dict[str, bytes]:
        """`adapter_config.json` and `adapter_model.safetensors`, the same bytes each time."""
        return adapter_files.write_adapter(adapter)

    def write_samples(
        self, question: str, adapter: Adapter | None, *, count: int, seed: int, settings: SamplingSettings
    ) -> list[Generation]:
        """Let the model write `count` practice problems with solutions for `question`, in one batch.

        Parse each with `prompting.parse_sample`. Raises TaskError if the question cannot be posed.
        """
        prompts = [self._text.practise_prompt(question)] * count
        numbers = latin_hypercube(seed, count, settings.max_new_tokens)

        def choose(logits: Tensor, step: int) -> Tensor:
            return draw(logits, numbers[:, step], settings.temperature)

        return self._generate(prompts, adapter, choose, settings.max_new_tokens, seed)

    def read_samples(self, question: str, samples: Sequence[Tokens]) -> list[Reading]:
        """How the frozen base reads samples, as written for `question`, in order: by one forward pass, in one batch.

        Raises TaskError for a sample that this model cannot have written for this question.
        """
        if not samples:
            return []
        prompt = self._text.practise_prompt(question)
        for tokens in samples:
            self._check_written(prompt, tokens)
        batch = scorer.scoring_batch([(prompt, tokens) for tokens in samples], self._text.pad_id)
        head = self.core.scorer if self.core is not None else None
        with self._computing(None) as model, torch.inference_mode():
            seen = scorer.features(model, batch)
            self._total.forward(self._model.parameter_count, batch.positions_computed)
            surprises: list[float] = scorer.mean_surprises(seen).tolist()
            scores: list[float] = scorer.score(head, seen).tolist() if head is not None else []
        return [
            Reading(surprise, scores[place] if head is not None else None) for place, surprise in enumerate(surprises)
        ]

    def as_written(self, text: str) -> Tokens:
        """The tokens of a sample that something else wrote, end token included. Raises TaskError where it could not."""
        return self._text.solution(text)

    def answer(
        self,
        questions: Sequence[str],
        adapter: Adapter | None,
        *,
        max_new_tokens: int,
        batch_size: int = BATCH_SIZE,
    ) -> list[Generation]:
        """Solve each question greedily, in order, in batches of at most `batch_size`; None asks the frozen base."""
        prompts = [self._text.solve_prompt(question) for question in questions]
        found: list[Generation] = []
        for start in range(0, len(prompts), batch_size):
            batch = prompts[start : start + batch_size]
            found += self._generate(batch, adapter, lambda logits, _: logits.argmax(dim=-1), max_new_tokens, None)
        return found

    def nll(
        self, pairs: Sequence[tuple[str, str]], adapter: Adapter | None, *, batch_size: int = BATCH_SIZE
    ) -> list[tuple[float, ...]]:
        """Negative log-likelihood (nats) of every token of each (question, solution)'s solution, end token included."""
        found: list[tuple[float, ...]] = []
        with self._computing(adapter) as model, torch.inference_mode():
            for start in range(0, len(pairs), batch_size):
                batch = self._solutions(pairs[start : start + batch_size])
                values = losses.token_losses(lambda **inputs: model(**inputs).logits, batch)
                self._total.forward(self._parameters(adapter), batch.positions_computed)
                rows = zip(values, batch.counted.bool(), strict=True)
                found += [tuple(row[counted].tolist()) for row, counted in rows]
        return found

    def divergence(
        self, pairs: Sequence[tuple[str, str]], adapter: Adapter, *, batch_size: int = BATCH_SIZE
    ) -> list[tuple[float, ...]]:
        """KL(base ‖ adapter) in nats at every token of each (question, solution)'s solution, end token included.

        Not finite where the logits are not. A pair that `unusable` names has no tokens.
        """

        def logits(of: Adapter | None, batches: Sequence[losses.SolutionBatch]) -> list[Tensor]:
            with self._computing(of) as model, torch.inference_mode():
                self._total.forward(self._parameters(of), sum(batch.positions_computed for batch in batches))
                return [divergence.counted_logits(lambda **inputs: model(**inputs).logits, b) for b in batches]

        def read() -> divergence.ReadByBase:
            places = [place for place, pair in enumerate(pairs) if self.unusable(*pair) is None]
            parts = (places[i : i + batch_size] for i in range(0, len(places), batch_size))
            batches = [self._solutions([pairs[place] for place in part]) for part in parts]
            return divergence.ReadByBase(batches, logits(None, batches), places)

        with self._lock:
            base = self._read_by_base.of((tuple(pairs), batch_size), read)
            rows: list[tuple[float, ...]] = []
            for batch, before, after in zip(base.batches, base.logits, logits(adapter, base.batches), strict=True):
                values: list[float] = divergence.divergences(before, after).tolist()
                ends = batch.counted.sum(dim=1).long().cumsum(dim=0).tolist()
                rows += [tuple(values[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
        by_place = dict(zip(base.places, rows, strict=True))
        return [by_place.get(place, ()) for place in range(len(pairs))]

    def solve_again(
        self, task: str, begun: Sequence[tuple[int, str]], adapter: Adapter | None, *, count: int, seed: int, limit: int
    ) -> list[list[Generation]]:
        """`count` fresh solutions of each practice problem as it stands in the practice for `task`, sampled at 1.

        Arguments:
            begun: (stream, text) of each: what was written up to where its solution begins.
            seed: solution j of a problem uses stream `stream * count + j`, whichever others are asked about.
            limit: new tokens at most. Problems that leave no room for them get no solutions.
        """
        prompt = self._text.practise_prompt(task)
        starts = [(stream, self._text.continued(prompt, text)) for stream, text in begun]
        fitting = [(stream, tokens) for stream, tokens in starts if self._text.has_room(tokens, limit)]
        numbers = again_table(seed, [stream for stream, _ in fitting], count, limit)
        found: dict[int, list[Generation]] = {stream: [] for stream, _ in starts}
        for first in range(0, len(fitting), max(1, BATCH_SIZE // count)):
            part = fitting[first : first + max(1, BATCH_SIZE // count)]
            rows = slice(first * count, (first + len(part)) * count)

            def choose(logits: Tensor, step: int, rows: slice = rows) -> Tensor:
                return draw(logits, numbers[rows, step], 1.0)

            prompts = [tokens for _, tokens in part for _ in range(count)]
            written = self._generate(prompts, adapter, choose, limit, seed)
            for place, (stream, _) in enumerate(part):
                found[stream] = written[place * count : (place + 1) * count]
        return [found[stream] for stream, _ in starts]

    def update(
        self,
        samples: Sequence[TrainingSample],
        adapter: Adapter,
        settings: UpdateSettings,
        *,
        spectral: bool = False,
        loss_after: bool = False,
    ) -> UpdateResult:
        """K weighted steps, phi_{k+1} = phi_k - alpha * grad sum_i w_i l_i(phi_k), from `adapter`.

        l_i is the token-mean cross-entropy of sample i's solution given its own solve prompt. Samples of weight 0 are
        left out of the batch. No weight, a step that moves nothing and a non-finite step are outcomes, not errors.
        `spectral` asks for spectral norms too, `loss_after` for the weighted loss after the last step (one forward
        pass more). Raises TaskError for a weighted sample that `unusable` names.
        """
        weighted = [sample for sample in samples if sample.weight > 0]
        if not weighted:
            return UpdateResult(adapter, UpdateOutcome.NO_WEIGHT, 0)
        with self._computing(adapter):
            batch, loss = self._objective(weighted, adapter, settings)
            trace = self._descend(batch, loss, adapter, settings)
            result = step_result(self._base_norms, adapter, trace, settings.max_norm, spectral=spectral)
            if not (loss_after and trace.finite):
                return result
            with torch.no_grad():
                after = float(loss(trace.parameters))
            self._total.forward(self._parameters(adapter), batch.positions_computed)
            return replace(result, loss_after=after)

    def attribute(
        self, samples: Sequence[TrainingSample], adapter: Adapter, settings: UpdateSettings, target: tuple[str, str]
    ) -> list[float]:
        """How much each sample moved the token-mean loss of `target`, a question with its solution (`attribution`).

        In nats by unit of a sample's score, negative where it made the solution likelier; of the steps as taken,
        before any projection. Every sample needs a weight above 0. Not metered. Raises TaskError as `update` does.
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
            return attributions(task, settings.steps)[1]

    def unusable(self, question: str, solution: str) -> str | None:
        """Why `update` and `nll` would refuse this pair: "unreadable" or "too-long"; None if they would not.

        What a model writes is not always what it can be asked: this lets a gate drop such a sample.
        """
        try:
            prompt, tokens = self._text.solve_prompt(question), self._text.solution(solution)
        except TaskError:
            return "unreadable"
        return None if self._text.has_room(prompt, len(tokens)) else "too-long"

    def _sing(self) -> dict[str, str]:
        start = self.core.adapter if self.core is not None else self.initial_adapter(LoraSettings())
        with self._computing(start) as model:
            return {
                "canary.prefill": canaries.prefill(model),
                "canary.decode": canaries.decode(model),
                "canary.step": canaries.step(
                    model, start, lambda batch, weights: self._weighted_loss(batch, weights, start, 1.0)
                ),
            }

    @contextmanager
    def _computing(self, adapter: Adapter | None) -> Iterator[Any]:
        """The model with `adapter`, for one caller at a time, with the thread count that its bits depend on."""
        with self._lock, self._model.using(adapter) as model:
            if torch.get_num_threads() != self._threads:
                torch.set_num_threads(self._threads)
            yield model

    def _objective(
        self, samples: Sequence[TrainingSample], adapter: Adapter, settings: UpdateSettings
    ) -> tuple[losses.SolutionBatch, Loss]:
        batch = self._solutions([(sample.question, sample.solution) for sample in samples])
        weights = torch.tensor([sample.weight for sample in samples])
        return batch, self._weighted_loss(batch, weights, adapter, settings.softening)

    def _descend(
        self, batch: losses.SolutionBatch, loss: Loss, adapter: Adapter, settings: UpdateSettings
    ) -> InnerTrace:
        sizes = {name: settings.step_size_of(module_of(name)) for name in adapter.tensors}
        trace = run_inner_loop(loss, dict(adapter.tensors), gradient_descent(sizes), settings.steps)
        for _ in range(len(trace.losses) + (not trace.finite)):
            self._total.forward(self._parameters(adapter), batch.positions_computed)
            self._total.backward(self._parameters(adapter), batch.positions_computed)
        return trace

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

    def _generate(
        self,
        prompts: Sequence[Tokens],
        adapter: Adapter | None,
        choose: Choose,
        max_new_tokens: int,
        seed: int | None,
    ) -> list[Generation]:
        for prompt in prompts:
            self._text.check_room(prompt, max_new_tokens)
        with self._computing(adapter) as model:
            rows, computed = decode(model, prompts, self._text.pad_id, choose, self._has_ended, max_new_tokens)
            self._total.forward(self._parameters(adapter), computed)
            self._total.generated(sum(map(len, rows)))
        return [
            Generation(prompt, tuple(row), self._text.decode(row), self._has_ended(row), seed, index, len(prompts))
            for index, (prompt, row) in enumerate(zip(prompts, rows, strict=True))
        ]

    def _check_written(self, prompt: Tokens, tokens: Tokens) -> None:
        self._text.check_room(prompt, len(tokens))
        model: Any = self._model.model
        vocabulary = model.get_input_embeddings().num_embeddings
        if not all(0 <= token < vocabulary for token in tokens):
            raise TaskError("a sample holds a token that this model does not have. Use the model that wrote it.")

    def _has_ended(self, row: list[int]) -> bool:
        return row[-1] in self._text.end_ids or self._text.stops(row)

    def _solutions(self, pairs: Sequence[tuple[str, str]]) -> losses.SolutionBatch:
        tokens = [(self._text.solve_prompt(question), self._text.solution(s)) for question, s in pairs]
        for prompt, solution in tokens:
            self._text.check_room(prompt, len(solution))
        return losses.solution_batch(tokens, self._text.pad_id)

    def _parameters(self, adapter: Adapter | None) -> int:
        added = sum(tensor.numel() for tensor in adapter.tensors.values()) if adapter else 0
        return self._model.parameter_count + added
