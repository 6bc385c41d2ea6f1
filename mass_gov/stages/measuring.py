"""Step 2a, measuring: what only a model can tell about a sample, recorded beside it and judged by the policy elsewhere.

  agreement      share of fresh solutions, sampled by the parent state in the context of the task, that reach the answer
  density_ratio  how much likelier the sample is among real tasks than among those that the model wrote

Rules: a measure is computed only where the policy asks for it, from the samples, the task, the state and the seed, so
that replay finds the same number. Anchors are not measured. How surprising a sample is comes with its score
(`synthesis`). Agreement is asked about what every other gate lets through, in batches that the order of the samples
gives.
"""

from __future__ import annotations

from collections.abc import Mapping

from mass_gov.mass.learner import Learner
from mass_gov.mass.prompting import parse_answer, up_to_solution
from mass_gov.mass.values import Adapter
from mass_gov.policy import Policy
from mass_gov.policy.sample_gates.agreement import AGREEMENT
from mass_gov.policy.sample_weights import DENSITY_RATIO
from mass_gov.policy.samples import let_through, verdicts
from mass_gov.policy.similarity import normalise
from mass_gov.records.artifacts import SamplesContent
from mass_gov.records.change import Scope
from mass_gov.tasks.anchors import AnchorPool

Found = Mapping[int, float | None]
"""A number by the sample's index."""


def measure_agreement(
    learner: Learner,
    samples: SamplesContent,
    question: str,
    adapter: Adapter | None,
    seed: int,
    policy: Policy,
    scope: Scope,
    cases: Mapping[str, str] | None,
    limit: int,
) -> SamplesContent:
    """Record which share of fresh solutions agrees with each sample that the other gates let through.

    Arguments:
        adapter: the parent state's; None is the frozen base.
        limit: new tokens per solution at most.
    """
    settings = policy.document.gates_for(scope).sample_agreement
    if settings == "unused":
        return samples
    asked = let_through(verdicts(samples.samples, question, policy, scope, cases))
    begun = [(s.index, up_to_solution(s.text, s.question or "", learner.template)) for s in asked]
    again = learner.solve_again(question, begun, adapter, count=settings.resolves, seed=seed, limit=limit)
    found: dict[int, float | None] = {}
    for sample, solutions in zip(asked, again, strict=True):
        answers = [parse_answer(solution.text, learner.template) for solution in solutions]
        agreed = sum(answer is not None and same_answer(answer, sample.answer or "") for answer in answers)
        found[sample.index] = agreed / settings.resolves if answers else None
    return _noted(samples, AGREEMENT, found)


def measure_density(
    samples: SamplesContent,
    question: str,
    policy: Policy,
    scope: Scope,
    cases: Mapping[str, str] | None,
    pool: AnchorPool | None,
    separator: str,
) -> SamplesContent:
    """Record the density ratio of every kept sample against the pool of real tasks."""
    if not policy.document.samples.importance_weights or pool is None:
        return samples
    from mass_gov.mass.density import density_ratios  # noqa: PLC0415 - scikit-learn, where a policy asks for it

    kept = [s for s in verdicts(samples.samples, question, policy, scope, cases) if not s.dropped_by and not s.real]
    written = [f"{s.question}{separator}{s.answer}" for s in kept]
    real = [f"{anchor.question}{separator}{anchor.answer}" for anchor in pool.anchors]
    ratios = {s.index: ratio for s, ratio in zip(kept, density_ratios(written, real), strict=True)}
    return _noted(samples, DENSITY_RATIO, ratios).model_copy(update={"anchor_pool": pool.digest})


def same_answer(one: str, other: str) -> bool:
    """Whether two answers are the same text, to what nobody sees: spaces, case, a full stop."""
    return normalise(one) == normalise(other)


def _noted(samples: SamplesContent, name: str, found: Found) -> SamplesContent:
    noted = tuple(
        sample.with_measure(name, found[sample.index]) if sample.index in found else sample
        for sample in samples.samples
    )
    return samples.model_copy(update={"samples": noted})
