"""Base training: resumable to the bit, refuses what it cannot take up, and leaves a folder that others can load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mass_gov.errors import InputError, SettingsError
from mass_gov.flows.base_examples import ExampleSource, final_answer
from mass_gov.flows.base_figures import Share
from mass_gov.flows.base_train import BaseTrainSettings, train_base
from mass_gov.mass.bulk_decode import complete
from mass_gov.mass.character_tokenizer import encode
from mass_gov.mass.pretraining import (
    IGNORED,
    Architecture,
    Example,
    Pretraining,
    Recipe,
    build_model,
    collate,
    rate_factor,
)
from mass_gov.tasks.registry import DOMAINS, recognise

TINY = Architecture(hidden=32, layers=1, heads=2, mlp=48, positions=192)
RECIPE = Recipe(steps=10, decay=4, batch=4, group=4, warmup=3, snapshot_every=4)
SOURCE = ExampleSource(0, 30)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _weights(run: Pretraining) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in run.model.named_parameters()}


class _KilledError(Exception):
    pass


def _kill_at(step: int):  # type: ignore[no-untyped-def]
    def progress(done: int, steps: int, loss: float) -> None:
        if done == step:
            raise _KilledError

    return progress


def test_a_run_of_another_recipe_is_not_taken_up(tmp_path: Path) -> None:
    Pretraining(tmp_path, TINY, RECIPE, SOURCE).run(until=1)
    with pytest.raises(InputError, match="other settings"):
        Pretraining(tmp_path, TINY, replace(RECIPE, matrix_rate=0.02), SOURCE)


def test_a_truncated_snapshot_is_refused_with_a_way_out(tmp_path: Path) -> None:
    Pretraining(tmp_path, TINY, RECIPE, SOURCE).run(until=1)
    weights = tmp_path / "snapshot" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="Start in an empty folder"):
        Pretraining(tmp_path, TINY, RECIPE, SOURCE)


@pytest.mark.parametrize("killed_at", [4, 6, 9])
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path, killed_at: int) -> None:
    whole = Pretraining(tmp_path / "whole", TINY, RECIPE, SOURCE)
    whole.run()
    with pytest.raises(_KilledError):
        Pretraining(tmp_path / "killed", TINY, RECIPE, SOURCE).run(_kill_at(killed_at))
    resumed = Pretraining(tmp_path / "killed", TINY, RECIPE, SOURCE)
    assert 0 < resumed.step <= killed_at
    resumed.run()
    assert resumed.losses == whole.losses and resumed.data_digest == whole.data_digest
    expected, got = _weights(whole), _weights(resumed)
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    run = Pretraining(tmp_path, TINY, RECIPE, SOURCE)
    run.run(until=4)
    (tmp_path / "snapshot").rename(tmp_path / "snapshot.old")
    (tmp_path / "snapshot.new").mkdir()
    assert Pretraining(tmp_path, TINY, RECIPE, SOURCE).step == 4


def test_training_lowers_the_loss_and_the_seed_matters(tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=60, warmup=10)
    run = Pretraining(tmp_path / "a", TINY, recipe, SOURCE)
    run.run()
    assert sum(run.losses[-10:]) < 0.7 * sum(run.losses[:10])
    other = Pretraining(tmp_path / "b", TINY, replace(recipe, seed=1), ExampleSource(1, 30))
    assert not torch.equal(next(other.model.parameters()), build_model(TINY, 0).model.embed_tokens.weight)


def test_only_the_continuation_and_its_end_are_learned() -> None:
    ids, labels = collate([Example("Q 1\nA ", "#1"), Example("Q 12\nA ", "#12")], 64)
    assert ids.shape == labels.shape == (2, 12)
    assert labels[0].tolist() == [IGNORED] * 7 + [*encode("#1"), 2] + [IGNORED] * 2
    assert ids[1, :8].tolist() == [1, *encode("Q 12\nA ")][:8]
    with pytest.raises(InputError, match="8 positions"):
        collate([Example("Q 12\nA ", "#12")], 8)


def test_the_rate_rises_holds_and_falls() -> None:
    recipe = Recipe(steps=1000, decay=400, warmup=100)
    factors = [rate_factor(recipe, step) for step in range(1000)]
    assert factors[0] == 0.01 and factors[99:600] == [1.0] * 501
    assert factors[600:] == sorted(factors[600:], reverse=True) and factors[-1] == recipe.final_share


def test_no_example_shows_anything_held_out() -> None:
    drills = 0
    for index in range(3000):
        example = SOURCE.example(index)
        question, final = example.prompt[2:].split("\n")[0], final_answer(example.continuation)
        name = recognise(question)
        if name is None:
            drills += _is_open_drill(question)
            continue
        one = DOMAINS[name]
        problem = one.read(question)
        assert one.split_of(problem) == "easy", question
        if example.prompt.startswith("T "):
            practice = one.read_practice(problem, example.continuation.split("\n")[0])
            assert practice is not None and one.split_of(practice) == "easy", example
            problem = practice
        assert final == one.answer(problem)
    assert 300 < drills < 550


def _is_open_drill(question: str) -> bool:
    """Whether a question that no domain asks subtracts digits, or walks through a table that no domain holds out."""
    if "-" in question:
        return question.endswith("~")
    table = question.split(":", maxsplit=1)[0]
    asked = {"operator": f"{table}: f0", "binary": f"{table}: 0@0"}
    assert question.endswith("~"), question
    return all(DOMAINS[name].split_of(DOMAINS[name].read(text)) == "easy" for name, text in asked.items())


def test_bulk_decoding_agrees_with_the_library_one_by_one() -> None:
    model = build_model(TINY, 3).eval()
    prompts = ["Q 1+2\nA ", "Q 12+3\nA ", "T 9-1\nP "]
    for prompt, text in zip(prompts, complete(model, prompts, 12), strict=True):
        ids = torch.tensor([[1, *encode(prompt)]])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        alone = [token for token in out[0, ids.shape[1] :].tolist() if token > 3]
        assert encode(text) == alone


def test_wilson_interval_matches_the_published_example() -> None:
    # Newcombe (1998), table I, method 3: 81 of 263 gives 0.2553 to 0.3662
    low, high = Share(81, 263).interval
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_a_longer_run_shares_its_beginning(tmp_path: Path) -> None:
    short = Pretraining(tmp_path / "short", TINY, RECIPE, SOURCE)
    long = Pretraining(tmp_path / "long", TINY, replace(RECIPE, steps=20), SOURCE)
    short.run(until=6), long.run(until=6)
    assert short.losses == long.losses and short.data_digest == long.data_digest


@pytest.mark.parametrize("bad", [{"steps": 0}, {"seed": -1}, {"practise_percent": 101}, {"threads": 0}])
def test_unusable_settings_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        BaseTrainSettings(**bad)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_written_folder_loads_anywhere_and_its_card_has_every_domain(tmp_path: Path) -> None:
    settings = BaseTrainSettings(steps=10, batch=4, threads=1, card_tasks=3, probe_tasks=1, architecture=TINY)
    seen: list[int] = []
    report = train_base(tmp_path, settings, lambda done, steps, loss: seen.append(done))
    again = train_base(tmp_path, settings)
    assert seen == list(range(1, 11)) and again.data_digest == report.data_digest
    tokenizer = AutoTokenizer.from_pretrained(report.weights, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(report.weights, local_files_only=True, attn_implementation="eager")
    assert tokenizer("Q 1>2\nA ")["input_ids"] == [1, *encode("Q 1>2\nA ")]
    assert tokenizer.decode(encode("Q 1>2\nA "), skip_special_tokens=True) == "Q 1>2\nA "
    assert sum(p.numel() for p in model.parameters()) == report.parameters
    card = (report.weights / "MODEL_CARD.md").read_text()
    assert all(f"| {name} |" in card for name in DOMAINS) and report.data_digest in card
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("*.bin"))
