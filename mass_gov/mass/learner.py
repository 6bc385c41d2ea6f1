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
from mass_gov.mass import adapter_files, canaries, fingerprint, loading, losses, packed, scorer, together
from mass_gov.mass.adapter_losses import adapter_losses
from mass_gov.mass.attribution import attributions
from mass_gov.mass.bilevel import BilevelTask
from mass_gov.mass.core import Core, read_core
from mass_gov.mass.decoding import Choose, decode
from mass_gov.mass.divergence import ReadByBase, Remembered
from mass_gov.mass.inner_loop import InnerTrace, Loss, Parameters, gradient_descent, run_inner_loop
from mass_gov.mass.lora import Groups, LoraModel, module_of
from mass_gov.mass.metering import Meter
from mass_gov.mass.model_folder import base_digest
from mass_gov.mass.norms import BaseNorms, step_result
from mass_gov.mass.numerics import Numerics
from mass_gov.mass.prompting import PromptTemplate
from mass_gov.mass.sampling import again_table, draw, latin_hypercube
from mass_gov.mass.text import Text, Tokens
from mass_gov.mass.together import Job, Written
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
        self._keeps_bits: bool | None = None
        self._packs: bool | None = None
        self.core = core
        self._text = text
        self._threads = threads
        self._lock = threading.RLock()
        self._total = Meter()
        self._base_norms = BaseNorms(model)
        self._read_by_base = Remembered()
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

    def prompt_tokens(self, question: str) -> int:
        """How many tokens `question` is as it is put to this model."""
        return len(self._text.solve_prompt(question))

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

    @property
    def keeps_bits_together(self) -> bool:
        """Whether what is written for several tasks at once has the bits that each has alone, as `together` finds on
        this model and machine: once per process."""
        with self._lock:
            if self._keeps_bits is None:
                self._keeps_bits = together.keeps_bits(
                    self._computing_each, self._text.pad_id, self._start(), self._vocabulary
                )
            return self._keeps_bits

    def widths(self, question: str, *, practise: int, solve: int) -> tuple[int, int]:
        """How many tokens a question's practise prompt and solve prompt have.

        Raises TaskError where one leaves no room for so many new tokens, or the question cannot be posed.
        """
        prompts = self._text.practise_prompt(question), self._text.solve_prompt(question)
        for prompt, limit in zip(prompts, (practise, solve), strict=True):
            self._text.check_room(prompt, limit)
        return len(prompts[0]), len(prompts[1])

    def write_samples_together(
        self,
        questions: Sequence[str],
        adapter: Adapter | None,
        *,
        count: int,
        seeds: Sequence[int],
        settings: SamplingSettings,
        width: int,
    ) -> list[Written]:
        """As `write_samples` for each question with its seed, in batches, every prompt padded to `width` tokens.

        Each has the bits that it has alone at this width, as long as `keeps_bits_together`.
        """
        limit, prompts = settings.max_new_tokens, [self._text.practise_prompt(question) for question in questions]
        jobs = [
            Job((prompt,) * count, adapter, latin_hypercube(seed, count, limit), seed)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return self._write_together(jobs, limit, width, settings.temperature, shared=True)

    def answer_together(
        self,
        questions: Sequence[Sequence[str]],
        adapters: Sequence[Adapter | None],
        *,
        max_new_tokens: int,
        width: int = 0,
    ) -> list[Written]:
        """Solve equally many questions with each adapter greedily, padded to `width` tokens at least.

        Either every adapter is one, all of one shape, or every one is None (the frozen base). Bits as above.
        """
        jobs = [
            Job(tuple(self._text.solve_prompt(question) for question in asked), adapter)
            for asked, adapter in zip(questions, adapters, strict=True)
        ]
        return self._write_together(jobs, max_new_tokens, width)

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

        with self._lock:
            base = self._as_the_base_reads(pairs, batch_size)
            return list(base.divergences(self._counted_logits(adapter, base.batches)))

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

    def _start(self) -> Adapter:
        return self.core.adapter if self.core is not None else self.initial_adapter(LoraSettings())

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

    @contextmanager
    def _computing(self, adapter: Adapter | None) -> Iterator[Any]:
        """The model with `adapter`, for one caller at a time, with the thread count that its bits depend on."""
        with self._lock, self._model.using(adapter) as model:
            if torch.get_num_threads() != self._threads:
                torch.set_num_threads(self._threads)
            yield model

    @contextmanager
    def _computing_each(self, groups: Groups | None) -> Iterator[Any]:
        """As `_computing`, with an adapter for each group of rows; None is the frozen base."""
        with self._computing(groups.adapters[0] if groups else None) as model:
            if groups is None:
                yield model
                return
            with self._model.using_each(groups) as grouped:
                yield grouped

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

    def _as_the_base_reads(self, pairs: Sequence[tuple[str, str]], batch_size: int = BATCH_SIZE) -> ReadByBase:
        def read() -> ReadByBase:
            places = [place for place, pair in enumerate(pairs) if self.unusable(*pair) is None]
            parts = (places[i : i + batch_size] for i in range(0, len(places), batch_size))
            batches = [self._solutions([pairs[place] for place in part]) for part in parts]
            return ReadByBase(batches, self._counted_logits(None, batches), places, len(pairs))

        return self._read_by_base.of((tuple(pairs), batch_size), read)

    def _counted_logits(self, adapter: Adapter | None, batches: Sequence[losses.SolutionBatch]) -> list[Tensor]:
        """Charged as if padded: what a change costs depends on no machine."""
        if not batches:
            return []
        self._total.forward(self._parameters(adapter), sum(batch.positions_computed for batch in batches))
        with self._computing(adapter) as model, torch.inference_mode():
            if self._packs is None:
                self._packs = packed.keeps_bits(model, self._text.pad_id, self._vocabulary)
            return packed.counted_logits(model, batches, pack=self._packs)

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
        return self._generations(prompts, rows, seed)

    def _write_together(
        self, jobs: Sequence[Job], limit: int, width: int, temperature: float = 1.0, *, shared: bool = False
    ) -> list[Written]:
        self._text.check_width(width, limit)
        for job in jobs:
            for prompt in job.prompts:
                self._text.check_room(prompt, limit)
        batch = together.Together(self._computing_each, self._text.pad_id, self._has_ended, limit, shared, temperature)
        return [self._written(job, rows) for job, rows in zip(jobs, batch.write(jobs, width), strict=True)]

    def _written(self, job: Job, rows: Sequence[list[int]]) -> Written:
        """What one job is charged, and its texts."""
        cost = Meter()
        cost.forward(self._parameters(job.adapter), together.positions(job, rows))
        cost.generated(sum(map(len, rows)))
        self._total.add(cost)
        return Written(self._generations(job.prompts, rows, job.seed), cost)

    def _generations(self, prompts: Sequence[Tokens], rows: Sequence[list[int]], seed: int | None) -> list[Generation]:
        return [
            Generation(prompt, tuple(row), self._text.decode(row), self._has_ended(row), seed, index, len(prompts))
            for index, (prompt, row) in enumerate(zip(prompts, rows, strict=True))
        ]

    def _check_written(self, prompt: Tokens, tokens: Tokens) -> None:
        self._text.check_room(prompt, len(tokens))
        vocabulary = self._vocabulary
        if not all(0 <= token < vocabulary for token in tokens):
            raise TaskError("a sample holds a token that this model does not have. Use the model that wrote it.")

    def _has_ended(self, row: list[int]) -> bool:
        return row[-1] in self._text.end_ids or self._text.stops(row)

    def _solutions(self, pairs: Sequence[tuple[str, str]]) -> losses.SolutionBatch:
        tokens = [(self._text.solve_prompt(question), self._text.solution(s)) for question, s in pairs]
        for prompt, solution in tokens:
            self._text.check_room(prompt, len(solution))
        return losses.solution_batch(tokens, self._text.pad_id)

    @property
    def _vocabulary(self) -> int:
        model: Any = self._model.model
        size: int = model.get_input_embeddings().num_embeddings
        return size

    def _parameters(self, adapter: Adapter | None) -> int:
        added = sum(tensor.numel() for tensor in adapter.tensors.values()) if adapter else 0
        return self._model.parameter_count + added
