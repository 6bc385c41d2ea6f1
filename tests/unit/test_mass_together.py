"""What is written for several tasks at once has the bits that each has alone; where it has not, the model says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mass_gov.mass import together
from mass_gov.mass.learner import Learner
from mass_gov.mass.reference_model import trained_folder
from mass_gov.mass.values import Adapter, Generation, SamplingSettings
from mass_gov.tasks.registry import sample_tasks
from tests.conftest import ARCHITECTURES

QUESTIONS = ("what is 7?", "what is 7+11?", "what is it?", "8?", "what is 123-45?")
SETTINGS = SamplingSettings(1.5, 12)


def moved(learner: Learner, count: int) -> list[Adapter]:
    """Adapters of one shape that all say something else."""
    start, random = learner._start(), torch.Generator().manual_seed(5)
    return [
        Adapter(
            start.settings,
            {name: one + 0.1 * torch.randn(one.shape, generator=random) for name, one in start.tensors.items()},
        )
        for _ in range(count)
    ]


def tokens(written: Sequence[Generation]) -> list[tuple[int, ...]]:
    return [one.tokens for one in written]


def check(learner: Learner, questions: Sequence[str], settings: SamplingSettings, count: int) -> None:
    """Samples, answers and suites, together and alone; what is padded no further is that of the plain path too."""
    assert learner.keeps_bits_together
    start, seeds = learner._start(), range(len(questions))
    width = max(learner.widths(question, practise=1, solve=1)[0] for question in questions)

    def write(asked: Sequence[str], by: Sequence[int]) -> list[together.Written]:
        return learner.write_samples_together(asked, start, count=count, seeds=by, settings=settings, width=width)

    at_once = write(questions, seeds)
    assert [write([question], [seed])[0] for question, seed in zip(questions, seeds, strict=True)] == at_once
    adapters, suite = moved(learner, len(questions)), tuple(questions)
    answered = learner.answer_together([suite] * len(adapters), adapters, max_new_tokens=20)
    for adapter, one in zip(adapters, answered, strict=True):
        with learner.meter() as cost:
            assert learner.answer(suite, adapter, max_new_tokens=20) == one.generations
        assert cost == one.cost
    single = learner.answer_together([[question] for question in questions], adapters, max_new_tokens=20, width=width)
    for question, adapter, one in zip(questions, adapters, single, strict=True):
        assert learner.answer_together([[question]], [adapter], max_new_tokens=20, width=width) == [one]
    assert len({tuple(tokens(one.generations)) for one in answered}) > 1, "every adapter says the same"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_model_writes_in_company_what_it_writes_alone(architecture: str, tiny_model: Callable[[str], Path]) -> None:
    check(Learner.open(tiny_model(architecture)), QUESTIONS, SETTINGS, 5)


def test_the_shipped_model_writes_in_company_what_it_writes_alone() -> None:
    questions = [task.question for task in sample_tasks(6, seed=31)]
    check(Learner.open(trained_folder()), questions, SamplingSettings(2.2, 48), 24)


def test_a_kernel_that_minds_company_is_found_out(tiny_model: Callable[[str], Path]) -> None:
    learner = Learner.open(tiny_model("llama"))
    head: Any = learner._model.model.get_output_embeddings()

    def minding(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output * (1 + 1e-6 * (len(inputs[0]) > 9))

    hook = head.register_forward_hook(minding)
    try:
        assert not learner.keeps_bits_together
    finally:
        hook.remove()


def test_rows_that_have_ended_leave_and_those_that_stay_are_enough() -> None:
    ended = [True] * 24
    for row in (1, 17):
        ended[row] = False
    stays = together._staying(range(24), ended, 12)
    assert {1, 17} < stays
    assert [sum(row // 12 == job for row in stays) for job in (0, 1)] == [together.LEAST] * 2
    assert len(together._staying([0, 1, 2, 3, 4, 5], [False, True, True, True, True, True], 1)) == together.LEAST
