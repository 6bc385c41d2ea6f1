"""The evaluation's engine pays for a prompt once, however often it is continued."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the learner's side: pip install 'mass-gov[ml]'")

import torch

from mass_gov.mass import batched_learner
from mass_gov.mass.batched_learner import ROWS, BatchedLearner
from mass_gov.mass.reference_model import reference_folder, trained_folder
from mass_gov.mass.values import TrainingSample

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


def test_fewer_rows_at_once_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed at once decides how much memory a batch of tasks takes, and nothing else."""
    learner = BatchedLearner.open(trained_folder(), threads=1)
    tasks = [
        [TrainingSample(f"max {i} {row} 4", f"{i + row}" * (1 + row % 3) + "#7", 1 / 6) for row in range(6)]
        for i in range(9)
    ]
    written = learner.generate([prompt for prompt in PROMPTS for _ in range(8)], None, max_new_tokens=9)
    found = []
    for rows in (ROWS, 12):
        monkeypatch.setattr(batched_learner, "ROWS", rows)
        found.append((learner.score(written), learner.adapt(tasks, steps=2)))
    (scores, phi), (others, in_parts) = found
    assert torch.equal(scores, others)
    assert scores.unique().numel() > 1
    start = learner.start(len(tasks))
    for name, tensor in phi.items():
        assert torch.equal(tensor, in_parts[name])
        assert not torch.equal(tensor, start[name])
