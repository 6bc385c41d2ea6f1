"""The suites that ship, built from their seeds, and which of their cases are critical.

A critical case is one that the model answers rightly by the widest margin: losing it is damage, not noise. Rules: a
case's margin is the smallest gap, over the tokens of the solution that the model writes greedily, between the
log-probability of the token written and that of the next best. In suites with a header the margin is the smallest of
several models': the base, the model that `solve` runs, and both with every weight matrix perturbed at random. The
domains' grammars leave no room for a paraphrase. Does not know how a suite is read.

Sizes, margins and the discordance come from what updates of the shipped core were seen to do: bench/suites.py,
docs/explanation/regression.md.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mass_gov.flows.base_examples import final_answer, solve_prompt
from mass_gov.mass import loading
from mass_gov.mass.bulk_decode import complete
from mass_gov.mass.pretraining import Example, collate
from mass_gov.policy.power import cases_needed
from mass_gov.tasks.suite_building import build_suite, describe, suite_bytes
from mass_gov.tasks.suites import SuiteCase

_LONGEST = 72
PERTURBATION, PERTURBED = 0.15, 3
"""Relative Frobenius norm of the noise on each weight matrix, and how many times it is drawn."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one suite is built."""

    name: str
    version: int
    seed: int
    n_per_domain: int
    critical_per_domain: int
    margin: float
    discordance: float
    power: float


PLANS = {
    "instance-v1": Plan("instance", 1, 1, 40, 1, margin=0.10, discordance=0.08, power=0.80),
    "deployment-v1": Plan("deployment", 1, 2, 80, 2, margin=0.05, discordance=0.08, power=0.80),
}
"""Suites with a header, by the names that policies use."""


def planned_suite(plan: Plan, folders: Sequence[Path]) -> bytes:
    """The file of one suite.

    Arguments:
        folders: of the models that have to answer every critical case rightly.
    """
    models = [loading.load(folder)[0] for folder in folders]
    cases = build_suite(plan.name, plan.version, plan.seed, plan.n_per_domain)
    margins = [case_margins(model, cases) for one in models for model in (one, *_perturbed(one))]
    least = {case.case_id: min(margin[case.case_id] for margin in margins) for case in cases}
    marked = _marked(least, cases, plan.critical_per_domain)
    needed = cases_needed(plan.margin, plan.discordance, plan.power)
    header = describe(
        plan.name,
        plan.version,
        marked,
        margin=plan.margin,
        discordance=plan.discordance,
        power=plan.power,
        needed=needed,
    )
    return suite_bytes(marked, header)


def core_suite(base: Path) -> bytes:
    """The file `core-v1.jsonl`: twelve cases of every domain that an update must keep, one critical in each."""
    model, _ = loading.load(base)
    return suite_bytes(mark_critical(model, build_suite("core", version=1, seed=0, n_per_domain=12)))


def mark_critical(model: Any, cases: Sequence[SuiteCase], per_domain: int = 1) -> list[SuiteCase]:
    """The same cases in the same order, with the `per_domain` easy ones of widest margin marked in each domain."""
    return _marked(case_margins(model, cases), cases, per_domain)


def _marked(margins: dict[str, float], cases: Sequence[SuiteCase], per_domain: int) -> list[SuiteCase]:
    chosen: set[str] = set()
    for name in {case.domain for case in cases}:
        mine = [case for case in cases if case.domain == name and case.split == "easy" and margins[case.case_id] > 0]
        ranked = sorted(mine, key=lambda case: (-margins[case.case_id], case.case_id))
        chosen.update(case.case_id for case in ranked[:per_domain])
    return [replace(case, critical=case.case_id in chosen) for case in cases]


def case_margins(model: Any, cases: Sequence[SuiteCase]) -> dict[str, float]:
    """Per case id: the margin in nats; -inf where the greedy answer is wrong."""
    prompts = [solve_prompt(case.question) for case in cases]
    texts = complete(model, prompts, _LONGEST)
    return {
        case.case_id: _margin(model, prompt, text) if final_answer(text) == case.answer else float("-inf")
        for case, prompt, text in zip(cases, prompts, texts, strict=True)
    }


@torch.no_grad()
def _margin(model: Any, prompt: str, text: str) -> float:
    ids, labels = collate([Example(prompt, text)], model.config.max_position_embeddings)
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)
    best = logits[labels[0, 1:] >= 0].topk(2, dim=-1).values
    return float((best[:, 0] - best[:, 1]).min())


@torch.no_grad()
def _perturbed(model: Any) -> Iterator[Any]:
    """Copies of the model with Gaussian noise on every matrix, `PERTURBATION` of its Frobenius norm."""
    for seed in range(PERTURBED):
        generator, copied = torch.Generator().manual_seed(seed), copy.deepcopy(model)
        for weight in (one for one in copied.parameters() if one.dim() == 2):
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(noise, alpha=float(PERTURBATION * weight.norm() / noise.norm()))
        yield copied
