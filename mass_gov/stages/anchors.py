"""Step 1b, anchors: real tasks with gold answers beside what the model wrote, as many as the policy's share asks for.

Chosen by the change's seed from a pool of the training splits, passing over those that this model cannot read and those
that the sample gates would drop (the task itself, a suite's case). Which share of the weight they get is the policy's;
this step does not weigh.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from mass_gov.mass.learner import Learner
from mass_gov.policy import Policy
from mass_gov.policy.samples import verdicts
from mass_gov.records.artifacts import SampleContent, SamplesContent
from mass_gov.records.change import Scope
from mass_gov.tasks.anchors import Anchor, AnchorPool

MOST = 64
"""Anchors per change at most, whatever the share."""


def mix_in(
    learner: Learner,
    samples: SamplesContent,
    question: str,
    seed: int,
    policy: Policy,
    scope: Scope,
    cases: Mapping[str, str] | None,
    pool: AnchorPool | None,
) -> SamplesContent:
    """Add anchors after the samples; unchanged where the policy's real share is 0 or there is no pool."""
    share = policy.document.samples.real_share
    if share == 0 or pool is None:
        return samples
    wanted = how_many(len(samples.samples), share)
    found: list[SampleContent] = []
    for candidate in _candidates(learner, pool, seed, len(samples.samples)):
        if len(found) == wanted:
            break
        (judged,) = verdicts([candidate], question, policy, scope, cases)
        if not judged.dropped_by:
            found.append(candidate.model_copy(update={"index": len(samples.samples) + len(found)}))
    return samples.model_copy(update={"samples": (*samples.samples, *found), "anchor_pool": pool.digest})


def how_many(written: int, share: float) -> int:
    """As many anchors as make an anchor weigh about what a sample weighs, at least 1 and at most `MOST`."""
    return MOST if share >= 1 else max(1, min(MOST, math.ceil(written * share / (1 - share))))


def _candidates(learner: Learner, pool: AnchorPool, seed: int, index: int) -> Iterator[SampleContent]:
    for anchor in pool.in_order_of(seed):
        solution = anchor.solution(learner.template.marker)
        if learner.unusable(anchor.question, solution) is None:
            yield _content(index, anchor, solution, learner)


def _content(index: int, anchor: Anchor, solution: str, learner: Learner) -> SampleContent:
    return SampleContent(
        index=index,
        seed="0",
        tokens=(),
        text=anchor.question + learner.template.separator + solution,
        finished=True,
        question=anchor.question,
        solution=solution,
        answer=anchor.answer,
        unparseable=None,
        score=None,
        weight=0.0,
        gates=(),
        dropped_by=(),
        real=True,
    )
