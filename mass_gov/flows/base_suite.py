"""Choosing the critical cases of a suite: those that the base model answers rightly by the widest margin.

Rules: a case's margin is the smallest gap, over the tokens of the solution that the model writes greedily, between the
log-probability of the token written and that of the next best. Losing a case of wide margin is damage, not noise.
Does not know how a suite is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mass_gov.flows.base_examples import final_answer, solve_prompt
from mass_gov.mass import loading
from mass_gov.mass.bulk_decode import complete
from mass_gov.mass.pretraining import Example, collate
from mass_gov.tasks.suite_building import build_suite, suite_bytes
from mass_gov.tasks.suites import SuiteCase

_LONGEST = 72


def core_suite(base: Path) -> bytes:
    """The file `core-v1.jsonl`: twelve cases of every domain that an update must keep, one critical in each."""
    model, _ = loading.load(base)
    return suite_bytes(mark_critical(model, build_suite("core", version=1, seed=0, n_per_domain=12)))


def mark_critical(model: Any, cases: Sequence[SuiteCase], per_domain: int = 1) -> list[SuiteCase]:
    """The same cases in the same order, with the `per_domain` easy ones of widest margin marked in each domain."""
    margins = case_margins(model, cases)
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
