"""One model folder adapting to many tasks at once: what evaluation runs on.

Rules: as `Learner`, but every step takes a batch of tasks, each with LoRA tensors of its own (`batched_lora`), so that
a thousand tasks take minutes; sampled tokens come from one counter-based generator per row. Results agree with
`Learner` up to rounding, not to the bit: recorded changes never come from here.

Does not know gates, records, methods or whether an answer is right.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from mass_gov.mass import loading, losses, scorer
from mass_gov.mass.batched_lora import Adapters, BatchedLora, expand
from mass_gov.mass.core import Core, read_core
from mass_gov.mass.decoding import Choose, decode
from mass_gov.mass.lora import LoraModel, module_of
from mass_gov.mass.metering import Meter
from mass_gov.mass.prompting import PromptTemplate
from mass_gov.mass.sampling import draw, latin_hypercube
from mass_gov.mass.text import Text, Tokens
from mass_gov.mass.values import Generation, LoraSettings, TrainingSample, UpdateSettings

Batch = TypeVar("Batch", losses.SolutionBatch, scorer.ScoringBatch)
ROWS = 192  # rows computed at once: more take memory, and in decoding only wait for the longest


class BatchedLearner:
    """Make one with `BatchedLearner.open`. One thread at a time."""

    def __init__(self, model: Any, text: Text, core: Core | None, lora: LoraSettings) -> None:
        self.model = model
        self.text = text
        self.core = core
        self.lora = BatchedLora(model, lora)
        self.update_settings = core.update_settings() if core else UpdateSettings()
        self._device = next(model.parameters()).device
        self._start = self._on_device(core.adapter.tensors if core else self.lora.initial())
        self._parameters = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
        self._added = sum(tensor.numel() for tensor in self._start.values())
        self._meter = Meter()

    @classmethod
    def open(cls, folder: Path, *, threads: int = 1, lora: LoraSettings | None = None) -> BatchedLearner:
        """Open a model folder, with its core if it has one; `lora` (default settings) only counts without one."""
        torch.set_num_threads(threads)
        model, text = loading.load(folder)
        core = read_core(folder, attachable := LoraModel(model))
        model = attachable.detach()
        return cls(model, text, core, core.adapter.settings if core else lora or LoraSettings())

    def with_core(self, core: Core | None) -> BatchedLearner:
        """The same model, hooks and meter with another core of the same LoRA settings (None: as it is)."""
        other = copy.copy(self)
        other.core = core
        other.update_settings = core.update_settings() if core else UpdateSettings()
        other._start = self._on_device(core.adapter.tensors if core else self.lora.initial())
        return other

    @property
    def template(self) -> PromptTemplate:
        """How problems are put to this model."""
        return self.text.template

    @contextmanager
    def meter(self) -> Iterator[Meter]:
        """Count FLOPs and generated tokens inside the block."""
        flops, tokens = self._meter.flops, self._meter.generated_tokens
        spent = Meter()
        try:
            yield spent
        finally:
            spent.flops = self._meter.flops - flops
            spent.generated_tokens = self._meter.generated_tokens - tokens

    def charge(self, positions: int, passes: int) -> None:
        """Count `passes` forward-equivalents over `positions` tokens that a caller computed with this model."""
        self._meter.forward(self._parameters, positions * passes)

    def generate(
        self,
        prompts: Sequence[str],
        adapters: Mapping[str, Tensor] | None,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        strata: int = 1,
    ) -> list[Generation]:
        """Continue every prompt (as the template makes it): greedily at temperature 0, else row i by seeds[i].

        With adapters of T tasks the rows are T equal groups, in the order of the tasks. With `strata`, every so many
        rows are drawn together, as `Learner.write_samples` does, by the seed of the first of them.
        """
        if seeds is not None:
            firsts = seeds[::strata]
            numbers = torch.cat([latin_hypercube(seed, strata, max_new_tokens) for seed in firsts])
        tokens = [self.text.prompt(prompt) for prompt in prompts]
        found: list[Generation] = []
        for rows, part in self._parts(tokens, adapters):

            def choose(logits: Tensor, step: int, rows: slice = rows) -> Tensor:
                if temperature == 0:
                    return logits.argmax(dim=-1)
                return draw(logits, numbers[rows, step].to(logits.device), temperature)

            found += self._decode(tokens[rows], part, choose, max_new_tokens, None if seeds is None else seeds[rows])
        return found

    def check_prompt(self, prompt: str, *, max_new_tokens: int) -> None:
        """Raise TaskError where a prompt cannot be read, or leaves no room for that many tokens."""
        self.text.check_room(self.text.prompt(prompt), max_new_tokens)

    def score(self, samples: Sequence[Generation]) -> Tensor:
        """(n,) scores of what was generated after practise prompts; zeros without a scorer."""
        if self.core is None or self.core.scorer is None:
            return torch.zeros(len(samples))
        with self.lora.using(None) as model, torch.inference_mode():
            made = scorer.scoring_batch([(one.prompt_tokens, one.tokens) for one in samples], self.text.pad_id)
            self._meter.forward(self._parameters, made.positions_computed)
            seen = [scorer.features(model, part) for part in _in_parts(moved(made, self._device), len(samples))]
            return scorer.score(self._on_device(self.core.scorer), torch.cat(seen)).cpu()

    def score_answers(
        self, pairs: Sequence[tuple[str, str]], adapters: Mapping[str, Tensor] | None
    ) -> list[tuple[float, ...]]:
        """Negative log-likelihood (nats) of every token of each continuation, end token included, after its prompt."""
        tokens = [(self.text.prompt(prompt), self.text.solution(continuation)) for prompt, continuation in pairs]
        found: list[tuple[float, ...]] = []
        for rows, part in self._parts(tokens, adapters):
            batch = moved(losses.solution_batch(tokens[rows], self.text.pad_id), self._device)
            self._meter.forward(self._size(part), batch.positions_computed)
            with torch.inference_mode(), self.lora.using(part) as model:
                values = losses.token_losses(_logits(model), batch)
            found += [tuple(v[c].tolist()) for v, c in zip(values, batch.counted.bool(), strict=True)]
        return found

    def start(self, tasks: int) -> Adapters:
        """phi_0 for each of `tasks` tasks."""
        return expand(self._start, tasks)

    def adapt(
        self,
        samples: Sequence[Sequence[TrainingSample]],
        start: Mapping[str, Tensor] | None = None,
        *,
        steps: int | None = None,
        step_scale: float = 1.0,
    ) -> Adapters:
        """K steps for each task on its own weighted samples, from phi_0 or `start`. A task without weight stays put.

        steps: K, by default the core's; step_scale multiplies every step size (1.0 without a core).
        """
        settings = self.update_settings
        phi = dict(start) if start is not None else self.start(len(samples))
        if not any(sample.weight > 0 for task in samples for sample in task):
            return phi
        batch, weights = self._training_batch(samples)
        for _ in range(steps or settings.steps):
            stepped = [
                self._stepped(part, rows_of(batch, rows), weights[rows], step_scale)
                for rows, part in self._parts(range(len(weights)), phi)
                if part is not None
            ]
            phi = {name: torch.cat([part[name] for part in stepped]) for name in phi}
            self._meter.forward(self._size(phi), batch.positions_computed)
            self._meter.backward(self._size(phi), batch.positions_computed)
        return phi

    def _stepped(self, phi: Adapters, batch: losses.SolutionBatch, weights: Tensor, step_scale: float) -> Adapters:
        """One step of some tasks. What a step keeps for its gradient is what takes memory: not of all tasks at once."""
        settings = self.update_settings
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in phi.items()}
        with self.lora.using(leaves) as model:
            each = losses.sample_losses(_logits(model), batch, settings.softening)
        gradients = torch.autograd.grad((weights * each).sum(), list(leaves.values()))
        return {
            name: (tensor - step_scale * settings.step_size_of(module_of(name)) * gradient).detach()
            for (name, tensor), gradient in zip(leaves.items(), gradients, strict=True)
        }

    def _training_batch(self, samples: Sequence[Sequence[TrainingSample]]) -> tuple[losses.SolutionBatch, Tensor]:
        """Every task's weighted samples, filled up to one number of rows with copies of weight 0."""
        weighted = [[sample for sample in task if sample.weight > 0] for task in samples]
        rows = max(1, *map(len, weighted))
        spare = next(task[0] for task in weighted if task)
        pairs, weights = [], []
        for task in weighted:
            filler = TrainingSample(spare.question, spare.solution, 0.0)
            for sample in [*task, *[filler] * (rows - len(task))]:
                pairs.append((self.text.solve_prompt(sample.question), self.text.solution(sample.solution)))
                weights.append(sample.weight)
        batch = moved(losses.solution_batch(pairs, self.text.pad_id), self._device)
        return batch, torch.tensor(weights, device=self._device)

    def _on_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self._device) for name, tensor in tensors.items()}

    def _decode(
        self,
        prompts: Sequence[Tokens],
        adapters: Adapters | None,
        choose: Choose,
        limit: int,
        seeds: Sequence[int] | None,
    ) -> list[Generation]:
        for prompt in prompts:
            self.text.check_room(prompt, limit)
        with self.lora.using(adapters) as model:
            rows, computed = decode(model, prompts, self.text.pad_id, choose, self._has_ended, limit)
        self._meter.forward(self._size(adapters), computed)
        self._meter.generated(sum(map(len, rows)))
        return [
            Generation(
                prompt,
                tuple(row),
                self.text.decode(row),
                self._has_ended(row),
                None if seeds is None else seeds[index],
                index,
                len(rows),
            )
            for index, (prompt, row) in enumerate(zip(prompts, rows, strict=True))
        ]

    def _parts(
        self, rows: Sequence[object], adapters: Mapping[str, Tensor] | None
    ) -> Iterator[tuple[slice, Adapters | None]]:
        """Slices of about ROWS rows that cut neither a task nor a run of equal rows in two, with their adapters."""
        if adapters is None:
            yield from ((part, None) for part in _whole_runs(rows))
            return
        count = len(rows)
        tasks = next(iter(adapters.values())).shape[0]
        each = count // tasks
        if each * tasks != count:
            raise ValueError(f"{count} rows cannot be {tasks} equal groups")
        step = max(1, ROWS // max(1, each))
        for first in range(0, tasks, step):
            part = {name: tensor[first : first + step] for name, tensor in adapters.items()}
            yield slice(first * each, min(first + step, tasks) * each), part

    def _has_ended(self, row: list[int]) -> bool:
        return row[-1] in self.text.end_ids or self.text.stops(row)

    def _size(self, adapters: Mapping[str, Tensor] | None) -> int:
        size: int = self._parameters + (self._added if adapters is not None else 0)
        return size


def _whole_runs(rows: Sequence[object]) -> Iterator[slice]:
    """Slices of at most ROWS rows; longer only where a run of equal rows is. A prompt is then read once for its run."""
    first = last = 0
    for _, run in groupby(rows):
        following = last + sum(1 for _ in run)
        if first < last and following - first > ROWS:
            yield slice(first, last)
            first = last
        last = following
    if first < last:
        yield slice(first, last)


def _logits(model: Any) -> losses.Forward:
    def forward(**inputs: object) -> Tensor:
        logits: Tensor = model(**inputs).logits
        return logits.float()  # as they are where the model computes in float32

    return forward


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch, padded as they were."""
    return type(batch)(*(getattr(batch, field.name)[rows] for field in fields(batch)))


def _in_parts(batch: Batch, rows: int) -> Iterator[Batch]:
    return (rows_of(batch, slice(first, first + ROWS)) for first in range(0, rows, ROWS))


def moved(batch: Batch, device: torch.device) -> Batch:
    """A batch with its tensors on `device`: itself where they are there."""
    return type(batch)(*(getattr(batch, field.name).to(device) for field in fields(batch)))
