"""How much each practice sample moved a loss: the gradient of that loss by the samples' scores, through the inner loop.

For samples of weights w = c softmax(s), where anchors, which have no score, share the other 1 - c, K steps and a loss L
of the adapted model,

    attribution_i = dL/ds_i = w_i (g_i - sum_j w_j g_j / c),   g_i = dL/dw_i,   j over the scored samples

It is negative where a sample helped. What it estimates is leave-one-out, L - L(without i): the loss with all samples
less the loss where the rest is weighed anew and all K steps are taken again, negative where a sample helped as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mass_gov.mass.bilevel import BilevelTask, SweepSettings
from mass_gov.mass.meta_gradient import meta_gradient


def attributions(task: BilevelTask, steps: int, scored: Tensor | None = None) -> tuple[float, list[float]]:
    """(L, attribution of each sample); `task.scores` are the weights, which add up to 1, and want a gradient.

    `scored` is 1 for samples with a score and 0 for anchors, whose attribution is 0; None where all have one.
    Where anything on the way was not finite, every attribution is zero.
    """
    found = meta_gradient(task, SweepSettings(steps, start_gradient=False))
    weights, slopes = task.scores.detach(), found.scores
    if scored is None:
        values: list[float] = (weights * (slopes - weights @ slopes)).tolist()
    else:
        own = weights * scored
        values = (own * (slopes - own @ slopes / own.sum().clamp(min=torch.finfo(own.dtype).tiny))).tolist()
    return found.outer_loss, values
