"""What earns a reward, and what rewards become."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the learner's side: pip install 'mass-gov[ml]'")

from mass_gov.mass.meta_values import Query  # noqa: E402
from mass_gov.mass.prompting import read_template  # noqa: E402
from mass_gov.mass.reference_model import reference_folder  # noqa: E402
from mass_gov.mass.rewards import LIMIT, attribution_advantages, group_advantages, solves  # noqa: E402

CHAIN = Query("task", "02 16 20 35 41 54 63: FF2", "#0#2", "2")


@pytest.mark.parametrize(
    ("text", "earns"),
    [("#0#2", True), ("#5#2", True), ("#2", False), ("#0#1#2", False), ("#0#3", False), ("", False)],
    ids=["right", "wrong on the way", "working dropped", "one value too many", "wrong", "empty"],
)
def test_a_solution_earns_its_reward_by_its_answer_in_the_form_asked_for(text: str, earns: bool) -> None:
    template = read_template(reference_folder(), chat=False)
    assert solves(text, CHAIN, template) is earns


def test_a_group_that_agrees_teaches_nothing_and_the_others_are_centred() -> None:
    found = group_advantages(torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0]]))
    assert found.tolist() == [[0, 0, 0, 0], pytest.approx([1, -1, -1, 1], abs=1e-4)]
    assert group_advantages(torch.tensor([[1.0] + [0.0] * 99])).max() == LIMIT


def test_harm_is_not_worse_than_no_help() -> None:
    found = attribution_advantages(torch.tensor([[2.0, 0.0, -50.0, 9.0]]), torch.tensor([[True, True, True, False]]))
    assert found[0, 1] == found[0, 2] == found[0, 3] < 0 < found[0, 0]
