"""The outer loop: meta-training of generator, scorer, start and step sizes through the inner loop (DESIGN section 8).

    tasks -> samples -> scores -> inner steps (swept back exactly) -> outer loss -> attribution -> one AdamW step

Rules: step n is a pure function of (settings, base, tasks, state after step n-1): every random number comes from a
counter-based generator named by (seed, step, task, row), so that a resumed run, or one spread over processes, draws
the same. A sample that does not parse, or repeats the task, gets weight 0 and reward 0. Gold answers are read by the
outer loss alone.

Does not know domains, files or progress bars.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mass_gov.mass import scorer
from mass_gov.mass.batched_learner import BatchedLearner
from mass_gov.mass.batched_lora import expand
from mass_gov.mass.bilevel import BilevelTask, MetaGradient, Mode, SweepSettings
from mass_gov.mass.core import Core
from mass_gov.mass.inner_loop import Parameters
from mass_gov.mass.lora import module_of
from mass_gov.mass.meta_batches import Network, Rows
from mass_gov.mass.meta_gradient import meta_gradient
from mass_gov.mass.meta_values import MetaSettings, MetaTask, Query
from mass_gov.mass.meta_weights import MetaWeights
from mass_gov.mass.prompting import ParsedSample, parse_sample
from mass_gov.mass.rewards import attribution_advantages, group_advantages, solves
from mass_gov.mass.text import Text
from mass_gov.mass.values import Adapter, Generation

Reduce = Callable[[list[Tensor]], None]
"""Averages gradients over processes, in place."""


@dataclass(frozen=True)
class Practice:
    """What was written for the tasks of a step, rows in task order. `valid` is (tasks, m)."""

    generations: list[Generation]
    parsed: list[ParsedSample | None]
    valid: Tensor
    copies: float

    def by_task(self, samples: int) -> list[list[ParsedSample | None]]:
        """The parsed samples, a row a task."""
        return [self.parsed[first : first + samples] for first in range(0, len(self.parsed), samples)]

    def distinct(self) -> float:
        """Share of the texts that are the first of their kind in their task."""
        count = len(self.generations) // len(self.valid)
        texts = [one.text for one in self.generations]
        return sum(len(set(texts[i : i + count])) for i in range(0, len(texts), count)) / len(texts)


class MetaTraining:
    """One run's state: theta, phi_0, step sizes, scorer, optimizer. `step` takes one outer step."""

    def __init__(self, model: Any, text: Text, settings: MetaSettings, reduce: Reduce | None = None) -> None:
        self.settings = settings
        self.text = text
        self.device = next(model.parameters()).device
        self.engine = BatchedLearner(model, text, None, settings.lora)
        self.weights = MetaWeights(model, self.engine.lora, settings)
        self.network = Network(self.engine.lora, text.pad_id, self.device)
        self.done = 0
        self.flops = 0
        self.skipped = 0
        self.running_norm: float | None = None
        self._reduce = reduce or (lambda gradients: None)

    def step(self, tasks: Sequence[MetaTask]) -> dict[str, float]:
        """One outer step on these tasks; what was measured on the way, by name."""
        self.weights.write()  # generation runs on theta as it is now
        with self.engine.meter() as cost:
            measured = self._gradients(tasks)
        self.flops += cost.flops
        self._move(measured)
        self.done += 1
        return measured

    def core(self) -> Core | None:
        """What was learned beside the model's weights, for a model folder; None where nothing is practised."""
        s = self.settings
        if s.practice == "none":
            return None
        return Core(
            adapter=Adapter(self.engine.lora.settings, {n: t.float().cpu() for n, t in self.weights.start.items()}),
            step_sizes={name: float(size.detach().exp()) for name, size in self.weights.log_sizes.items()},
            scorer=None if s.scorer == "none" else {n: t.detach().float().cpu() for n, t in self.weights.head.items()},
            steps=s.inner_steps,
            samples=s.test_samples,
            temperature=s.test_temperature,
            max_new_tokens=s.max_new_tokens,
            softening=s.softening,
        )

    def _gradients(self, tasks: Sequence[MetaTask]) -> dict[str, float]:
        theta = self.weights.theta()
        if self.settings.practice == "none":
            return self._plain(theta, tasks)
        if self.settings.practice == "rewrite":
            return self._rewriting(theta, tasks)
        if self.settings.practice == "demonstrations":
            return self._from_demonstrations(theta, tasks)
        return self._from_samples(theta, tasks)

    def _from_samples(self, theta: Parameters, tasks: Sequence[MetaTask]) -> dict[str, float]:
        s = self.settings
        practice = self._practise(tasks)
        rows: Rows = [(one.prompt_tokens, one.tokens) for one in practice.generations]
        written, seen = self.network.read(theta, rows, s.temperature)
        self._charge(rows, 3)
        scores = scorer.score(self.weights.head, seen).view(len(tasks), -1)
        weights = scorer.weights(scores if s.scorer != "none" else scores * 0.0, practice.valid)
        pairs = [[(one.question, one.solution) if one else None for one in row] for row in practice.by_task(s.samples)]
        # A leaf, so that the pass over the samples is walked back through once, below.
        handed = weights.detach().requires_grad_()
        result, measured = self._through_update(theta, tasks, pairs, handed)
        advantages = attribution_advantages(-result.scores * len(tasks), practice.valid)
        generator, divergence = self._generator_loss(rows, written, advantages, practice)
        torch.autograd.backward(generator + (weights * handed.grad).sum() if handed.grad is not None else generator)
        return measured | self._practice_figures(practice, weights.detach(), result) | {"kl": divergence}

    def _from_demonstrations(self, theta: Parameters, tasks: Sequence[MetaTask]) -> dict[str, float]:
        most = max(1, *(len(task.demonstrations) for task in tasks))
        pairs: list[list[tuple[str, str] | None]] = []
        for task in tasks:
            shown = [(question, f"{self.text.template.marker}{answer}") for question, answer in task.demonstrations]
            pairs.append([*shown, *[None] * (most - len(shown))])
        valid = torch.tensor([[pair is not None for pair in row] for row in pairs], device=self.device)
        weights = valid / valid.sum(dim=1, keepdim=True).clamp(min=1)
        return self._through_update(theta, tasks, pairs, weights.requires_grad_())[1]

    def _plain(self, theta: Parameters, tasks: Sequence[MetaTask]) -> dict[str, float]:
        loss, measured = self._outer(theta, None, tasks)
        torch.autograd.backward(loss)
        return measured

    def _rewriting(self, theta: Parameters, tasks: Sequence[MetaTask]) -> dict[str, float]:
        """Plain RL on "rewrite, then answer": a sample is right if its answer is the task's."""
        practice = self._practise(tasks)
        rows: Rows = [(one.prompt_tokens, one.tokens) for one in practice.generations]
        written, _ = self.network.read(theta, rows, self.settings.temperature)
        self._charge(rows, 3)
        answers = [task.queries[0].answer for task in tasks for _ in range(self.settings.samples)]
        right = [one is not None and one.answer == answer for one, answer in zip(practice.parsed, answers, strict=True)]
        rewards = torch.tensor(right, dtype=torch.float32, device=self.device).view(len(tasks), -1)
        loss, divergence = self._generator_loss(rows, written, group_advantages(rewards), practice)
        torch.autograd.backward(loss)
        figures = {"valid": float(practice.valid.float().mean()), "distinct": practice.distinct()}
        return figures | {"reward": float(rewards.mean()), "kl": divergence, "copies": practice.copies}

    def _practise(self, tasks: Sequence[MetaTask]) -> Practice:
        s, template = self.settings, self.text.template
        prompts = [template.practise_prompt(task.question) for task in tasks for _ in range(s.samples)]
        seeds = [self._seed("practice", t, i) for t in range(len(tasks)) for i in range(s.samples)]
        written = self.engine.generate(
            prompts,
            None,
            max_new_tokens=s.max_new_tokens,
            temperature=s.temperature,
            seeds=seeds,
            strata=s.samples,
        )
        parsed: list[ParsedSample | None] = []
        copied = 0
        for index, one in enumerate(written):
            found = parse_sample(one.text, template, finished=one.finished)
            sample = found if isinstance(found, ParsedSample) else None
            if sample is not None and sample.question == tasks[index // s.samples].question:
                sample, copied = None, copied + 1
            parsed.append(sample if sample is not None and self._can_be_posed(sample) else None)
        valid = torch.tensor([one is not None for one in parsed], device=self.device).view(len(tasks), -1)
        return Practice(written, parsed, valid, copied / len(written))

    def _can_be_posed(self, sample: ParsedSample) -> bool:
        prompt = self.text.solve_prompt(sample.question)
        return self.text.has_room(prompt, len(self.text.solution(sample.solution)))

    def _through_update(
        self,
        theta: Parameters,
        tasks: Sequence[MetaTask],
        pairs: list[list[tuple[str, str] | None]],
        weights: Tensor,
    ) -> tuple[MetaGradient, dict[str, float]]:
        """Adapt to every task on its pairs, judge, and hand the exact gradients back into everything learned."""
        s, count = self.settings, len(tasks)
        batch = self.network.batch([self._pair(pair) for row in pairs for pair in row])
        measured: dict[str, float] = {}

        def inner(phi: Parameters, swapped: Parameters, rows: slice) -> Tensor:
            found = self.network.sample_losses(swapped, phi, batch, s.softening).view(count, -1)
            return found[:, rows]

        def outer(phi: Parameters, swapped: Parameters) -> Tensor:
            loss, found = self._outer(swapped, phi, tasks)
            measured.update(found)
            return loss

        start = expand(self.weights.start, count)
        sizes = {name: self.weights.log_sizes[module_of(name)].exp() for name in start}
        task = BilevelTask(inner, outer, start, sizes, weights, theta)
        mode: Mode = "first-order" if s.first_order else "exact"
        result = meta_gradient(task, SweepSettings(s.inner_steps, mode))
        measured = dict(measured)  # of the adapted model: what follows judges the start again
        if s.scorer == "alignment" and result.finite:
            result = self._aligned(task, result)
        result.backward(task)
        self.engine.charge(batch.positions_computed, 3 * s.inner_steps + 3)
        return result, measured | {"finite": float(result.finite), "inner": (result.trace.losses or (0.0,))[0] / count}

    def _aligned(self, task: BilevelTask, result: MetaGradient) -> MetaGradient:
        """The same gradients with dL/ds replaced by -alpha <grad l_i, grad L_outer> at phi_0: no look at the update."""
        still = BilevelTask(task.losses, task.outer, task.start, task.step_sizes, task.scores * 0.0, task.meta)
        return replace(result, scores=meta_gradient(still, SweepSettings(1, "first-order")).scores)

    def _outer(
        self, theta: Parameters, phi: Parameters | None, tasks: Sequence[MetaTask]
    ) -> tuple[Tensor, dict[str, float]]:
        """(loss, figures): what the adapted model is judged on, and gamma times the un-adapted solver's loss."""
        s = self.settings
        queries = [query for task in tasks for query in task.queries]
        rows = [self._pair((query.question, query.solution)) for query in queries]
        batch = self.network.batch(rows)
        each = self.network.sample_losses(theta, phi, batch)
        self.engine.charge(batch.positions_computed, 3)
        gold = (
            each
            if s.outer == "gold"
            else each * torch.tensor([float(query.role == "other") for query in queries], device=self.device)
        )
        importance = torch.tensor([self._importance(query) for query in queries], device=self.device)
        loss = (gold * importance).sum() / len(tasks)
        figures = _by_role(queries, each.detach())
        if s.outer == "verifier":
            reward_loss, rate = self._rewarded(theta, phi, tasks)
            loss, figures["reward"] = loss + reward_loss, rate
        if s.solve_weight and phi is not None:
            keep = [(row, share) for row, share in zip(rows, self._solved_shares(tasks), strict=True) if share]
            if keep:
                unadapted = self.network.sample_losses(theta, None, self.network.batch([row for row, _ in keep]))
                shares = torch.tensor([share for _, share in keep], device=self.device)
                solve = (unadapted * shares).sum() / len(tasks)
                loss, figures["solve"] = loss + s.solve_weight * solve, float(solve.detach())
        return loss, figures

    def _solved_role(self) -> str:
        """Whose solutions keep the solver alive: the tasks' own, or the base's where no gold may be read."""
        return "task" if self.settings.outer == "gold" else "other"

    def _solved_shares(self, tasks: Sequence[MetaTask]) -> list[float]:
        """Of every query: 1/n for the n of its task with that role, else 0. Tasks count alike, however they are cut."""
        roles = [[query.role == self._solved_role() for query in task.queries] for task in tasks]
        return [float(counts) / max(1, sum(row)) for row in roles for counts in row]

    def _importance(self, query: Query) -> float:
        s = self.settings
        return {"task": 1.0, "sibling": s.sibling_weight, "other": s.other_weight}[query.role]

    def _rewarded(self, theta: Parameters, phi: Parameters | None, tasks: Sequence[MetaTask]) -> tuple[Tensor, float]:
        """GRPO over sampled solutions of the first queries that are not `other`; (loss, share of right solutions).

        Tasks with fewer such queries than others are filled up, as rows go by tasks; what fills counts nothing.
        """
        s = self.settings
        asked = [[q for q in task.queries if q.role != "other"][: s.rewarded] for task in tasks]
        most = max(map(len, asked))
        filled = [[row[i % len(row)] for i in range(most)] for row in asked]
        queries = [query for row in filled for query in row for _ in range(s.solutions)]
        asked_for = [i < len(row) for row in asked for i in range(most) for _ in range(s.solutions)]
        prompts = [self.text.template.solve_prompt(query.question) for query in queries]
        seeds = [self._seed("solution", *divmod(index, most * s.solutions)) for index in range(len(prompts))]
        now = None if phi is None else {name: tensor.detach() for name, tensor in phi.items()}
        written = self.engine.generate(
            prompts, now, max_new_tokens=s.solution_tokens, temperature=1.0, seeds=seeds, strata=s.solutions
        )
        template, pairs = self.text.template, zip(queries, written, strict=True)
        right = [one.finished and solves(one.text, query, template) for query, one in pairs]
        rewards = torch.tensor(right, dtype=torch.float32, device=self.device).view(-1, s.solutions)
        importance = [self._importance(query) * counts for query, counts in zip(queries, asked_for, strict=True)]
        advantages = group_advantages(rewards).flatten()
        advantages = torch.where(advantages < 0, s.negative_weight * advantages, advantages)
        shares = (advantages * torch.tensor(importance, device=self.device) / (len(tasks) * s.solutions)).tolist()
        rows, weights = _weighed_rows(written, shares, len(tasks))
        batch = self.network.batch(rows)
        losses = self.network.token_losses(theta, phi, batch).sum(dim=1)
        self.engine.charge(batch.positions_computed, 3)
        loss = (torch.tensor(weights, device=self.device) * losses).sum()
        return loss, sum(one for one, counts in zip(right, asked_for, strict=True) if counts) / sum(asked_for)

    def _generator_loss(
        self, rows: Rows, written: Tensor, advantages: Tensor, practice: Practice
    ) -> tuple[Tensor, float]:
        """Policy gradient on the advantages and KL to the starting generator (k3; Schulman, 2020)."""
        s = self.settings
        with torch.no_grad():
            output, _ = self.network.read(self.weights.begun, rows, s.temperature)
        gap = written - output  # log p_start - log p, summed over a sample
        divergence = (gap.exp() - 1.0 - gap).clamp(max=50.0).mean()
        self._charge(rows, 1)
        collapsed = practice.distinct() < s.least_distinct
        reward = (advantages.flatten() * written).mean() * (0.0 if collapsed else s.generator_weight)
        return reward + s.kl_weight * divergence, float(divergence.detach())

    def _practice_figures(self, practice: Practice, weights: Tensor, result: MetaGradient) -> dict[str, float]:
        lengths = [len(one.tokens) for one in practice.generations]
        return {
            "valid": float(practice.valid.float().mean()),
            "copies": practice.copies,
            "distinct": practice.distinct(),
            "tokens": sum(lengths) / len(lengths),
            "largest_weight": float(weights.max(dim=1).values.mean()),
            "helpful": float((result.scores < 0).float().mean()),
        }

    def _move(self, measured: dict[str, float]) -> None:
        """One optimizer step, unless the gradient diverged."""
        s = self.settings
        norm = self.weights.average(self._reduce, finite=measured.get("finite", 1.0) == 1.0)
        spiked = self.running_norm is not None and norm > s.spike * self.running_norm
        measured["gradient_norm"] = norm if math.isfinite(norm) else -1.0
        if not math.isfinite(norm) or spiked:
            self.skipped += 1
            self.weights.forget()
        else:
            self.running_norm = norm if self.running_norm is None else 0.95 * self.running_norm + 0.05 * norm
            self.weights.move(s.rate_factor(self.done), s.clip, norm)
        measured["skipped"] = float(self.skipped)
        sizes = [float(size.detach().exp()) for size in self.weights.log_sizes.values()]
        measured |= {"step_size": sum(sizes) / len(sizes), "step_size_least": min(sizes), "step_size_most": max(sizes)}

    def _pair(self, pair: tuple[str, str] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        question, solution = pair or ("0", self.text.template.marker + "0")  # its weight is 0
        return self.text.solve_prompt(question), self.text.solution(solution)

    def _charge(self, rows: Rows, passes: int) -> None:
        longest = max(len(prompt) + len(tokens) for prompt, tokens in rows)
        self.engine.charge(longest * len(rows), passes)

    def _seed(self, what: str, task: int, row: int) -> int:
        name = f"meta\0{self.settings.seed}\0{self.done}\0{what}\0{self.first_task + task}\0{row}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")

    first_task = 0
    """Number of the first task of this process in the step: other processes draw other numbers."""


def _by_role(queries: Sequence[Query], values: Tensor) -> dict[str, float]:
    """Mean loss of the queries of each role."""
    found: dict[str, list[float]] = {}
    for query, value in zip(queries, values.tolist(), strict=True):
        found.setdefault(f"loss_{query.role}", []).append(value)
    return {name: sum(all_) / len(all_) for name, all_ in sorted(found.items())}


def _weighed_rows(written: Sequence[Generation], shares: Sequence[float], tasks: int) -> tuple[Rows, list[float]]:
    """Every solution that counts once, with the sum of its shares; equally many rows a task, as rows go by tasks."""
    each = len(written) // tasks
    found: list[dict[tuple[tuple[int, ...], tuple[int, ...]], float]] = []
    for first in range(0, len(written), each):
        counted: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}
        for one, share in zip(written[first : first + each], shares[first : first + each], strict=True):
            row = (one.prompt_tokens, one.tokens)
            counted[row] = counted.get(row, 0.0) + share
        kept = {row: share for row, share in counted.items() if share}
        found.append(kept or {next(iter(counted)): 0.0})
    most = max(map(len, found))
    filled = [[*task.items(), *[(next(iter(task)), 0.0)] * (most - len(task))] for task in found]
    return [row for task in filled for row, _ in task], [share for task in filled for _, share in task]
