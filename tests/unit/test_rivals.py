"""Names of methods, votes, nearness, random steps: what can be said without a model."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

from mass_gov.errors import ModelError, NotFoundError
from mass_gov.flows.evaluation.weights import Weights
from mass_gov.mass.rivals import catalogue, mass
from mass_gov.mass.rivals.answering import majority
from mass_gov.mass.rivals.catalogue import CORE_ROWS, find, names
from mass_gov.mass.rivals.deltas import random_delta
from mass_gov.mass.rivals.given_practice import nearness
from mass_gov.mass.rivals.practice import softmax_of_scores, weighed
from mass_gov.mass.rivals.values import Answer, Setup, Written

ISSUE = [
    "base",
    "icl-samples",
    "majority-vote",
    "best-of-n",
    "generator-vote",
    "slow-think",
    "self-critique",
    "ttt-random",
    "ttt-nearest",
    "ttt-demos",
    "maml-demos",
    "tt-ss",
    "tt-ss-agreement",
    "tt-ss-self-judged",
    "solver-sft",
    "solver-grpo",
    "rewrite-grpo",
    "solver-sft+vote",
    "solver-grpo+vote",
    "rewrite-grpo+vote",
    "mass-gold",
    "mass-verifier",
    "mass-gold/no-adaptation",
    "mass-gold/uniform",
    "mass-gold/shuffled-scores",
    "mass-gold/first-order",
    "mass-gold/alignment-scorer",
    "mass-gold/k=2",
    "mass-gold/m=12",
    "mass-gold/other-task-delta",
    "mass-gold/random-delta",
    "mass-gold/corrupted-answers",
    "mass-gold/off-path",
    "mass-gold/accumulated",
    "mass-gold/oracle-practice",
    "mass-verifier/uniform",
]


def test_every_method_of_the_evaluation_has_a_name() -> None:
    assert set(ISSUE) <= set(names())
    assert [find(name).name for name in names()] == names()
    assert set(CORE_ROWS) <= set(names())


@pytest.mark.parametrize(
    "name",
    [
        "",
        "mass",
        "mass-gold/",
        "mass-gold/k=0",
        "mass-gold/k=1/k=2",
        "mass-gold/uniform/off-path",
        "base+vote",
        "tt-ss/k=2",
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(NotFoundError, match="tt-ss-agreement"):
        find(name)


def test_a_name_fixes_settings_and_weights() -> None:
    spec = find("mass-gold/first-order/m=12/k=2")
    assert (spec.weights, spec.setup(Setup()).samples, spec.setup(Setup()).steps) == ("mass-gold-first-order", 12, 2)
    assert find("mass-verifier/uniform").run is mass.uniform_weights


def test_no_method_can_be_handed_a_gold_answer() -> None:
    """Every method takes the same five things; none of them is a task, a grader or an answer."""
    for name in names():
        signature = inspect.signature(find(name).run)
        assert list(signature.parameters) == ["engine", "questions", "setup", "seed", "surroundings"], name
        assert signature.parameters["questions"].annotation == "Sequence[str]"


def test_methods_import_nothing_that_knows_answers() -> None:
    for path in sorted(Path(catalogue.__file__).parent.glob("*.py")):
        text = path.read_text("utf-8")
        assert "mass_gov.tasks" not in text and "mass_gov.flows" not in text, path.name


def test_missing_weights_are_refused_with_the_command_that_trains_them(tmp_path: Path) -> None:
    weights = Weights(tmp_path, base=tmp_path)
    assert weights.of("base") == tmp_path
    with pytest.raises(ModelError, match=r"mass-gov train meta .*solver-grpo"):
        weights.require(["base", "solver-grpo"])
    (tmp_path / "core.json").touch()
    assert weights.of("mass-gold") == tmp_path
    (tmp_path / "mass-gold").mkdir()
    assert weights.of("mass-gold") == tmp_path / "mass-gold"


def test_a_vote_counts_answers_and_the_first_of_equals_wins() -> None:
    cast = [Answer("a", None), Answer("b#2", "2"), Answer("c#1", "1"), Answer("d#1", "1"), Answer("e#2", "2")]
    assert majority(cast) == cast[1]
    assert majority(cast[:1]) == cast[0]
    assert majority([*cast, Answer("f#1", "1")]) == cast[2]


def test_weights_are_the_softmax_over_what_can_be_practised_on() -> None:
    samples = [
        Written("x", "q", "s", "1", score=0.0),
        Written("broken", score=9.0),
        Written("y", "q", "s", "1", score=1.0),
    ]
    weights = [one.weight for one in weighed(samples, softmax_of_scores)]
    expected = torch.softmax(torch.tensor([0.0, 1.0]), 0).tolist()
    assert weights == [pytest.approx(expected[0]), 0.0, pytest.approx(expected[1])]
    assert weighed([Written("broken")], softmax_of_scores)[0].weight == 0.0


def test_the_nearest_text_is_the_one_that_shares_most() -> None:
    pool = ["2>7 4>11 6>?", "max 3 8 2", "(3+4)*2"]
    similarity = nearness(["max 3 8 2", "4>11 2>7 6>?", "%%%"], pool)
    assert similarity[:2].argmax(axis=1).tolist() == [1, 0]
    assert similarity[0, 1] == pytest.approx(1.0, abs=1e-6)
    assert not similarity[2].any(), "what the pool does not know is near to nothing"


def test_a_random_step_is_as_long_as_the_real_one_and_goes_elsewhere() -> None:
    generator = torch.Generator().manual_seed(0)

    def tensors(scale: float) -> dict[str, torch.Tensor]:
        shapes = {"x.lora_A.weight": (2, 3, 8), "x.lora_B.weight": (2, 6, 3)}
        return {name: scale * torch.randn(shape, generator=generator) for name, shape in shapes.items()}

    start = tensors(1.0)
    moved = {name: tensor + step for (name, tensor), step in zip(start.items(), tensors(0.1).values(), strict=True)}
    drawn = random_delta(start, moved, [1, 2])

    def change(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        a, b = tensors["x.lora_A.weight"], tensors["x.lora_B.weight"]
        return torch.bmm(b, a) - torch.bmm(start["x.lora_B.weight"], start["x.lora_A.weight"])

    real, random = change(moved).flatten(1), change(drawn).flatten(1)
    torch.testing.assert_close(random.norm(dim=1), real.norm(dim=1), rtol=1e-4, atol=1e-6)
    assert torch.nn.functional.cosine_similarity(real, random).abs().max() < 0.6
    again = random_delta(start, moved, [1, 2])
    assert all(torch.equal(drawn[name], again[name]) for name in drawn)
