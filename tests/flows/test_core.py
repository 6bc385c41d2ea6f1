"""A trained core in the sentence: where it starts, what weighs how much, what the leaf names, what replay finds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mass_gov.config import load_settings
from mass_gov.evidence.canonical import parse_canonical
from mass_gov.flows import adapt as adapt_flow
from mass_gov.flows.adapt import adapt
from mass_gov.flows.approve import approve, promote
from mass_gov.flows.audit import verify
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.replay import replay
from mass_gov.flows.replay_report import STAGES, Start
from mass_gov.flows.workbench import Workbench, delta_files
from mass_gov.mass.core import Core
from mass_gov.mass.core_settings import step_sizes_digest
from mass_gov.mass.model_folder import base_digest
from mass_gov.mass.reference_model import reference_folder
from mass_gov.mass.values import Adapter
from mass_gov.policy.samples import judge_samples
from mass_gov.records.artifacts import SampleContent, SamplesContent
from mass_gov.records.settings import AnswerSpec
from mass_gov.stages import synthesis
from mass_gov.stages.synthesis import ForcedSample
from mass_gov.tasks.registry import sample_tasks
from mass_gov.wiring import initialise, open_workbench, recommended_spec
from tests.conftest import ARCHITECTURES
from tests.fakes.policies import lean_policy
from tests.fakes.small_core import make_core, make_talkative, with_core
from tests.flows.test_adapt import ALICE

QUESTION = "what is 7?"
STARTS: tuple[Start, ...] = ("scratch", "samples", "delta")
Open = Callable[[Path], Workbench]


def cored(plain: Path, folder: Path, **settings: Any) -> Path:
    return with_core(plain, folder, replace(make_core(plain), **settings))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model that writes samples that parse, with a core."""
    return cored(make_talkative(tmp_path / "plain", "llama"), tmp_path / "cored", samples=48)


@pytest.fixture
def open_bench(tmp_path: Path) -> Iterator[Open]:
    opened: list[Workbench] = []

    def make(model: Path) -> Workbench:
        settings = load_settings(home=tmp_path / "home", model=model, principal="alice")
        initialise(settings, lean_policy(tmp_path))[0].close()
        spec = recommended_spec(settings).model_copy(update={"answer": AnswerSpec(max_new_tokens=8)})
        opened.append(open_workbench(settings, spec))
        return opened[-1]

    yield make
    for bench in opened:
        bench.ledger.close()


def core_of(bench: Workbench) -> Core:
    core = bench.learner.core
    assert core is not None
    return core


def solve(bench: Workbench, name: str = "t", question: str = QUESTION, **more: Any) -> Answered:
    return adapt(Request(question, name, seed=3, **more), bench)


def samples_of(answered: Answered, bench: Workbench) -> tuple[SampleContent, ...]:
    content = parse_canonical(bench.ledger.artifact(answered.change.entry, "samples"))
    return SamplesContent.model_validate(content).samples


def delta_of(answered: Answered, bench: Workbench) -> Adapter:
    return bench.learner.read_adapter(delta_files(bench.ledger, answered.change))


def distance(one: Adapter, other: Adapter) -> float:
    squares = [(one.tensors[name] - tensor).square().sum() for name, tensor in other.tensors.items()]
    return float(torch.stack(squares).sum().sqrt())


def check_record(answered: Answered, bench: Workbench, folder: Path) -> None:
    """What the leaf and the artifacts say is what the core is."""
    core, body, samples = core_of(bench), answered.change.body, samples_of(answered, bench)
    assert (body.update.outcome, body.update.steps) == ("stepped", core.steps)
    assert body.synthesis.generated == len(samples) == core.samples
    assert body.synthesis.scorer == core.scorer_digest is not None
    assert body.synthesis.generator == body.parents.parent_state
    assert body.update.step_sizes == step_sizes_digest(core.step_sizes)
    assert body.parents.base_model == base_digest(folder)
    shares = [0.0 if sample.dropped_by else math.exp(sample.score or 0.0) for sample in samples]
    assert len({sample.score for sample in samples} - {None}) > 1
    for sample, share in zip(samples, shares, strict=True):
        assert sample.weight == pytest.approx(share / sum(shares), rel=1e-9)


def check_replays(answered: Answered, bench: Workbench) -> None:
    for start in STARTS:
        replayed = replay(answered.change.change_id, start, bench)
        assert replayed.verdict == "equal", (start, replayed)
        assert [stage.stage for stage in replayed.stages] == list(STAGES)
    assert verify(bench.ledger).ok


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_core_over_any_model_solves_is_recorded_and_replays(
    architecture: str, tmp_path: Path, open_bench: Open
) -> None:
    folder = cored(make_talkative(tmp_path / "plain", architecture), tmp_path / "cored", samples=48)
    bench = open_bench(folder)
    answered = solve(bench)
    check_record(answered, bench, folder)
    check_replays(answered, bench)


def test_a_core_over_the_shipped_model_solves_is_recorded_and_replays(tmp_path: Path, open_bench: Open) -> None:
    core = make_core(reference_folder())
    folder = cored(
        reference_folder(), tmp_path / "cored", samples=8, max_new_tokens=100, temperature=1.0, scorer=core.scorer
    )
    bench = open_bench(folder)
    (task,) = sample_tasks(1, 5)
    answered = solve(bench, question=task.question)
    check_record(answered, bench, folder)
    check_replays(answered, bench)


def test_the_first_change_contains_the_learned_start_and_a_later_one_starts_from_the_promoted_state(
    folder: Path, open_bench: Open
) -> None:
    bench = open_bench(folder)
    first = solve(bench, "one")
    start, delta = core_of(bench).adapter, delta_of(first, bench)
    unlearned = bench.learner.initial_adapter(replace(core_of(bench).lora, initial=None))
    assert 0 < distance(delta, start) < distance(delta, unlearned)
    update = first.change.body.update
    assert update.step_norm is not None and update.cumulative_norm is not None
    if first.change.status == "held":
        approve(bench.ledger, first.change.change_id, ALICE, "looked at it")
    promote(bench.ledger, first.change.change_id, ALICE, "good")
    second = solve(bench, "two", "what is 8?")
    assert second.change.body.parents.parent_state == second.change.body.synthesis.generator == update.state
    assert distance(delta_of(second, bench), delta) < distance(delta_of(second, bench), start)
    check_record(second, bench, folder)
    check_replays(second, bench)


def test_no_valid_sample_leaves_the_base_without_the_learned_start(
    tiny_model: Callable[[str], Path], tmp_path: Path, open_bench: Open
) -> None:
    bench = open_bench(cored(tiny_model("llama"), tmp_path / "cored"))  # random weights write nothing that parses
    answered = solve(bench)
    body = answered.change.body
    assert (body.update.outcome, body.update.state) == ("no_valid_samples", bench.base_state)
    assert body.synthesis.scorer == core_of(bench).scorer_digest
    assert answered.served_from == "base"
    check_replays(answered, bench)


def test_what_the_requester_supplies_is_scored_by_nobody_and_weighs_alike(folder: Path, open_bench: Open) -> None:
    bench = open_bench(folder)
    answered = solve(bench, forced=(ForcedSample("3+4", "so ^ 7"), ForcedSample("20-5", "so ^ 15")))
    assert answered.change.body.synthesis.scorer is None
    assert [(sample.score, sample.weight) for sample in samples_of(answered, bench)] == [(None, 0.5)] * 2
    assert answered.change.body.update.step_sizes == step_sizes_digest(core_of(bench).step_sizes)
    check_replays(answered, bench)


def test_scratch_working_is_recorded_and_never_trained_on(folder: Path, open_bench: Open) -> None:
    template = json.loads((folder / "prompt_template.json").read_bytes()) | {"scratch": "="}
    (folder / "prompt_template.json").write_text(json.dumps(template))
    bench = open_bench(folder)
    shown = solve(bench, "shown", forced=(ForcedSample("3+4=three and four", "so ^ 7"),))
    (sample,) = samples_of(shown, bench)
    assert (sample.text, sample.question) == ("3+4=three and four~so ^ 7", "3+4")
    plain = solve(bench, "plain", forced=(ForcedSample("3+4", "so ^ 7"),))
    assert shown.change.body.update.delta == plain.change.body.update.delta is not None
    check_replays(shown, bench)


def test_a_core_without_a_scorer_weighs_alike(folder: Path, open_bench: Open, tmp_path: Path) -> None:
    bench = open_bench(cored(tmp_path / "plain", tmp_path / "no-scorer", samples=48, scorer=None))
    answered = solve(bench)
    assert answered.change.body.synthesis.scorer is None
    weights = {sample.weight for sample in samples_of(answered, bench) if not sample.dropped_by}
    assert weights == {1 / answered.change.body.synthesis.kept}
    check_replays(answered, bench)


@pytest.mark.parametrize("start", ["scratch", "samples"])
def test_a_forged_score_is_found_by_replay(
    start: Start, folder: Path, open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed, weighed accordingly and consistent, but not what the scorer says: only scoring again can tell."""

    def flattering(*arguments: Any, **more: Any) -> SamplesContent:
        scored = synthesis.score(*arguments, **more)
        raised = [sample.model_copy(update={"score": float(sample.index)}) for sample in scored.samples]
        return scored.model_copy(update={"samples": tuple(raised)})

    bench = open_bench(folder)
    monkeypatch.setattr(adapt_flow, "score", flattering)
    answered = solve(bench)
    monkeypatch.undo()
    assert verify(bench.ledger).ok
    replayed = replay(answered.change.change_id, start, bench)
    assert (replayed.verdict, replayed.first_difference) == ("differs", "gates")


def test_weights_that_are_not_the_scores_own_are_found_without_a_model(
    folder: Path, open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mass_gov.stages import gates

    def alike(samples: Any, *rest: Any) -> tuple[SampleContent, ...]:
        judged = judge_samples([sample.model_copy(update={"score": None}) for sample in samples], *rest)
        return tuple(one.model_copy(update={"score": s.score}) for one, s in zip(judged, samples, strict=True))

    bench = open_bench(folder)
    monkeypatch.setattr(gates, "judge_samples", alike)
    answered = solve(bench)
    monkeypatch.undo()
    report = verify(bench.ledger)
    assert not report.ok and report.first_wrong is not None
    assert report.first_wrong.change_id == answered.change.change_id
    assert "weight" in report.first_wrong.what


@pytest.mark.parametrize("forged", [None, "0" * 64])
def test_a_leaf_that_hides_or_invents_a_scorer_is_found_without_a_model(
    forged: str | None, folder: Path, open_bench: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = forged is not None
    bench = open_bench(tmp_path / "plain" if plain else folder)
    monkeypatch.setattr(adapt_flow, "scorer_of", lambda *_: forged)
    solve(bench)
    monkeypatch.undo()
    report = verify(bench.ledger)
    assert not report.ok and report.first_wrong is not None
    assert "scored" in report.first_wrong.what
