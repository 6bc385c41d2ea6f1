"""Gates on what an update does and on what the log says, on a real tiny model: each stops and lets pass; all replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mass_gov.config import load_settings
from mass_gov.errors import PausedError
from mass_gov.evidence.canonical import parse_canonical
from mass_gov.flows import drafting
from mass_gov.flows.adapt import adapt
from mass_gov.flows.approve import approve, promote
from mass_gov.flows.audit import verify
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.replay import replay
from mass_gov.flows.replay_report import Start
from mass_gov.flows.respond import Responded, adapt_or_respond
from mass_gov.flows.rollback import rollback
from mass_gov.flows.standing import depth_of
from mass_gov.flows.workbench import Workbench
from mass_gov.policy import rederive
from mass_gov.policy.standing import NEVER
from mass_gov.records.artifacts import UpdateContent
from mass_gov.records.change import Measure
from mass_gov.records.events import AccessDenied, Actor
from mass_gov.records.settings import AdaptationSpec, AnswerSpec, SamplingSpec, UpdateSpec
from mass_gov.stages.synthesis import ForcedSample
from mass_gov.wiring import initialise, open_workbench
from tests.fakes.clock import Clock
from tests.fakes.policies import lean_source

SPEC = AdaptationSpec(
    sampling=SamplingSpec(max_new_tokens=12),
    update=UpdateSpec(step_size=0.02),
    answer=AnswerSpec(max_new_tokens=8),
)
ALICE = Actor(principal="alice", role="operator")
HOLD = {"on_fail": "hold"}
WIDE: dict[str, dict[str, Any]] = {
    "update.spectral_norm": {"limit": 10.0, **HOLD},
    "update.cumulative_spectral_norm": {"limit": 10.0, **HOLD},
    "update.anchor_kl": {"limit": 100.0, **HOLD},
    "update.anchor_kl_p99": {"limit": 100.0, **HOLD},
    "update.loss_jump": {"limit": 100.0, **HOLD},
    "update.generation_depth": {"limit": 100.0, **HOLD},
    "update.budget": {"changes_per_hour": 1000, "flops_per_hour": 1e15, **HOLD},
    "update.cooldown": {"limit": 60.0, **HOLD},
}
"""Every gate in use, and nothing beyond its limit."""
NARROW: dict[str, dict[str, Any]] = {
    "update.spectral_norm": {"limit": 1e-9, **HOLD},
    "update.cumulative_spectral_norm": {"limit": 1e-9, **HOLD},
    "update.anchor_kl": {"limit": 0.0, **HOLD},
    "update.anchor_kl_p99": {"limit": 0.0, **HOLD},
    "update.generation_depth": {"limit": 0.0, **HOLD},
    "update.budget": {"changes_per_hour": 1000, "flops_per_hour": 1.0, **HOLD},
}
"""Each gate with a limit that a real update is beyond."""
Open = Callable[..., Workbench]


def both_engines(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.both_engines(pytest.mark.usefixtures("engine_settings")(test))


@pytest.fixture
def open_bench(
    tmp_path: Path, tiny_model: Callable[[str], Path], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    monkeypatch.setattr("mass_gov.wiring.now", clock)
    opened: list[Workbench] = []

    def make(gates: dict[str, Any], tenant: str = "local", **parts: Any) -> Workbench:
        home = tmp_path / "home"
        settings = load_settings(home=home, model=tiny_model("llama"), principal="alice", tenant=tenant)
        if not opened:
            path = tmp_path / "policy.yaml"
            path.write_bytes(lean_source(gates, **parts))
            initialise(settings, str(path))[0].close()
        opened.append(open_workbench(settings, SPEC))
        return opened[-1]

    yield make
    for bench in opened:
        bench.ledger.close()


def request(bench: Workbench, name: str, **more: Any) -> Request:
    marker = bench.learner.template.marker
    samples = tuple(ForcedSample(q, f"so {marker} {a}") for q, a in ((f"{name}+1", "3"), ("20-5", "15")))
    return Request(f"what is {name}?", name, seed=7, forced=samples, **more)


def practise(bench: Workbench, name: str, **more: Any) -> Answered:
    return adapt(request(bench, name, **more), bench)


def measured(answered: Answered) -> dict[str, Measure]:
    return {measure.name: measure for measure in answered.change.body.measures or ()}


def gates_of(answered: Answered) -> dict[str, str]:
    return {gate.name: gate.verdict for gate in answered.change.body.gates}


# --- each gate, on a real update ---


@pytest.mark.parametrize("name", NARROW)
def test_each_gate_alone_stops_a_real_update_and_verify_derives_it(name: str, open_bench: Open) -> None:
    bench = open_bench({**WIDE, name: NARROW[name]})
    answered = practise(bench, "7") if name != "update.budget" else practise_unasked(bench, "7")
    assert gates_of(answered)[name] == "fail"
    assert answered.change.body.decision.violated == (name,)
    assert verify(bench.ledger).ok


def practise_unasked(bench: Workbench, name: str) -> Answered:
    """A first change is never refused for FLOPs that nobody spent yet: the gate finds that it alone costs too much."""
    answered = adapt_or_respond(request(bench, name), bench)
    assert isinstance(answered, Answered)
    return answered


def test_all_gates_in_use_let_an_ordinary_update_pass(open_bench: Open) -> None:
    bench = open_bench(WIDE)
    answered = practise(bench, "7")
    assert answered.change.status == "applied", answered.change.body.decision
    found = measured(answered)
    assert set(WIDE) - {"update.budget"} <= set(found)
    assert all(measure.value is not None for measure in found.values())
    summary = answered.change.body.update
    assert summary.anchor_kl == found["update.anchor_kl"].value
    assert found["update.anchor_kl"].n > 0
    assert found["update.cooldown"] == Measure(name="update.cooldown", value=NEVER, n=0)
    assert found["update.budget.flops"].value == float(answered.change.body.cost.flops)
    assert verify(bench.ledger).ok


def test_nothing_is_measured_and_nothing_new_is_written_where_no_policy_asks(open_bench: Open) -> None:
    body = practise(open_bench({}), "7").change.body
    assert body.measures is None
    assert body.log_size is None
    assert "measures" not in body.document()
    assert "log_size" not in body.document()


@pytest.mark.parametrize("start", ["scratch", "samples", "delta"])
def test_a_change_with_every_gate_in_use_replays_to_the_bit(start: Start, open_bench: Open, clock: Clock) -> None:
    bench = open_bench(WIDE)
    practise(bench, "6")
    answered = practise(bench, "7")
    practise(bench, "8")
    clock.add(10_000)  # a replay asks what the log said then, not what it says now
    replayed = replay(answered.change.change_id, start, bench)
    assert replayed.verdict == "equal", replayed


# --- projection ---


PROJECTED = {"update": {"projection": "always", "trust_radius": 0.001}}


@pytest.mark.parametrize("start", ["scratch", "samples", "delta"])
def test_a_projected_step_keeps_both_norms_and_replays(start: Start, open_bench: Open) -> None:
    bench = open_bench(WIDE, **PROJECTED)
    answered = practise(bench, "7")
    update = answered.change.body.update
    assert update.projected
    assert update.step_norm is not None
    assert update.projected_norm is not None
    assert update.projected_norm <= 0.001 < update.step_norm
    content = UpdateContent.model_validate(parse_canonical(bench.ledger.artifact(answered.change.entry, "update")))
    assert content.largest_projected_norm() == update.projected_norm
    assert replay(answered.change.change_id, start, bench).verdict == "equal"
    assert verify(bench.ledger).ok


def test_the_norm_gate_judges_the_step_as_taken_whatever_projection_leaves(open_bench: Open) -> None:
    bench = open_bench(WIDE, **PROJECTED)
    free = practise(bench, "7").change.body.update
    gate = next(g for g in practise(bench, "7").change.body.gates if g.name == "update.step_norm")
    assert gate.value == free.step_norm


def test_a_projected_step_of_scope_deployment_waits_for_a_person(open_bench: Open) -> None:
    bench = open_bench(WIDE, **PROJECTED)
    answered = practise(bench, "7", scope="deployment")
    assert answered.change.body.update.projected
    assert answered.change.status == "held"


def test_a_step_inside_the_trust_region_is_the_same_bits_as_without_one(open_bench: Open, tmp_path: Path) -> None:
    bench = open_bench(WIDE, update={"projection": "always", "trust_radius": 10.0})
    update = practise(bench, "7").change.body.update
    assert (update.projected, update.projected_norm) == (False, None)


# --- generation depth ---


def test_depth_counts_the_updates_that_a_state_stands_on(open_bench: Open) -> None:
    bench = open_bench(WIDE)
    depths = []
    for name in ("5", "6", "7"):
        answered = practise(bench, name)
        depths.append(measured(answered)["update.generation_depth"].value)
        promote(bench.ledger, answered.change.change_id, ALICE, "as the next state")
    assert depths == [1.0, 2.0, 3.0]
    rollback(bench.ledger, answered.change.change_id, ALICE, "no")
    assert verify(bench.ledger).ok


def test_a_depth_that_was_not_recorded_is_counted_along_the_lineage(open_bench: Open) -> None:
    bench = open_bench({})
    for name in ("5", "6"):
        promote(bench.ledger, practise(bench, name).change.change_id, ALICE, "as the next state")
    state = bench.ledger.pointer(bench.tenant, bench.deployment).state
    assert state is not None
    assert depth_of(state, bench.base_state, bench.ledger) == 2


# --- budget ---

THREE = {"update.budget": {"changes_per_hour": 3, "flops_per_hour": 1e15, **HOLD}}


def test_a_spent_budget_answers_un_adapted_computes_nothing_and_leaves_a_denial(open_bench: Open, clock: Clock) -> None:
    bench = open_bench(THREE)
    for name in ("5", "6", "7"):
        assert isinstance(adapt_or_respond(request(bench, name), bench), Answered)
    with pytest.raises(PausedError, match="spent its 3 changes"):
        adapt(request(bench, "8"), bench)
    denial = bench.ledger.entry(bench.ledger.size - 1).predicate.body
    assert isinstance(denial, AccessDenied)
    assert (denial.action, denial.policy) == ("learn", bench.policy.digest)
    answered = adapt_or_respond(request(bench, "8"), bench)
    assert isinstance(answered, Responded)
    assert answered.note is not None
    assert "spent its 3 changes" in answered.note
    assert len(bench.ledger.changes()) == 3
    clock.add(3601)
    assert isinstance(adapt_or_respond(request(bench, "8"), bench), Answered)
    assert verify(bench.ledger).ok


def test_a_repeated_task_is_recalled_also_when_the_budget_is_spent(open_bench: Open) -> None:
    bench = open_bench(THREE)
    for name in ("5", "6", "7"):
        practise(bench, name)
    assert practise(bench, "5").repeated


@both_engines
def test_one_tenant_cannot_spend_anothers_budget(open_bench: Open) -> None:
    first = open_bench(THREE)
    for name in ("5", "6", "7"):
        practise(first, name)
    second = open_bench(THREE, tenant="other")
    assert isinstance(adapt_or_respond(request(second, "5"), second), Answered)
    assert isinstance(adapt_or_respond(request(first, "8"), first), Responded)
    assert measured(practise(second, "6"))["update.budget.changes"].value == 2.0
    assert verify(second.ledger).ok


def test_a_clock_that_is_set_back_refills_no_budget(open_bench: Open, clock: Clock) -> None:
    bench = open_bench(THREE)
    for name in ("5", "6", "7"):
        practise(bench, name)
    clock.add(-86_400)
    assert isinstance(adapt_or_respond(request(bench, "8"), bench), Responded)


def test_the_gate_stops_what_was_under_way_when_the_budget_ran_out(open_bench: Open) -> None:
    """Two processes ask at once: neither knew of the other when it began, and the second is recorded as beyond it."""
    bench = open_bench({"update.budget": {"changes_per_hour": 1, "flops_per_hour": 1e15, **HOLD}})
    practise(bench, "5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mass_gov.flows.adapt.refuse_paused", lambda scope, bench: None)
        late = practise(bench, "6")
    assert late.change.body.decision.violated == ("update.budget",)
    assert late.change.status == "held"
    assert verify(bench.ledger).ok


# --- cooldown ---


@both_engines
def test_after_a_rollback_learning_waits_and_then_goes_on(open_bench: Open, clock: Clock) -> None:
    bench = open_bench({"update.cooldown": {"limit": 600.0, **HOLD}})
    first = practise(bench, "5")
    rollback(bench.ledger, first.change.change_id, ALICE, "wrong")
    paused = adapt_or_respond(request(bench, "6"), bench)
    assert isinstance(paused, Responded)
    assert paused.note is not None
    assert "cools down" in paused.note
    other = replace(bench, deployment="elsewhere")
    assert isinstance(adapt_or_respond(request(other, "6"), other), Answered)
    clock.add(601)
    answered = adapt_or_respond(request(bench, "6"), bench)
    assert isinstance(answered, Answered)
    cooled = measured(answered)["update.cooldown"]
    assert cooled.value is not None
    assert 600 < cooled.value < 700
    assert verify(bench.ledger).ok


# --- what verify finds ---


@pytest.mark.parametrize(
    "name", ["update.budget.changes", "update.generation_depth", "update.cooldown", "update.anchor_kl"]
)
def test_a_measure_that_is_not_what_log_or_artifact_give_is_found(
    name: str, open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds the signing key can write what they like: verify derives it again, and so does a replay."""
    bench = open_bench(WIDE)
    practise(bench, "5")
    honest = drafting.ChangeBody

    def lie(**fields: Any) -> Any:
        body = honest(**fields)
        lied = tuple(
            measure.model_copy(update={"value": 0.5}) if measure.name == name else measure
            for measure in body.measures or ()
        )
        changed = body.model_copy(update={"measures": lied})
        gates, decision = rederive(changed, bench.policy)
        return changed.model_copy(update={"gates": gates, "decision": decision})

    monkeypatch.setattr(drafting, "ChangeBody", lie)
    lying = practise(bench, "6").change
    report = verify(bench.ledger)
    assert not report.ok
    assert report.first_wrong is not None
    assert name in report.first_wrong.what
    replayed = replay(lying.change_id, "scratch", bench)
    assert (replayed.verdict, replayed.first_difference) == ("differs", "decision")
    assert replayed.difference is not None and replayed.difference.at == (("measure", name),)
    assert replayed.difference.recorded == 0.5


def test_a_held_change_can_still_be_approved(open_bench: Open) -> None:
    bench = open_bench({**WIDE, "update.anchor_kl": {"limit": 0.0, **HOLD}})
    answered = practise(bench, "7")
    assert answered.change.status == "held"
    approve(bench.ledger, answered.change.change_id, ALICE, "looked at it")
    assert bench.ledger.change(answered.change.change_id).status == "applied"
