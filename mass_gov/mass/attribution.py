"""How much each practice sample moved a loss: the gradient of that loss by the samples' scores, through the inner loop.

For samples of weights w = softmax(s), K steps and a loss L of the adapted model,

    attribution_i = dL/ds_i = w_i (g_i - sum_j w_j g_j),   g_i = dL/dw_i

It is negative where a sample helped. What it estimates is leave-one-out, L - L(without i): the loss with all samples
less the loss where the rest is weighed anew and all K steps are taken again, negative where a sample helped as well.
"""

from __future__ import annotations

from mass_gov.mass.bilevel import BilevelTask, SweepSettings
from mass_gov.mass.meta_gradient import meta_gradient


def attributions(task: BilevelTask, steps: int) -> tuple[float, list[float]]:
    """(L, attribution of each sample); `task.scores` are the weights, which add up to 1, and want a gradient.

    Where anything on the way was not finite, every attribution is zero.
    """
    found = meta_gradient(task, SweepSettings(steps, start_gradient=False))
    weights, slopes = task.scores.detach(), found.scores
    values: list[float] = (weights * (slopes - weights @ slopes)).tolist()
    return found.outer_loss, values
