"""The sample gates in the sentence, on a tiny random model: measured, judged, recorded, replayed, found when forged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mass_gov.config import load_settings
from mass_gov.evidence.canonical import parse_canonical
from mass_gov.flows import adapt as adapt_flow
from mass_gov.flows.adapt import adapt
from mass_gov.flows.audit import verify
from mass_gov.flows.calibration_samples import REAL, sample_statistics
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.replay import replay
from mass_gov.flows.replay_report import Start
from mass_gov.flows.workbench import Workbench
from mass_gov.mass.learner import Learner
from mass_gov.mass.values import Generation, Reading
from mass_gov.policy.sample_gates import personal_data, secrets
from mass_gov.policy.sample_gates.recognising import look
from mass_gov.records.artifacts import SampleContent, SamplesContent
from mass_gov.records.settings import AdaptationSpec, AnswerSpec, SamplingSpec, UpdateSpec
from mass_gov.stages.synthesis import ForcedSample, synthesise
from mass_gov.tasks.anchors import parse_pool, shipped_pool
from mass_gov.tasks.registry import sample_tasks
from mass_gov.wiring import initialise, open_workbench, recommended_spec
from tests.fakes.policies import policy_source

SPEC = AdaptationSpec(
    sampling=SamplingSpec(max_new_tokens=12), update=UpdateSpec(step_size=0.02), answer=AnswerSpec(max_new_tokens=8)
)
WIDE = {"limit": 1.0, "on_fail": "hold"}
EVERY: dict[str, Any] = {
    "sample.contamination": {**WIDE, "similarity": 0.8},
    "sample.personal_data": WIDE,
    "sample.secrets": WIDE,
    "sample.perplexity": {**WIDE, "low": 0.0, "high": 1000.0},
    "sample.agreement": {**WIDE, "resolves": 3, "agreement": 0.0},
    "update.distinct_2": {"limit": 0.1, "on_fail": "hold"},
    "update.self_bleu": {"limit": 0.99, "on_fail": "hold"},
    "update.real_share": {"limit": 0.25, "on_fail": "hold"},
}
MIXED = {"real_share": 0.25, "importance_weights": True}
GOOD, BAD = ForcedSample("7+5", "so {} 12"), ForcedSample("mail a@example.org", "so {} 12")
STARTS: tuple[Start, ...] = ("scratch", "samples", "delta")
Open = Callable[..., Workbench]


@pytest.fixture
def open_bench(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Iterator[Open]:
    opened: list[Workbench] = []

    def make(gates: dict[str, Any] = EVERY, samples: dict[str, Any] = MIXED, **parts: Any) -> Workbench:
        policy = tmp_path / "policy.yaml"
        policy.write_bytes(policy_source(gates, samples=samples, **parts))
        settings = load_settings(home=tmp_path / "home", model=tiny_model("llama"), principal="alice")
        initialise(settings, str(policy))[0].close()
        opened.append(open_workbench(settings, SPEC))
        return opened[-1]

    yield make
    for bench in opened:
        bench.ledger.close()


def solve(bench: Workbench, *forced: ForcedSample, name: str = "one") -> Answered:
    marker = bench.learner.template.marker
    given = [ForcedSample(one.question, one.solution.format(marker)) for one in forced or (GOOD, BAD)]
    given += [] if forced else [ForcedSample("90-1", f"so {marker} 89"), ForcedSample("2*8", f"so {marker} 16")]
    return adapt(Request(f"what is {name}?", name, seed=7, forced=tuple(given)), bench)


def content_of(answered: Answered, bench: Workbench) -> SamplesContent:
    return SamplesContent.model_validate(parse_canonical(bench.ledger.artifact(answered.change.entry, "samples")))


def test_every_gate_together_is_recorded_verifies_and_replays_from_everywhere(open_bench: Open) -> None:
    bench = open_bench()
    answered = solve(bench)
    body, content = answered.change.body, content_of(answered, bench)
    own = [sample for sample in content.samples if not sample.real]
    real = [sample for sample in content.samples if sample.real]
    assert body.synthesis.dropped == {
        name: int(name == "sample.personal_data") for name in EVERY if name.startswith("sample.")
    }
    assert [sample.dropped_by for sample in own] == [(), ("sample.personal_data",), (), ()]
    for sample in own:
        measures = sample.measures or {}
        assert isinstance(measures["perplexity"], float) and measures["perplexity"] > 0
        assert ("agreement" in measures) == ("density_ratio" in measures) == (not sample.dropped_by)
    assert len(real) == 2 and content.anchor_pool == shipped_pool().digest  # a quarter beside four: 4 / 3
    assert sum(sample.weight for sample in real) == pytest.approx(0.25)
    assert {measure.name for measure in body.measures or ()} == {name for name in EVERY if name.startswith("update.")}
    assert {gate.name: gate.verdict for gate in body.gates if gate.name in EVERY} == dict.fromkeys(EVERY, "pass")
    assert "agreement" in body.cost.seconds
    assert verify(bench.ledger).ok
    for start in STARTS:
        assert replay(answered.change.change_id, start, bench).verdict == "equal", start


def test_what_no_policy_asks_for_is_not_computed(open_bench: Open) -> None:
    bench = open_bench({}, {"real_share": 0.0, "importance_weights": False})
    answered = solve(bench)
    body, content = answered.change.body, content_of(answered, bench)
    assert body.measures is None and body.synthesis.dropped is None and content.anchor_pool is None
    assert all(sample.measures is None and not sample.real for sample in content.samples)
    assert "agreement" not in body.cost.seconds
    assert b'"real"' not in bench.ledger.artifact(answered.change.entry, "samples")  # as it was before there were any


def test_a_number_that_is_not_finite_drops_its_sample(open_bench: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = open_bench()
    monkeypatch.setattr(Learner, "read_samples", lambda self, question, read: [Reading(math.nan, None)] * len(read))
    answered = solve(bench)
    assert answered.change.body.update.outcome == "no_valid_samples"
    dropped = {sample.dropped_by for sample in content_of(answered, bench).samples if not sample.real}
    assert dropped == {("sample.perplexity",), ("sample.personal_data",)}
    assert verify(bench.ledger).ok  # honest about it


@pytest.mark.parametrize("start", ["scratch", "samples"])
def test_a_forged_measure_is_found_by_replay(start: Start, open_bench: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = open_bench()
    real = Learner.read_samples
    halved = lambda self, *given: [replace(one, surprise=one.surprise / 2) for one in real(self, *given)]  # noqa: E731
    monkeypatch.setattr(Learner, "read_samples", halved)
    answered = solve(bench)
    monkeypatch.undo()
    assert verify(bench.ledger).ok  # its verdicts follow from it: only the model can tell
    replayed = replay(answered.change.change_id, start, bench)
    assert (replayed.verdict, replayed.first_difference) == ("differs", "gates")


def forged_after_judging(monkeypatch: pytest.MonkeyPatch, change: Callable[[SampleContent], SampleContent]) -> None:
    gate = adapt_flow.gate_samples

    def forging(*arguments: Any, **more: Any) -> Any:
        content, summary = gate(*arguments, **more)
        return content.model_copy(update={"samples": tuple(map(change, content.samples))}), summary

    monkeypatch.setattr(adapt_flow, "gate_samples", forging)


@pytest.mark.parametrize(
    ("forged", "said"),
    [
        ({"measures": {"perplexity": 2000.0, "agreement": 1.0, "density_ratio": 1.0}}, "gates"),
        ({"measures": {"perplexity": 2.0, "density_ratio": 1.0}}, "gates"),
        ({"measures": {"perplexity": 2.0, "agreement": 1.0, "density_ratio": 3.0}}, "weight"),
        ({"question": "mail b@example.org"}, "gates"),
        ({"dropped_by": ("sample.secrets",)}, "kept"),
    ],
)
def test_verdicts_that_the_samples_do_not_give_are_found_without_a_model(
    forged: dict[str, Any], said: str, open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = open_bench()
    forged_after_judging(monkeypatch, lambda one: one.model_copy(update=forged) if one.index == 0 else one)
    answered = solve(bench)
    monkeypatch.undo()
    report = verify(bench.ledger)
    assert not report.ok
    faults = [fault for step in report.steps for fault in step.faults]
    assert any(said in fault.what for fault in faults if fault.change_id == answered.change.change_id)


OF_SAMPLES = ("update.distinct_2", "update.self_bleu", "update.real_share")


def rule_over(name: str) -> dict[str, Any]:
    return {"name": "mine", "require": f"{name.replace('.', '_')} >= 0.0", "on_fail": "hold", "why": "Because."}


@pytest.mark.parametrize("name", OF_SAMPLES)
def test_what_a_rule_names_is_measured_though_no_gate_does_and_verified(name: str, open_bench: Open) -> None:
    bench = open_bench({}, {"real_share": 0.0, "importance_weights": False}, rules=[rule_over(name)])
    body = solve(bench).change.body
    assert [measure.name for measure in body.measures or ()] == [name]
    assert {gate.name: gate.verdict for gate in body.gates}["rule.mine"] == "pass"
    assert verify(bench.ledger).ok


@pytest.mark.parametrize("gates", [EVERY, {}], ids=["judged by a gate", "named by a rule"])
@pytest.mark.parametrize("name", OF_SAMPLES)
def test_a_measure_of_the_leaf_that_the_samples_do_not_give_is_found_without_a_model(
    name: str, gates: dict[str, Any], open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = open_bench(gates, {"real_share": 0.25, "importance_weights": False}, rules=[rule_over(name)])
    honest = adapt_flow.sample_measures

    def flattering(*arguments: Any) -> Any:
        return tuple(m.model_copy(update={"value": 0.5}) if m.name == name else m for m in honest(*arguments))

    monkeypatch.setattr(adapt_flow, "sample_measures", flattering)
    solve(bench)
    monkeypatch.undo()
    report = verify(bench.ledger)
    faults = [fault for step in report.steps for fault in step.faults]
    assert not report.ok and any("measures" in fault.what for fault in faults)


@pytest.mark.parametrize(
    ("gate", "settings", "samples"),
    [
        ("update.distinct_2", {"limit": 0.9, "on_fail": "hold"}, ("3+4+3+4+3+4", "8*9")),
        (
            "update.self_bleu",
            {"limit": 0.4, "on_fail": "hold"},
            ("what is the sum of 8 and 19", "what is the sum of 7 and 32"),
        ),
        ("update.real_share", {"limit": 0.3, "on_fail": "hold"}, ("3+4", "8*9")),
    ],
)
def test_an_update_gate_alone_stops_what_is_too_much_alike_or_too_little_real(
    gate: str, settings: dict[str, Any], samples: tuple[str, ...], open_bench: Open
) -> None:
    bench = open_bench({gate: settings})
    given = [ForcedSample(question, "so {} 7") for question in samples]
    gates = {g.name: g.verdict for g in solve(bench, *given).change.body.gates}
    assert [name for name, verdict in gates.items() if verdict == "fail" and name.startswith("update.")] == [gate]
    others = {"update.distinct_2": ("3+4", "8*9"), "update.self_bleu": ("3+4-1", "8*9"), "update.real_share": samples}
    if gate != "update.real_share":  # which other samples do not change
        more = [ForcedSample(question, "so {} 7") for question in others[gate]]
        passing = {g.name: g.verdict for g in solve(bench, *more, name="two").change.body.gates}
        assert passing[gate] == "pass"


def test_one_sample_has_nothing_to_be_compared_with_and_is_held(open_bench: Open) -> None:
    bench = open_bench({"update.self_bleu": {"limit": 1.0, "on_fail": "hold"}})
    change = solve(bench, GOOD).change
    (gate,) = [gate for gate in change.body.gates if gate.name == "update.self_bleu"]
    assert (gate.value, gate.verdict, change.status) == (None, "fail", "held")


def test_fresh_solutions_repeat_whichever_other_samples_are_asked_about(open_bench: Open) -> None:
    learner = open_bench().learner
    begun = [(0, "7+5\nSolution:"), (1, "9-4\nSolution:"), (2, "2*8\nSolution:")]

    def again(part: list[tuple[int, str]]) -> list[list[Generation]]:
        return learner.solve_again("what is 7?", part, None, count=4, seed=3, limit=6)

    all_three, last = again(begun), again(begun[2:])
    assert [one.tokens for one in all_three[2]] == [one.tokens for one in last[0]]
    assert len({one.tokens for one in all_three[0]}) > 1  # drawn, not repeated
    assert [one.tokens for one in again(begun)[1]] == [one.tokens for one in all_three[1]]


def test_surprise_is_the_base_s_mean_nll_of_what_was_written_after_the_practise_prompt(
    open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, task = open_bench().learner, "what is 7?"
    texts = ["7+5\nSolution: ####12", "what is nine minus four\nSolution: it is ####5"]
    together = learner.read_samples(task, [learner.as_written(text) for text in texts])
    # The same tokens by another way: a solver that is asked with the practise prompt.
    monkeypatch.setattr(learner._text, "template", replace(learner.template, solve=learner.template.practise))
    for text, reading in zip(texts, together, strict=True):
        (row,) = learner.nll([(task, text)], None)
        assert reading.surprise == pytest.approx(sum(row) / len(row), rel=1e-4)
        assert reading.score is None
    assert learner.read_samples(task, []) == []


def test_a_change_with_other_anchors_than_are_at_hand_is_said_to_be_unreadable(open_bench: Open) -> None:
    bench = open_bench()
    answered = solve(bench)
    other = parse_pool(b'{"question": "1+1", "working": "", "answer": "2"}')
    for start in STARTS:
        replayed = replay(answered.change.change_id, start, replace(bench, anchors=other))
        assert (replayed.verdict, replayed.first_difference) == ("not replayable", None)
        assert "anchors" in replayed.detail


def test_calibration_sees_what_the_gates_would_on_the_shipped_model(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home", principal="alice")
    bench = open_workbench(settings, recommended_spec(settings))
    try:
        found = sample_statistics(bench, sample_tasks(6, 17), resolves=2)
        written = [
            sample
            for place, task in enumerate(sample_tasks(6, 17))
            for sample in synthesise(bench.learner, task.question, None, place, bench.spec.sampling).samples
            if sample.question is not None
        ]
    finally:
        bench.ledger.close()
    assert len(found["distinct_2"]) == len(found["self_bleu"]) == 6 and len(found["perplexity.real"]) == 6 * REAL
    assert len(found["perplexity"]) == len(found["agreement"]) == len(found["density_ratio"]) == len(written)
    assert sum(found["agreement.right"]) / len(found["agreement.right"]) > 0.9
    assert sum(found["agreement.wrong"]) / len(found["agreement.wrong"]) < 0.7
    # Recognisers are silent about what this model really writes.
    assert [
        s.question for s in written if look(s, personal_data.RECOGNISERS).value or look(s, secrets.RECOGNISERS).value
    ] == []
