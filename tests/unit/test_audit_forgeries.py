"""Whoever has every key can sign a lie; what it contradicts finds it. Each test is one way to tell one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mass_gov.evidence.canonical import sha256_hex
from mass_gov.evidence.state import state_digest
from mass_gov.flows.audit_heads import NO_POLICY
from mass_gov.policy import load_policy
from mass_gov.policy.bounds import paired_lower_bound
from tests.fakes.engines import copy_ledger
from tests.fakes.forger import Event, Sheet, events_of, forged, report_on
from tests.fakes.ledger_world import BASE_MODEL, SUBJECT, LedgerWorld

pytestmark = pytest.mark.both_engines

POLICY, SUITE, APPLIED, ANSWERED, HELD, WAITING, APPROVED = 1, 3, 4, 5, 6, 7, 8
"""Log indexes in `world`."""
NEW_ID = "01a1fa56-0000-7000-8000-000000000001"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path_factory.mktemp("genuine") / "home")
    made.record("one")
    held = made.record("two", step_norm=0.7)
    made.ledger.append([made.approval(held)])
    yield made
    made.close()


@pytest.fixture
def events(world: LedgerWorld) -> list[Event]:
    return events_of(world)


def found(world: LedgerWorld, events: list[Event], home: Path) -> str:
    """The first thing that is wrong with a forgery."""
    report = report_on(forged(world, events, home / "forged"))
    assert not report.ok
    assert report.first_wrong is not None
    return str(report.first_wrong)


def test_the_forger_can_write_the_truth(world: LedgerWorld, events: list[Event], tmp_path: Path) -> None:
    report = report_on(forged(world, events, tmp_path / "forged"))
    assert report.ok, report.first_wrong
    assert (report.size, report.not_checked) == (world.ledger.size, (f"step 12 (witnesses): {NO_POLICY}",))


def no_regression(events: list[Event]) -> None:
    events[APPLIED].change["regression"] = None
    events[APPLIED].drop("regression")


def stepped_without_a_delta(events: list[Event]) -> None:
    change = events[APPLIED].change
    change["update"] |= {"delta": None, "delta_key": None, "state": change["parents"]["parent_state"]}
    change["regression"] = None
    events[APPLIED].drop("regression", "delta.adapter_config", "delta.adapter_model", "delta.signature")
    events[APPLIED].write("answer", events[APPLIED].read("answer") | {"adapted": None})
    events[ANSWERED].body["state"] = change["update"]["state"]


def no_movement_with_a_delta(events: list[Event]) -> None:
    events[APPLIED].change["update"]["outcome"] = "no_movement"


def impossible_counts(events: list[Event]) -> None:
    events[APPLIED].change["regression"]["against_base"] |= {"gained": 40, "lost": 40}


def lax_margin(events: list[Event]) -> None:
    events[APPLIED].change["regression"]["against_base"]["margin"] = 0.9


def lie_before_the_truth(events: list[Event]) -> None:
    sheet = events[APPLIED].sheet("samples")
    events[APPLIED].sheets.append(Sheet("samples", 1, sheet.subject, sheet.plain))
    samples = events[APPLIED].read("samples")
    samples["samples"][0]["question"] = "harmless"
    events[APPLIED].write("samples", samples)


def foreign_delta_before_the_genuine(events: list[Event]) -> None:
    sheet = events[APPLIED].sheet("delta.adapter_model")
    events[APPLIED].sheets.append(Sheet(sheet.role, 1, sheet.subject, sheet.plain))
    sheet.plain = events[HELD].sheet("delta.adapter_model").plain


def stray_artifact(events: list[Event]) -> None:
    events[ANSWERED].sheets.append(Sheet("gates", 7, SUBJECT, b"not even JSON"))


def approval_without_a_reason(events: list[Event]) -> None:
    events[APPROVED].sheets.clear()


def edit_sample(events: list[Event], edit: Callable[[Any], None], kept: bool = True) -> None:
    samples = events[APPLIED].read("samples")
    edit(next(sample for sample in samples["samples"] if kept != bool(sample["dropped_by"])))
    events[APPLIED].write("samples", samples)


def leak_as_pass(events: list[Event]) -> None:
    question = events[APPLIED].read("request")["question"]
    edit_sample(events, lambda sample: sample.update(question=question))


def value_of_a_gate(events: list[Event]) -> None:
    edit_sample(events, lambda sample: sample["gates"][1].update(value=0.95))


def heavy_sample(events: list[Event]) -> None:
    edit_sample(events, lambda sample: sample.update(weight=1000.0))


def more_steps_than_told(events: list[Event]) -> None:
    update = events[APPLIED].read("update")
    events[APPLIED].write("update", update | {"losses": [1.5, 9.0, 1.5], "gradient_norms": [0.1, 0.1, 0.1]})


def more_steps_than_the_settings(events: list[Event]) -> None:
    more_steps_than_told(events)
    events[APPLIED].change["update"]["steps"] = 3
    events[APPLIED].decide_again(load_policy(events[POLICY].sheet("policy").plain))


def larger_step(events: list[Event]) -> None:
    configure(events, "update", step_size=0.01)


def fewer_samples(events: list[Event]) -> None:
    configure(events, "sampling", count=64)


def configure(events: list[Event], part: str, **values: Any) -> None:
    config = events[APPLIED].read("config")
    config[part] |= values
    events[APPLIED].write("config", config)
    events[APPLIED].change["parents"]["config"] = sha256_hex(events[APPLIED].sheet("config").plain)


def two_answers_of_one_state(events: list[Event]) -> None:
    answer = events[APPLIED].read("answer")
    answer["parent"]["answer"] = "31337"
    events[APPLIED].write("answer", answer)


def toy_suite(events: list[Event]) -> None:
    cases = [
        {"case_id": f"x{i}", "domain": "d", "split": "easy", "question": f"q{i}", "answer": "1", "critical": False}
        for i in range(40)
    ]
    source = "\n".join(json.dumps(case) for case in cases).encode()
    toy = copy.deepcopy(events[SUITE])
    toy.document["event_id"] = NEW_ID
    toy.body.update(suite=sha256_hex(source), name="toy", cases=40)
    toy.sheet("suite").plain = source
    change, bound = events[APPLIED].change, paired_lower_bound(0, 0, 40)
    change["parents"]["suite"] = sha256_hex(source)
    change["regression"] |= {"n": 40, "critical_n": 0, "critical_lost": 0}
    for name in ("against_previous", "against_base"):
        change["regression"][name] |= {"both_right": 40, "both_wrong": 0, "lower_bound": bound}
    right = {"critical": False, "before": True, "after": True, "base": True}
    answers = {"before_answer": "1", "after_answer": "1", "base_answer": "1"}
    asked = [{"case_id": case["case_id"], "domain": "d"} | right | answers for case in cases]
    regression = events[APPLIED].read("regression")
    events[APPLIED].write("regression", regression | {"suite": sha256_hex(source), "cases": asked})
    events[APPLIED].decide_again(load_policy(events[POLICY].sheet("policy").plain))
    events.insert(SUITE + 1, toy)


def part_of_the_suite(events: list[Event]) -> None:
    events[SUITE].body["cases"] = 39


def served_although_none(events: list[Event]) -> None:
    source = events[POLICY].sheet("policy").plain.replace(b"while_pending: base", b"while_pending: none")
    policy = load_policy(source)
    events[POLICY].sheet("policy").plain = source
    events[POLICY].body["policy"] = policy.digest
    for event in events:
        if event.body["type"] == "change.recorded":
            event.change["parents"]["policy"] = policy.digest
            event.decide_again(policy)
        if event.body["type"] == "change.approved":
            event.body["policy"] = policy.digest


def other_delta_key(events: list[Event]) -> None:
    events[0].body["delta_key"] = "ef" * 32
    for index in (APPLIED, HELD):
        events[index].change["update"]["delta_key"] = "ef" * 32


def one_id_twice(events: list[Event]) -> None:
    events[ANSWERED].document["event_id"] = events[WAITING].document["event_id"]


@pytest.mark.parametrize(
    ("forge", "named"),
    [
        (no_regression, "no regression"),
        (stepped_without_a_delta, "no delta"),
        (no_movement_with_a_delta, "has a delta"),
        (impossible_counts, "120 outcomes of 40 cases"),
        (lax_margin, "the recorded margin is 0.9"),
        (lie_before_the_truth, "it has samples[1] too many"),
        (foreign_delta_before_the_genuine, "it has delta.adapter_model[1] too many"),
        (stray_artifact, "it has gates[7] too many"),
        (approval_without_a_reason, "it lacks reason"),
        (leak_as_pass, "sample 0, gates"),
        (value_of_a_gate, "sample 0, gates"),
        (heavy_sample, "sample 0, weight: 1000.0 is recorded, solo/v1 gives 1.0"),
        (more_steps_than_told, "steps: the leaf says 1, the artifact gives 3"),
        (more_steps_than_the_settings, "steps: 3 were taken, the settings allow 1"),
        (larger_step, "step size of layers.0.o_proj: 0.5 was used, the settings say 0.01"),
        (fewer_samples, "the settings' number: the leaf says 2, the artifact gives 64"),
        (two_answers_of_one_state, "the parent is the base"),
        (toy_suite, "it was tested on toy, and solo/v1 wants core-v1"),
        (part_of_the_suite, "40 cases were asked, and core-v1 has 39"),
        (served_although_none, "the base answer was served, and solo/v1 serves none while a change waits"),
        (other_delta_key, "Event 0 names the key efefefefefefefef and carries"),
        (one_id_twice, "is an earlier event's"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_lie_told_with_every_key_is_found(
    world: LedgerWorld, events: list[Event], tmp_path: Path, forge: Callable[[list[Event]], None], named: str
) -> None:
    forge(events)
    report = report_on(forged(world, events, tmp_path / "forged"))
    assert not report.ok
    assert named in "\n".join(str(fault) for step in report.steps for fault in step.faults)


def test_operator_written_bytes_never_end_a_verification(
    world: LedgerWorld, events: list[Event], tmp_path: Path
) -> None:
    nested, bomb = b"[" * 100_000, b"a: &a [x, x]\nb: &b [*a, *a]\n"
    for index, role, plain in ((SUITE, "suite", nested), (POLICY, "policy", bomb), (APPLIED, "samples", nested)):
        events[index].sheet(role).plain = plain
    report = report_on(forged(world, events, tmp_path / "forged"))
    said = "\n".join(str(fault) for step in report.steps for fault in step.faults)
    for text in ("artifact suite: ", "artifact policy: ", "artifact samples: "):
        assert text in said


def test_marks_of_erasure_do_not_switch_checks_off(world: LedgerWorld, events: list[Event], tmp_path: Path) -> None:
    home = forged(world, events, tmp_path / "forged")
    (home / "keys" / "subjects" / f"{SUBJECT}.destroyed").touch()
    report = report_on(home)
    assert report.ok
    assert any(SUBJECT in text and text.endswith("erased") for text in report.not_checked)
    assert any(f"{SUBJECT} is marked as erased, and no event in the log says so" in text for text in report.warnings)


def test_what_belongs_to_nobody_cannot_be_erased(world: LedgerWorld, events: list[Event], tmp_path: Path) -> None:
    home = forged(world, events, tmp_path / "forged")
    system = events[POLICY].sheet("policy").subject
    (home / "keys" / "subjects" / f"{system}.destroyed").touch()
    report = report_on(home)
    assert not report.ok
    assert "artifact policy[0]: " in str(report.first_wrong)
    assert "erased" in str(report.first_wrong)


def test_every_policy_that_replaced_another_is_shown(world: LedgerWorld, events: list[Event], tmp_path: Path) -> None:
    source = events[POLICY].sheet("policy").plain.replace(b"name: solo", b"name: lax").replace(b"0.10", b"9.9")
    lax = copy.deepcopy(events[POLICY])
    lax.document["event_id"] = NEW_ID
    lax.sheet("policy").plain = source
    lax.body.update(
        policy=sha256_hex(source),
        name="lax",
        approvers=["alice", "bob"],
        self_approved=False,
        replaces=events[POLICY].body["policy"],
    )
    report = report_on(forged(world, [*events, lax], tmp_path / "forged"))
    assert f"Policy lax/v1 replaced solo/v1 (event {len(events)}), approved by alice, bob." in report.warnings


def test_times_against_the_order_of_events_are_shown(world: LedgerWorld, events: list[Event], tmp_path: Path) -> None:
    events[APPLIED].change["identity"] |= {
        "requested_at": "2099-01-02T00:00:00.000000Z",
        "recorded_at": "2099-01-01T00:00:00.000000Z",
    }
    report = report_on(forged(world, events, tmp_path / "forged"))
    late = [text for text in report.warnings if text.startswith(f"The clock ran backwards at event {APPLIED}:")]
    assert len(late) == 2


@pytest.mark.parametrize(
    "newer", [{"format": 2}, {"format": 1, "body": {"type": "change.submitted", "purpose": "audit"}}]
)
def test_an_event_of_a_newer_program_is_no_tampering(
    world: LedgerWorld, events: list[Event], tmp_path: Path, newer: dict[str, Any]
) -> None:
    events[WAITING].newer = newer
    report = report_on(forged(world, events, tmp_path / "forged"))
    assert (report.ok, report.first_wrong) == (False, None)
    assert "which a newer mass-gov wrote" in str(report.cannot_check)


def test_tampering_before_an_event_of_a_newer_program_is_still_tampering(
    world: LedgerWorld, events: list[Event], tmp_path: Path
) -> None:
    heavy_sample(events)
    events[WAITING].newer = {"format": 2}
    assert "sample 0, weight" in found(world, events, tmp_path)


def test_events_above_the_newest_head_outside_are_named(
    world: LedgerWorld, events: list[Event], tmp_path: Path
) -> None:
    home = forged(world, events[:-2], tmp_path / "forged")
    whole = forged(world, events, tmp_path / "whole")
    copy_ledger(whole, home)
    for note in (whole / "checkpoints").iterdir():
        assert int(note.stem) == len(events)
    report = report_on(home)
    assert report.first_wrong is None or "outside" in str(report.first_wrong)
    assert any(f"Events {len(events) - 2} to {len(events) - 1} stand above" in text for text in report.warnings)


def test_an_applied_change_serves_what_its_state_says(world: LedgerWorld, events: list[Event], tmp_path: Path) -> None:
    events[ANSWERED].body["state"] = state_digest(BASE_MODEL, None)
    assert "does not name the adapted state" in found(world, events, tmp_path)
