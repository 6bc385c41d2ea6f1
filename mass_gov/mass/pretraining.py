"""Training a small Llama from scratch on prompts and continuations, resumable to the bit.

Rules: step n is a pure function of (recipe, architecture, source, state after step n-1): batches are drawn by
counter, there is no dropout, and no random stream is alive between steps. So an interrupted run that is resumed
ends in the same bits as one that was not (same machine, same thread count). The loss is the mean cross-entropy of
the continuation's tokens and its `<eos>`; prompts are read, never learned.

Does not know tasks, domains or prompt templates: the caller supplies the examples.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mass_gov.errors import InputError
from mass_gov.mass.character_tokenizer import BOS_ID, EOS_ID, PAD_ID, VOCABULARY, encode
from mass_gov.mass.snapshot import (
    Snapshot,
    load_snapshot,
    optimizer_tensors,
    restore_optimizer,
    save_snapshot,
)

IGNORED = -100  # label of positions without loss, by torch's convention


@dataclass(frozen=True, slots=True)
class Example:
    """What the model reads and what it has to write."""

    prompt: str
    continuation: str


Source = Callable[[int, int], Sequence[Example]]  # (first, count) -> examples number first .. first+count-1
Progress = Callable[[int, int, float], None]  # (steps done, steps in all, loss of the last step)


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of the Llama; embeddings are tied.

    Args:
        rope_theta: base of the rotary periods; small, since no text is longer than `positions`.
        initial_std: standard deviation of the initial weights.
    """

    hidden: int = 96
    layers: int = 4
    heads: int = 4
    mlp: int = 288
    positions: int = 256
    rope_theta: float = 500.0
    initial_std: float = 0.05


@dataclass(frozen=True, slots=True)
class Recipe:
    """Muon on the layers' matrices, AdamW on embeddings and norms; warm-up, constant, linear decay (a trapezoid).

    Muon (Keller Jordan, 2024; torch.optim.Muon) orthogonalises each matrix's momentum. Measured here, at this size
    it reaches AdamW's loss in two thirds of the steps.

    Args:
        batch: sequences per step.
        group: steps whose examples are drawn together and sorted by length, so that little is padded.
        decay: last steps, over which the rates fall linearly to `final_share` of their peak. Until then a run does not
            depend on `steps`, so that where to stop can be decided late and a longer run shares its beginning.
    """

    steps: int
    batch: int = 32
    group: int = 16
    matrix_rate: float = 0.010
    vector_rate: float = 2e-3
    warmup: int = 100
    decay: int = 3000
    final_share: float = 0.02
    weight_decay: float = 0.05
    clip: float = 1.0
    seed: int = 0
    snapshot_every: int = 500


def rate_factor(recipe: Recipe, step: int) -> float:
    """Share of the peak rates that step number `step` (from 0) uses."""
    rise = min(1.0, (step + 1) / recipe.warmup)
    left = (recipe.steps - step) / max(1, min(recipe.decay, recipe.steps))
    return rise * max(recipe.final_share, min(1.0, left))


def build_model(architecture: Architecture, seed: int) -> LlamaForCausalLM:
    """A freshly initialised Llama in float32; the same bits for the same seed.

    Trained with SDPA for speed; saved with eager attention, the only kernel with a second derivative on CPU.
    """
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=architecture.hidden,
        intermediate_size=architecture.mlp,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.heads,
        max_position_embeddings=architecture.positions,
        tie_word_embeddings=True,
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        attn_implementation="sdpa",
        initializer_range=architecture.initial_std,
        rope_parameters={"rope_type": "default", "rope_theta": architecture.rope_theta},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).float()


def collate(examples: Sequence[Example], positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids (batch, time) and labels (batch, time); no mask is needed, since attention is causal.

    Raises InputError for an example longer than the model's positions.
    """
    rows = [([BOS_ID, *encode(one.prompt)], [*encode(one.continuation), EOS_ID]) for one in examples]
    longest = max(len(prompt) + len(continuation) for prompt, continuation in rows)
    if longest > positions:
        raise InputError(f"an example has {longest} tokens and the model {positions} positions: shorten it")
    ids = torch.full((len(rows), longest), PAD_ID)
    labels = torch.full((len(rows), longest), IGNORED)
    for row, (prompt, continuation) in enumerate(rows):
        start, end = len(prompt), len(prompt) + len(continuation)
        ids[row, :end] = torch.tensor(prompt + continuation)
        labels[row, start:end] = torch.tensor(continuation)
    return ids, labels


def group_batches(recipe: Recipe, source: Source, group: int) -> list[list[Example]]:
    """The batches of steps group*G .. group*G+G-1: sorted by length, cut, then put in random order."""
    count = recipe.group * recipe.batch
    examples = sorted(source(group * count, count), key=lambda one: len(one.prompt) + len(one.continuation))
    batches = [examples[start : start + recipe.batch] for start in range(0, count, recipe.batch)]
    random.Random(f"{recipe.seed}/{group}").shuffle(batches)  # noqa: S311  (an order, not a secret)
    return batches


class Pretraining:
    """One run: model, optimizers, losses so far and the next step. Create, then `run`; resumes by itself.

    Args:
        run_dir: where snapshots go; a snapshot of the same recipe and architecture there is taken up.

    Attributes:
        data_digest: SHA-256 chained over every example of every group begun, in order (hex).
        seconds: (wall, CPU) time of the steps behind the present state, resumed parts included.
        notes: JSON values that the caller wants to find again after a resume.

    Raises:
        InputError: the folder holds a snapshot of another recipe or architecture.
    """

    def __init__(self, run_dir: Path, architecture: Architecture, recipe: Recipe, source: Source) -> None:
        self.run_dir, self.architecture, self.recipe, self.source = run_dir, architecture, recipe, source
        self.model = build_model(architecture, recipe.seed)
        self.optimizers = self._build_optimizers()
        self.step, self.tokens, self.data_digest = 0, 0, hashlib.sha256(b"").hexdigest()
        self.losses: list[float] = []
        self.seconds = (0.0, 0.0)
        self.notes: dict[str, Any] = {}
        self._identity = {"architecture": asdict(architecture), "recipe": asdict(recipe)}
        self._resume()

    def run(self, progress: Progress | None = None, until: int | None = None) -> None:
        """Train up to step `until` (default: all); a snapshot every now and then, and at the end."""
        end = self.recipe.steps if until is None else min(until, self.recipe.steps)
        self.model.train()
        clock = time.monotonic(), time.process_time()
        for batch in self._batches(end):
            self.losses.append(self._train_step(batch))
            self.step += 1
            clock = self._count_time(clock)
            if self.step % self.recipe.snapshot_every == 0 or self.step == end:
                self.save()
            if progress is not None:
                progress(self.step, self.recipe.steps, self.losses[-1])
        self.model.eval()

    def save(self) -> None:
        """Write a snapshot from which this run can go on."""
        weights = {name: p.detach().contiguous() for name, p in self.model.named_parameters()}
        state = {
            f"{k}.{name}": t for k, one in enumerate(self.optimizers) for name, t in optimizer_tensors(one).items()
        }
        progress = {name: getattr(self, name) for name in _REMEMBERED}
        save_snapshot(self.run_dir, Snapshot(weights, state, {"identity": self._identity, **progress}))

    def _batches(self, end: int) -> Iterator[list[Example]]:
        while self.step < end:
            group, skip = divmod(self.step, self.recipe.group)
            batches = group_batches(self.recipe, self.source, group)
            if skip == 0:
                self.data_digest = _chain(self.data_digest, batches)
            yield from batches[skip : skip + end - self.step]

    def _train_step(self, batch: list[Example]) -> float:
        ids, labels = collate(batch, self.architecture.positions)
        factor = rate_factor(self.recipe, self.step)
        loss = self.model(input_ids=ids, labels=labels, use_cache=False).loss
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(f"the loss of step {self.step} is {value}. Lower the learning rates, start anew.")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.tokens += ids.numel()
        return value

    def _build_optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """(Muon over the layers' matrices, AdamW over the rest); each group keeps its peak rate."""
        named = dict(self.model.named_parameters())
        matrices = [p for name, p in named.items() if p.ndim == 2 and "embed" not in name]
        others = [p for name, p in named.items() if p.ndim < 2 or "embed" in name]
        recipe = self.recipe
        muon = torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay, momentum=0.95)
        adamw = torch.optim.AdamW(others, lr=recipe.vector_rate, betas=(0.9, 0.98), weight_decay=0.0)
        for optimizer in (muon, adamw):
            for group in optimizer.param_groups:
                group["peak"] = group["lr"]
        return muon, adamw

    def _count_time(self, since: tuple[float, float]) -> tuple[float, float]:
        now = time.monotonic(), time.process_time()
        self.seconds = (self.seconds[0] + now[0] - since[0], self.seconds[1] + now[1] - since[1])
        return now

    def _resume(self) -> None:
        snapshot = load_snapshot(self.run_dir)
        if snapshot is None:
            return
        if snapshot.progress["identity"] != self._identity:
            raise InputError(f"{self.run_dir} holds a run with other settings. Use an empty folder, or those settings.")
        self.model.load_state_dict(snapshot.weights, strict=False)  # tied head: absent by name, present by sharing
        for k, optimizer in enumerate(self.optimizers):
            mine = {key.partition(".")[2]: t for key, t in snapshot.optimizer.items() if key.startswith(f"{k}.")}
            restore_optimizer(optimizer, mine)
        for name in _REMEMBERED:
            setattr(self, name, snapshot.progress[name])


_REMEMBERED = ("step", "tokens", "data_digest", "losses", "seconds", "notes")


def _chain(digest: str, batches: Sequence[Sequence[Example]]) -> str:
    """SHA-256 of the former digest and the examples of one group."""
    text = "\0".join(part for batch in batches for one in batch for part in (one.prompt, one.continuation))
    return hashlib.sha256(f"{digest}\0{text}".encode()).hexdigest()
