"""What earns a reward, and rewards into advantages, one group a task.

Rules: pure; a solution earns 1 or 0; an advantage is a reward minus its group's mean over its group's deviation (GRPO;
Shao et al., 2024, arXiv 2402.03300); a group whose rewards are all equal teaches nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mass_gov.mass.meta_values import Query
from mass_gov.mass.prompting import PromptTemplate, parse_answer

_EPSILON = 1e-6
LIMIT = 2.5
"""Largest advantage, either way."""


def solves(text: str, query: Query, template: PromptTemplate) -> bool:
    """Whether a finished solution is right and in form: it marks as many values as the question asks to name.

    Rewarded for the answer alone, a solver drops the values on the way and guesses (experiment log, run 33).
    """
    in_form = text.count(template.marker) == query.solution.count(template.marker)
    return in_form and parse_answer(text, template) == query.answer


def group_advantages(rewards: Tensor) -> Tensor:
    """(groups, n) rewards -> advantages of the same shape, within ±LIMIT."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    deviation = rewards.std(dim=1, keepdim=True, correction=0)
    return (centred / (deviation + _EPSILON)).clamp(-LIMIT, LIMIT) * (deviation > _EPSILON * _EPSILON)


def attribution_advantages(helped: Tensor, valid: Tensor) -> Tensor:
    """(tasks, m) what each sample's weight did for the outer loss (-dL/dw) -> the generator's advantages.

    Harm counts as 0 before normalising: with raw values trivial samples, which do nothing, look good beside harmful
    ones. What does not parse has reward 0 as well. NaN is refused by the caller, which drops such steps.
    """
    return group_advantages(torch.where(valid, helped, torch.zeros_like(helped)).clamp(min=0.0))
