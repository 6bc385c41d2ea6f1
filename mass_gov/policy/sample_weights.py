"""How much each kept sample weighs: softmax of the scores, times the density ratio, beside the real ones' share.

  w_i = (1 - r) * e^{s_i} d_i / sum_j e^{s_j} d_j    what the model wrote; s_i its score, d_i its density ratio
  w_i = r / n                                        each of n anchors

r is the policy's real share, or 0 where no anchor was kept. Without a score for each, all s_i are the same; where the
policy does not ask for importance weights, all d_i are 1. Computed in decimal arithmetic, correctly rounded at every
operation, so that an auditor's machine finds the same weights to the bit. They add up to 1 (to rounding).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal, localcontext

from mass_gov.errors import IntegrityError
from mass_gov.policy.document import Samples
from mass_gov.policy.sample_gates.finding import measured
from mass_gov.records.artifacts import SampleContent

DENSITY_RATIO = "density_ratio"
_EXACT = Context(prec=50)


def with_weights(samples: Sequence[SampleContent], settings: Samples) -> tuple[SampleContent, ...]:
    """The judged samples with their weights: 0 for the dropped ones, and for anchors where nothing else was kept.

    Raises:
        IntegrityError: the policy weighs by density ratios, and a kept sample has none.
    """
    written = [sample for sample in samples if not sample.dropped_by and not sample.real]
    anchors = sum(not sample.dropped_by and sample.real for sample in samples)
    share = settings.real_share if anchors else 0.0
    ratios = [_ratio(sample) for sample in written] if settings.importance_weights else None
    weights = iter(weigh([sample.score for sample in written], ratios, share))
    anchor = float(Decimal(share) / anchors) if anchors and written else 0.0
    return tuple(
        sample.model_copy(update={"weight": 0.0 if sample.dropped_by else anchor if sample.real else next(weights)})
        for sample in samples
    )


def weigh(
    scores: Sequence[float | None], ratios: Sequence[float] | None = None, real_share: float = 0.0
) -> list[float]:
    """Return the weights of kept samples that the model wrote; they add up to 1 - `real_share`."""
    known = [Decimal(score) for score in scores if score is not None]
    unscored = not known or len(known) != len(scores)
    if unscored and ratios is None and real_share == 0:
        return [1.0 / len(scores) for _ in scores]
    with localcontext(_EXACT):
        largest = Decimal(0) if unscored else max(known)
        shares = [Decimal(1)] * len(scores) if unscored else [(score - largest).exp() for score in known]
        if ratios is not None:
            shares = [share * Decimal(ratio) for share, ratio in zip(shares, ratios, strict=True)]
        rest, total = 1 - Decimal(real_share), sum(shares)
        return [float(share * rest / total) for share in shares]


def real_share_of(samples: Sequence[SampleContent]) -> float:
    """The anchors' part of all weight, in [0, 1]; 0 where nothing weighs."""
    with localcontext(_EXACT):
        real, total = (
            sum((Decimal(s.weight) for s in samples if s.real or every), Decimal(0)) for every in (False, True)
        )
        return round(float(real / total), 12) if total else 0.0


def _ratio(sample: SampleContent) -> float:
    ratio = measured(sample, DENSITY_RATIO)
    if ratio is None or ratio <= 0:
        raise IntegrityError(
            f"sample {sample.index} has no density ratio, and the policy weighs by it. Make the change again."
        )
    return ratio
