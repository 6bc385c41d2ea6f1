"""The evaluation's engine pays for a prompt once, however often it is continued."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the learner's side: pip install 'mass-gov[ml]'")

from mass_gov.mass.batched_learner import ROWS, BatchedLearner
from mass_gov.mass.reference_model import reference_folder

PROMPTS = ("Q 1+2\nA ", "Q 3*4\nA ", "Q 5-2\nA ")


@pytest.fixture(scope="module")
def learner() -> BatchedLearner:
    return BatchedLearner.open(reference_folder(), threads=1)


def read(learner: BatchedLearner, times: int) -> float:
    """FLOPs of reading every prompt, continued `times` times by one token."""
    prompts = [prompt for prompt in PROMPTS for _ in range(times)]
    with learner.meter() as cost:
        found = learner.generate(prompts, None, max_new_tokens=1)
    assert [one.prompt_tokens for one in found] == [tuple(learner.text.prompt(prompt)) for prompt in prompts]
    assert len({one.tokens for one in found}) == len({one.tokens for one in found[::times]})
    return cost.flops


@pytest.mark.parametrize("times", [2, ROWS // 2 - 1, ROWS, ROWS + 7], ids=["few", "two runs at once", "one", "more"])
def test_a_prompt_is_read_once_for_all_its_continuations(learner: BatchedLearner, times: int) -> None:
    assert read(learner, times) == read(learner, 1) > 0
