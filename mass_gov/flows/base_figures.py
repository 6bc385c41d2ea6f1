"""What the model card measures: solving, writing practice, and whether one step of practice helps.

Rules: every figure comes with its n; the tasks are those of the card's own seed range; decoding for solving is greedy.
Does not know how the model was trained.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from mass_gov.flows.base_examples import SCRATCH, SEPARATOR, final_answer, practise_prompt, solve_prompt
from mass_gov.mass.bulk_decode import complete
from mass_gov.mass.pretraining import Example, collate
from mass_gov.tasks.registry import AnyDomain
from mass_gov.tasks.task import CARD_SEEDS, Split, Task

_LONGEST_SOLUTION, _LONGEST_PRACTICE = 72, 128
_PROBE_SAMPLES, _PROBE_RANK = 6, 8
_PROBE_TARGETS = ("o_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Share:
    """`right` of `n`, with a 95% Wilson interval."""

    right: int
    n: int

    @property
    def value(self) -> float:
        """The share, 0 to 1; NaN of nothing."""
        return self.right / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson score interval at z = 1.96 (E. B. Wilson, 1927)."""
        if self.n == 0:
            return (0.0, 1.0)
        z2, p = 1.96**2, self.value
        middle = (p + z2 / (2 * self.n)) / (1 + z2 / self.n)
        half = 1.96 * math.sqrt(p * (1 - p) / self.n + z2 / (4 * self.n**2)) / (1 + z2 / self.n)
        return (max(0.0, middle - half), min(1.0, middle + half))


@dataclass(frozen=True, slots=True)
class DomainFigures:
    """One domain's row of the card.

    Args:
        easy: easy tasks solved (some of their questions may have been trained on).
        sub: sub-problems of the hard tasks solved.
        hard: hard tasks solved.
        parses, correct, copies: of practice written for the hard tasks at temperature 1: states a question of this
            domain; states one and answers it rightly; is the task itself.
    """

    easy: Share
    sub: Share
    hard: Share
    parses: Share
    correct: Share
    copies: Share


@dataclass(frozen=True, slots=True)
class Probe:
    """One step on six right practice problems of a hard task: what it did to the task itself.

    Args:
        gain: mean change of log p(gold solution), in nats.
        helped: tasks on which it rose.
        before, after: greedy accuracy.
    """

    rate: float
    gain: float
    helped: Share
    before: Share
    after: Share


def card_tasks(domain: AnyDomain, split: Split, n: int) -> list[Task]:
    """The first n tasks of the card's seed range."""
    return [domain.sample(CARD_SEEDS + index, split) for index in range(n)]


def solved(model: PreTrainedModel, domain: AnyDomain, tasks: list[Task]) -> Share:
    """How many tasks the model solves greedily."""
    texts = complete(model, [solve_prompt(task.question) for task in tasks], _LONGEST_SOLUTION)
    right = sum(domain.verify(task, final_answer(text)) for task, text in zip(tasks, texts, strict=True))
    return Share(right, len(tasks))


def measure_domain(model: PreTrainedModel, domain: AnyDomain, n: int) -> DomainFigures:
    """All figures of one domain on n tasks a split."""
    hard = card_tasks(domain, "hard", n)
    parses, correct, copies = written_practice(model, domain, hard)
    return DomainFigures(
        easy=solved(model, domain, card_tasks(domain, "easy", n)),
        sub=solved(model, domain, [domain.subproblem(task, 0) for task in hard]),
        hard=solved(model, domain, hard),
        parses=parses,
        correct=correct,
        copies=copies,
    )


def written_practice(model: PreTrainedModel, domain: AnyDomain, tasks: list[Task]) -> tuple[Share, Share, Share]:
    """One practice problem a task, sampled at temperature 1: (parses, parses and is correct, equals the task)."""
    prompts = [practise_prompt(task.question) for task in tasks]
    parses = correct = copies = 0
    texts = complete(model, prompts, _LONGEST_PRACTICE, temperature=1.0)
    for task, text in zip(tasks, texts, strict=True):
        head, _, solution = text.partition(SEPARATOR)
        question = head.partition(SCRATCH)[0]
        asked = domain.read(task.question)
        problem = domain.read_practice(asked, question)
        if problem is not None:
            parses += 1
            correct += domain.answer(problem) == final_answer(solution)
            copies += domain.render(problem) == task.question
    return Share(parses, len(tasks)), Share(correct, len(tasks)), Share(copies, len(tasks))


def probe_practice(model: PreTrainedModel, domain: AnyDomain, n: int, rate: float) -> Probe:
    """Adapt to each of n hard tasks on six sub-problems with right working, by one SGD step on a LoRA.

    B starts at zero, so one step is exactly a step on B with A fixed; A is drawn once. The answer of the task is not
    among the samples' questions; it may by chance equal a sample's answer.
    """
    tasks = card_tasks(domain, "hard", n)
    gains, before, after = [], 0, 0
    for task in tasks:
        gold = [Example(solve_prompt(task.question), task.solution)]
        adapted = _one_step(model, _right_practice(domain, task), rate)
        gains.append(float(_loglik(adapted, gold) - _loglik(model, gold)))
        before += solved(model, domain, [task]).right
        after += solved(adapted, domain, [task]).right
    helped = Share(sum(gain > 0 for gain in gains), n)
    return Probe(rate, sum(gains) / n, helped, Share(before, n), Share(after, n))


def _right_practice(domain: AnyDomain, task: Task) -> list[Example]:
    samples = [domain.subproblem(task, index) for index in range(_PROBE_SAMPLES)]
    return [Example(solve_prompt(one.practice), one.solution) for one in samples]


def _one_step(model: PreTrainedModel, samples: list[Example], rate: float) -> PreTrainedModel:
    """A copy of the model with the step merged into its weights.

    For W' = W + B A with B = 0, dL/dB = (dL/dW) A^T; so the step on B moves W by -rate (dL/dW) A^T A.
    """
    adapted = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    ids, labels = collate(samples, model.config.max_position_embeddings)
    adapted(input_ids=ids, labels=labels, use_cache=False).loss.backward()
    with torch.no_grad():
        for name, module in adapted.named_modules():
            if isinstance(module, nn.Linear) and name.endswith(_PROBE_TARGETS) and module.weight.grad is not None:
                width = module.in_features
                a = torch.randn(_PROBE_RANK, width, generator=generator) / math.sqrt(width)
                module.weight -= rate * module.weight.grad @ a.T @ a
    adapted.zero_grad()
    return adapted


@torch.no_grad()
def _loglik(model: PreTrainedModel, examples: list[Example]) -> torch.Tensor:
    """Summed log-probability of the continuations, in nats."""
    ids, labels = collate(examples, model.config.max_position_embeddings)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].log_softmax(-1)
    wanted = labels[:, 1:]
    picked = logits.gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
    total: torch.Tensor = (picked * (wanted >= 0)).sum()
    return total
