"""Several tasks decoded at once, each with an adapter of its own, to the bits that each has alone.

A logit's last bits depend on three things besides the row itself, and here is how each is held still:

  padding      every prompt is padded to a width that the caller gives and keeps; alone, a task is padded likewise
  rows         a product of one to three rows takes another kernel than one of many: a batch never has fewer than
               `LEAST`; alone, a task stands beside copies of itself
  the adapter  what a task's LoRA adds is computed from its rows alone, at least `LEAST` of them where it has as many

What is left is that a product of many rows gives each row the bits that it has among fewer. That was measured on this
stack and follows from no rule, so `keeps_bits` asks the open model before anything is computed together. Since the
number of rows does not matter then, rows that have ended leave the batch, which `decoding.decode` must not do.

Does not know where prompts come from, what texts mean, or what is recorded of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from mass_gov.mass.decoding import Ends, left_padded, repeated
from mass_gov.mass.lora import Groups
from mass_gov.mass.metering import Meter
from mass_gov.mass.sampling import draw, uniform_table
from mass_gov.mass.values import Adapter, Generation

LEAST = 4
"""Rows of a batch at least."""
ROWS = 384
"""Rows of a batch at most."""
_SPARE = 0.75  # rows leave when that share of them is left: leaving copies the cache of those who stay

Using = Callable[[Groups | None], AbstractContextManager[Any]]
"""The model with an adapter for each group of rows, or the frozen base."""
Choose = Callable[[Tensor, Sequence[int], int], Tensor]  # (logits, which rows they are of, position) -> ids


@dataclass(frozen=True, eq=False)
class Job:
    """What one task wants written: equally many prompts in every job of a batch.

    numbers: (prompts, tokens) float64, what is drawn with; None chooses greedily. `seed` is theirs.
    """

    prompts: tuple[tuple[int, ...], ...]
    adapter: Adapter | None = None
    numbers: Tensor | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Written:
    """What was written for one task, and what that costs alone: nobody's cost depends on company."""

    generations: list[Generation]
    cost: Meter


@dataclass(frozen=True)
class Together:
    """Decodes jobs on one model, at most `limit` new tokens a row.

    shared: all jobs have one adapter, whose products take all rows. Not found out from the jobs, because a job that
    stands beside copies of itself is not to differ from one that stands beside others.
    """

    using: Using
    pad_id: int
    ends: Ends
    limit: int
    shared: bool = False
    temperature: float = 1.0

    def write(self, jobs: Sequence[Job], width: int) -> list[list[list[int]]]:
        """The tokens of every row of every job, in order, as many jobs at once as `ROWS` allows."""
        each = max(1, ROWS // len(jobs[0].prompts))
        found: list[list[list[int]]] = []
        for start in range(0, len(jobs), each):
            part = filled(jobs[start : start + each])
            found += self.batch(part, width, self._chooser(part))
        return found[: len(jobs)]

    @torch.inference_mode()
    def batch(self, jobs: Sequence[Job], width: int, choose: Choose) -> list[list[list[int]]]:
        """One batch of jobs, which has `LEAST` rows."""
        count, repeats = len(jobs[0].prompts), repeated(jobs[0].prompts)  # of one job: others have other adapters
        groups, prompts = self._groups(jobs), [prompt for job in jobs for prompt in job.prompts]
        rows: list[list[int]] = [[] for _ in prompts]
        with self.using(groups) as model:
            batch = _Batch(model, groups, left_padded(prompts[::repeats], self.pad_id, width), self.limit)
            kept, ended = list(range(len(rows))), [False] * len(rows)
            for step in range(self.limit):
                logits = batch.read(kept[::repeats] if step == 0 else kept, count)
                if step == 0:
                    logits = batch.repeat(repeats, logits)
                chosen = choose(logits, kept, step)
                for row, token in zip(kept, chosen.tolist(), strict=True):
                    if not ended[row]:
                        rows[row].append(token)
                        ended[row] = self.ends(rows[row])
                if all(ended):
                    break
                stays = _staying(kept, ended, count)
                batch.write(chosen.masked_fill(torch.tensor([ended[row] for row in kept]), self.pad_id))
                if len(stays) <= _SPARE * len(kept):
                    batch.keep([place for place, row in enumerate(kept) if row in stays])
                    kept = [row for row in kept if row in stays]
        return [rows[place * count : (place + 1) * count] for place in range(len(jobs))]

    def _groups(self, jobs: Sequence[Job]) -> Groups | None:
        adapters = [job.adapter for job in jobs if job.adapter is not None]
        return Groups(adapters[:1] if self.shared else adapters, ()) if adapters else None

    def _chooser(self, jobs: Sequence[Job]) -> Choose:
        drawn = [job.numbers for job in jobs if job.numbers is not None]
        if not drawn:
            return lambda logits, _, __: logits.argmax(dim=-1)
        numbers = torch.cat(drawn)
        return lambda logits, rows, step: draw(logits, numbers[list(rows), step], self.temperature)


class _Batch:
    """The rows that go on, with their cache."""

    def __init__(self, model: Any, groups: Groups | None, prompts: tuple[Tensor, Tensor], limit: int) -> None:
        self._model, self._groups = model, groups
        self._ids, prompt_mask = prompts
        self._start, self._stop = 0, self._ids.shape[1]
        self._mask = torch.cat([prompt_mask, torch.ones(len(self._ids), limit, dtype=torch.long)], dim=1)
        self._cache = DynamicCache(config=model.config)

    def read(self, rows: Sequence[int], count: int) -> Tensor:
        """(rows, vocabulary): logits after what was not read yet; `rows` says which these are, `count` each job's."""
        if self._groups is not None:
            self._groups.sizes = _sizes(rows, count, len(self._groups.adapters))
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        logits: Tensor = self._model(
            input_ids=self._ids,
            attention_mask=self._mask[:, : self._stop],
            position_ids=positions[:, self._start : self._stop],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return logits

    def repeat(self, times: int, logits: Tensor) -> Tensor:
        """Let every row that was read stand for `times` rows."""
        if times == 1:
            return logits
        self._cache.batch_repeat_interleave(times)
        self._mask = self._mask.repeat_interleave(times, dim=0)
        return logits.repeat_interleave(times, dim=0)

    def write(self, tokens: Tensor) -> None:
        """Append a token to every row."""
        self._ids = tokens[:, None]
        self._start, self._stop = self._stop, self._stop + 1

    def keep(self, places: Sequence[int]) -> None:
        """Let all rows but these leave."""
        index = torch.tensor(places)
        self._cache.batch_select_indices(index)
        self._ids, self._mask = self._ids[index], self._mask[index]


def filled(jobs: Sequence[Job]) -> list[Job]:
    """The jobs, and copies of the first one until there are `LEAST` rows."""
    return [*jobs, *[jobs[0]] * (-(-LEAST // len(jobs[0].prompts)) - len(jobs))]


def positions(job: Job, rows: Sequence[Sequence[int]]) -> int:
    """How many positions `decoding.decode` computes for a job that stands alone, padded no more than it needs."""
    read = len(job.prompts) // repeated(job.prompts) * max(map(len, job.prompts))
    return read + len(rows) * (max(map(len, rows)) - 1)


def _sizes(rows: Sequence[int], count: int, groups: int) -> list[int]:
    if groups == 1:
        return [len(rows)]
    sizes = [0] * groups
    for row in rows:
        sizes[row // count] += 1
    return sizes


def _staying(kept: Sequence[int], ended: Sequence[bool], count: int) -> set[int]:
    """The rows that go on, and as many beside them as their job and the batch need for `LEAST` rows."""
    stays = {row for row in kept if not ended[row]}
    for job in {row // count for row in stays}:
        own = [row for row in kept if row // count == job]
        done = (row for row in own if ended[row])
        stays.update(islice(done, max(0, LEAST - sum(not ended[row] for row in own))))
    spare = (row for row in kept if row not in set(stays))
    stays.update(list(islice(spare, max(0, LEAST - len(stays)))))
    return stays


def keeps_bits(using: Using, pad_id: int, start: Adapter, vocabulary: int) -> bool:
    """Whether tasks that are decoded at once have the logits that each has alone, on fixed tiny work.

    All shapes are asked: many rows from one prompt under one adapter and under several, one row a task with adapters
    and without.
    """
    prompts = [tuple((first + 7 * place) % vocabulary for place in range(5 + first)) for first in range(1, 12)]
    numbers = [uniform_table(seed, 24, 6) for seed in range(len(prompts))]
    other = replace(start, tensors={name: tensor * 0.5 for name, tensor in start.tensors.items()})
    many = [Job((prompt,) * 24, start, table) for prompt, table in zip(prompts[:3], numbers, strict=False)]
    each = [replace(job, adapter=adapter) for job, adapter in zip(many, (start, other, start), strict=True)]
    one = [Job(job, start if place % 2 else other, numbers[place][:1]) for place, job in enumerate(zip(prompts))]
    plain = [replace(job, adapter=None) for job in one]
    trial = Together(using, pad_id, lambda row: sum(row) % 5 == 0, limit=6)
    shared, width = replace(trial, shared=True), max(map(len, prompts))
    return _agree(shared, many, width) and all(_agree(trial, jobs, width) for jobs in (each, one, plain))


def _agree(trial: Together, jobs: Sequence[Job], width: int) -> bool:
    count, at_once = len(jobs[0].prompts), _logits(trial, jobs, width)
    for place, job in enumerate(jobs):
        for (row, step), logits in _logits(trial, [job], width).items():
            if row < count and not torch.equal(logits, at_once[place * count + row, step]):
                return False
    return True


def _logits(trial: Together, jobs: Sequence[Job], width: int) -> dict[tuple[int, int], Tensor]:
    """What every row that had not ended was chosen from, by row and position."""
    seen: dict[tuple[int, int], Tensor] = {}
    part = filled(jobs)
    chooser = trial._chooser(part)

    def choose(logits: Tensor, rows: Sequence[int], step: int) -> Tensor:
        seen.update({(row, step): one.clone() for row, one in zip(rows, logits, strict=True)})
        return chooser(logits, rows, step)

    written = [row for job in trial.batch(part, width, choose) for row in job]
    return {place: logits for place, logits in seen.items() if place[1] < len(written[place[0]])}
