"""What would have come out otherwise, on the trained core that ships: one thing changed, nothing written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mass_gov.config import load_settings
from mass_gov.errors import InputError
from mass_gov.flows import counterfactual as flow
from mass_gov.flows.adapt import adapt
from mass_gov.flows.counterfactual import Otherwise, attribute, counterfactual
from mass_gov.flows.evaluation.ranks import spearman
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.workbench import Workbench
from mass_gov.mass.values import TrainingSample, UpdateSettings
from mass_gov.policy import load_policy
from mass_gov.policy.sample_weights import weigh
from mass_gov.records.artifacts import SamplesContent
from mass_gov.stages.synthesis import ForcedSample
from mass_gov.tasks.registry import sample_tasks
from mass_gov.wiring import initialise, open_workbench, recommended_spec
from tests.fakes.ledger_world import shipped_policy
from tests.fakes.policies import lean_policy, lean_source

SOLO = shipped_policy("solo").document.samples
SHARED = SOLO.model_dump(mode="json", by_alias=True) | {"real_share": 0.25}
TASK = next(task for task in sample_tasks(12, seed=23) if task.domain == "operator")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    folder = tmp_path_factory.mktemp("counterfactual")
    settings = load_settings(home=folder / "home", principal="alice")
    initialise(settings, lean_policy(folder))[0].close()
    made = open_workbench(settings, recommended_spec(settings))
    with made.ledger:
        yield made


@pytest.fixture(scope="module")
def change(bench: Workbench) -> Answered:
    return adapt(Request(TASK.question, "task", seed=5), bench)


@pytest.fixture
def nothing_is_written(bench: Workbench, change: Answered) -> Iterator[None]:
    del change  # recorded before
    before = bench.ledger.size
    yield
    assert bench.ledger.size == before


def kept(change: Answered, bench: Workbench) -> list[int]:
    content = SamplesContent.model_validate_json(bench.ledger.artifact(change.change.entry, "samples"))
    return [sample.index for sample in content.samples if sample.weight > 0]


@pytest.mark.usefixtures("nothing_is_written")
def test_without_a_sample_everything_after_it_is_computed_anew(bench: Workbench, change: Answered) -> None:
    dropped = kept(change, bench)[:2]
    found = counterfactual(change.change, Otherwise(left_out=tuple(dropped)), bench)
    assert found.reproduced
    assert found.recorded.decision == change.change.body.decision
    assert found.otherwise.kept <= found.recorded.kept - 1  # a near-duplicate of a dropped one may stand in for it
    assert found.otherwise.step_norm != found.recorded.step_norm


def test_a_sample_that_was_dropped_anyway_changes_nothing_that_matters(bench: Workbench, change: Answered) -> None:
    every = range(change.change.body.synthesis.generated)
    unused = next(index for index in every if index not in kept(change, bench))
    found = counterfactual(change.change, Otherwise(left_out=(unused,)), bench)
    assert (found.decision_differs, found.served_differs, found.answer_differs) == (False, False, False)


def test_without_the_scorer_all_kept_samples_weigh_the_same(bench: Workbench, change: Answered) -> None:
    found = counterfactual(change.change, Otherwise(unscored=True), bench)
    assert found.reproduced
    assert found.otherwise.step_norm != found.recorded.step_norm


@pytest.mark.usefixtures("nothing_is_written")
def test_another_seed_writes_other_samples(bench: Workbench, change: Answered) -> None:
    same = counterfactual(change.change, Otherwise(seed=5), bench)
    assert same.reproduced
    assert same.otherwise == same.recorded
    other = counterfactual(change.change, Otherwise(seed=6), bench)
    assert other.otherwise != other.recorded


def test_another_policy_decides_otherwise(bench: Workbench, change: Answered) -> None:
    strict = load_policy(lean_source({"update.steps": {"limit": 0, "on_fail": "reject"}}))
    found = counterfactual(change.change, Otherwise(policy=strict), bench)
    assert found.reproduced
    assert found.decision_differs
    assert found.otherwise.decision.verdict == "reject"
    assert (found.otherwise.served_from, found.answer_differs) == ("base", False)


def test_a_control_that_fails_is_said(bench: Workbench, change: Answered, monkeypatch: pytest.MonkeyPatch) -> None:
    real = flow.compute_again
    seeds = iter((99, 6))
    monkeypatch.setattr(flow, "compute_again", lambda *a, **k: real(*a, **k | {"seed": next(seeds)}))
    assert not counterfactual(change.change, Otherwise(seed=6), bench).reproduced


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (Otherwise(), "exactly one"),
        (Otherwise(seed=1, unscored=True), "exactly one"),
        (Otherwise(left_out=(999,)), "no sample 999"),
    ],
)
def test_what_cannot_be_asked_is_refused(bench: Workbench, change: Answered, asked: Otherwise, why: str) -> None:
    with pytest.raises(InputError, match=why):
        counterfactual(change.change, asked, bench)


@pytest.mark.usefixtures("nothing_is_written")
def test_attribution_stands_beside_leaving_each_sample_out(bench: Workbench, change: Answered) -> None:
    found = attribute(change.change, bench)
    effects = found.effects
    assert found.reproduced
    assert [effect.index for effect in effects] == kept(change, bench)
    assert spearman([one.attribution or 0.0 for one in effects], [one.leave_one_out for one in effects]) > 0.8
    assert min(effect.leave_one_out for effect in effects) < 0  # something made the answer likelier
    # A softmax moves nothing as a whole.
    assert sum(effect.attribution or 0.0 for effect in effects) == pytest.approx(0.0, abs=1e-5)


def test_supplied_samples_have_neither_seed_nor_scorer(bench: Workbench) -> None:
    samples = [ForcedSample("3+4", "#7"), ForcedSample("5+4", "#9")]
    forced = adapt(Request(TASK.question, "forced", seed=5, forced=samples), bench).change
    before = bench.ledger.size
    for asked, why in ((Otherwise(seed=1), "supplied the samples"), (Otherwise(unscored=True), "without a scorer")):
        with pytest.raises(InputError, match=why):
            counterfactual(forced, asked, bench)
    assert counterfactual(forced, Otherwise(left_out=(0,)), bench).reproduced
    assert bench.ledger.size == before


def test_a_change_for_a_deployment_is_served_as_it_was_and_no_window_is_invented(tmp_path: Path) -> None:
    """What applies serves the adapted answer, whatever it was for; and where no window was recorded, none passes."""
    settings = load_settings(home=tmp_path / "home", principal="alice")
    scopes = ("instance", "deployment")
    initialise(settings, lean_policy(tmp_path, scopes=scopes))[0].close()
    bench = open_workbench(settings, recommended_spec(settings))
    with bench.ledger:
        done = adapt(Request(TASK.question, "task", scope="deployment", seed=5), bench)
        assert done.change.status == "active" and done.served_from == "adapted"
        window = {"window.distinct_2": {"limit": 0.01, "window": 4, "on_fail": "hold"}}
        watched = load_policy(lean_source(window, scopes=scopes))
        found = counterfactual(done.change, Otherwise(policy=watched), bench)
        assert found.recorded.served_from == "adapted"
        gate = next(gate for gate in found.otherwise.decision.violated if "distinct" in gate)
        assert gate == "window.distinct_2"
        assert found.otherwise.decision.verdict == "hold" and found.otherwise.served_from != "adapted"


def test_attribution_under_a_real_share_is_the_derivative_by_a_score(tmp_path: Path) -> None:
    """Anchors have no score: what a policy gives them moves with nobody's. Held against finite differences."""
    settings = load_settings(home=tmp_path / "home", principal="alice")
    initialise(settings, lean_policy(tmp_path, samples=SHARED))[0].close()
    bench = open_workbench(settings, recommended_spec(settings))
    with bench.ledger:
        done = adapt(Request(TASK.question, "task", seed=5), bench)
        content = SamplesContent.model_validate_json(bench.ledger.artifact(done.change.entry, "samples"))
        learned = [sample for sample in content.samples if sample.weight > 0]
        assert any(sample.real for sample in learned)
        found = attribute(done.change, bench)
        assert found.reproduced
        by_index = {one.index: one for one in found.effects}
        assert all((by_index[one.index].attribution is None) == one.real for one in learned)
        assert sum(one.attribution or 0.0 for one in found.effects) == pytest.approx(0.0, abs=1e-5)
        learner, spec, target = bench.learner, bench.spec.update, (TASK.question, done.answer.adapted.text)  # type: ignore[union-attr]
        update = UpdateSettings(
            spec.steps, spec.step_size, tuple(sorted((spec.step_sizes or {}).items())), spec.softening
        )
        start = flow.origin_of(bench, done.change.body.parents.parent_state, None).start
        own = [one for one in learned if not one.real]
        nudged = max(own, key=lambda one: abs(by_index[one.index].attribution or 0.0))

        def loss(step: float) -> float:
            scores = [(one.score or 0.0) + (step if one is nudged else 0.0) for one in own]
            weights = dict(zip([one.index for one in own], weigh(scores, None, SHARED["real_share"]), strict=True))
            training = [
                TrainingSample(one.question or "", one.solution or "", weights.get(one.index, one.weight))
                for one in learned
            ]
            (losses,) = learner.nll([target], learner.update(training, start, update).adapter)
            return sum(losses) / len(losses)

        slope = (loss(0.05) - loss(-0.05)) / 0.1
        assert by_index[nudged.index].attribution == pytest.approx(slope, rel=0.05)


def test_attribution_of_weights_that_this_machine_does_not_make_says_so(
    bench: Workbench, change: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = type(bench.learner).update

    def elsewhere(self: Any, samples: Any, adapter: Any, settings: Any) -> Any:
        found = update(self, samples, adapter, settings)
        moved = {name: tensor + 1e-6 for name, tensor in found.adapter.tensors.items()}
        return replace(found, adapter=replace(found.adapter, tensors=moved))

    monkeypatch.setattr(type(bench.learner), "update", elsewhere)
    assert not attribute(change.change, bench).reproduced
