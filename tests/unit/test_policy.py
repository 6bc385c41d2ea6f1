"""Policies: what a file may say, how gates are judged, how decisions follow. Denial first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mass_gov.config_data import data_folder
from mass_gov.errors import IntegrityError, PolicyError
from mass_gov.policy import Facts, Policy, consistent, decide, judge, load_policy, rederive
from mass_gov.policy.approving import must_be_shown
from mass_gov.policy.bounds import paired_lower_bound
from mass_gov.policy.gate_settings import LATER_GATES
from mass_gov.policy.widening import widens
from mass_gov.records.change import (
    ChangeBody,
    Cost,
    Decision,
    Identity,
    PairedCounts,
    Parents,
    Scope,
    UpdateOutcome,
)
from tests.fakes import facts as ordinary
from tests.fakes.facts import DIGEST
from tests.fakes.policies import lean_source

POLICIES = Path(__file__).parents[2] / "policies"
SOURCE = (POLICIES / "default" / "v1.yaml").read_text(encoding="utf-8")


def shipped(name: str) -> Policy:
    return load_policy((POLICIES / name / "v1.yaml").read_bytes(), name)


def default() -> Policy:
    """The default policy without later gates, at limits that no calibration moves: for what is not about them."""
    return load_policy(lean_source(base="default"), "default")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("limit: 0.80", "limit: .nan", "finite number"),
        ("limit: 0.80", "limit: .inf", "finite number"),
        ("limit: 0.80", "limt: 0.80", "unknown key"),
        ("limit: 0.80", "limit: '0.8'", "valid number"),
        ("limit: 0.80", "limit: -0.1", "greater than or equal to 0"),
        ("limit: 4", "limit: four", "valid number"),
        ("limit: 4", "limit: true", "valid number"),
        ("limit: 4", "limit: 010", "read as another number"),
        ("limit: 4", "limit: 0x10", "read as another number"),
        ("limit: 4", "limit: 0b11", "read as another number"),
        ("limit: 4", "limit: 1_000", "read as another number"),
        ("limit: 4", "limit: 1:30", "read as another number"),
        ("limit: 4", "limit: 1_0.5", "read as another number"),
        ("limit: 4", "limit: &four 4", "anchors and aliases"),
        ("required: 1 ", "required: 0 ", "greater than or equal to 1"),
        ("self_approval: false", "self_approval: 0", "valid boolean"),
        ("name: default", "name: default\nname: solo", "a second time"),
        ("name: default", "name: !!python/object/apply:os.system [ls]", "not accepted"),
        ("on_fail: drop", "on_fail: ignore", "'drop', 'hold' or 'reject'"),
        ("  regression.critical:    {limit: 0, on_fail: reject}", "", "Field required"),
        ("while_pending: base", "while_pending: base\nextra: 1", "unknown key"),
    ],
)
def test_a_policy_that_is_not_understood_is_refused_with_its_line(old: str, new: str, says: str) -> None:
    assert old in SOURCE
    with pytest.raises(PolicyError, match=says) as caught:
        load_policy(SOURCE.replace(old, new, 1).encode(), "p.yaml")
    assert "p.yaml" in str(caught.value)


@pytest.mark.parametrize("source", [b"", b"- 1", b"\xff\xfe", b"a: [", b"a: &x 1\nb: *x", b"x" * 300_000, b"[" * 5000])
def test_what_is_no_policy_is_refused_without_a_traceback(source: bytes) -> None:
    with pytest.raises(PolicyError):
        load_policy(source, "p.yaml")


@pytest.mark.parametrize(
    "bomb",
    [
        b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (i, i, i - 1, i - 1) for i in range(98, 123)),
        b"[" * 250_000,
        b"- " * 100_000,
    ],
    ids=["alias bomb", "flow depth", "block depth"],
)
def test_a_small_file_that_would_unfold_for_ever_is_refused_at_once(bomb: bytes) -> None:
    started = time.process_time()
    with pytest.raises(PolicyError, match=r"anchors and aliases|nested too deeply"):
        load_policy(bomb, "p.yaml")
    assert time.process_time() - started < 2


def first_format(**parts: Any) -> Policy:
    """A policy as format 1 had it: one suite, ten gates, no rules."""
    document = yaml.safe_load(SOURCE)
    always = {name: gate for name, gate in document["gates"].items() if name not in LATER_GATES}
    kept = ("name", "version", "description", "while_pending")
    early = {"format": 1, "suite": "core-v1", "gates": always} | {name: document[name] for name in kept}
    for part, names in (
        ("envelope", ("id", "scopes", "step_norm", "cumulative_norm")),
        ("approvals", ("required", "self_approval")),
    ):
        early[part] = {name: document[part][name] for name in names}
    return load_policy(yaml.safe_dump(early | parts).encode(), "p.yaml")


def test_a_file_of_the_first_format_asks_of_nobody_to_have_seen_what_they_approve() -> None:
    assert not must_be_shown(first_format())
    assert must_be_shown(shipped("default"))


@pytest.mark.parametrize("words", ['"\nformat: 1\n"', '"of old\n\n\nformat: 1 # "'])
def test_no_words_in_a_file_make_it_one_of_the_first_format(words: str) -> None:
    before, after = SOURCE.split("description:")[0], SOURCE[SOURCE.index("suites:") :]
    policy = load_policy(f"{before}description: {words}\n{after}".encode(), "p.yaml")
    assert must_be_shown(policy)
    assert policy.document.format == 2


def test_going_back_to_the_first_format_widens_by_what_nobody_has_to_see() -> None:
    early = first_format().document
    later = early.model_copy(update={"format": 2})
    assert widens(later, early) == ("format",)
    assert widens(early, later) == ()


@pytest.mark.parametrize(
    ("part", "value", "names"),
    [
        ("rules", [{"name": "x", "require": "forced", "on_fail": "hold", "why": "x"}], "rules"),
        ("suites", {"instance": "core-v1", "deployment": "core-v1"}, "suites"),
        ("approvals", {"required": 1, "self_approval": False, "signature_required": True}, "signature_required"),
    ],
)
def test_a_setting_that_the_first_format_has_not_is_refused_and_not_passed_over(
    part: str, value: object, names: str
) -> None:
    with pytest.raises(PolicyError, match=f"line [0-9]+: .*{names}: it joined with format 2"):
        first_format(**{part: value})


@pytest.mark.parametrize("number", ["true", "1.0", "2.0", "3", "'2'"])
def test_a_format_that_is_no_whole_number_is_none(number: str) -> None:
    with pytest.raises(PolicyError, match="format"):
        load_policy(SOURCE.replace("format: 2", f"format: {number}", 1).encode(), "p.yaml")


def test_every_shipped_policy_loads_and_is_named_as_its_file() -> None:
    files = sorted(POLICIES.glob("*/v*.yaml"))
    assert {file.parent.name for file in files} >= {"default", "solo"}
    for file in files:
        assert load_policy(file.read_bytes(), str(file)).label == f"{file.parent.name}/{file.stem}"


def test_default_wants_a_second_person_and_solo_does_not() -> None:
    assert not shipped("default").document.approvals.self_approval
    assert shipped("solo").document.approvals.self_approval


@pytest.mark.parametrize("name", ["default", "solo", "strict", "research"])
def test_a_change_of_which_nothing_was_measured_applies_under_no_shipped_policy(name: str) -> None:
    """Its norms are tiny and no case flips; what a policy asks for and nobody measured fails all the same."""
    policy, given = shipped(name), facts()
    gates = judge(given, policy)
    asked = {gate.name for gate in gates if gate.verdict == "fail"}
    assert decide(gates, given.update, given.scope, policy).verdict != "apply"
    assert "update.anchor_kl" in asked
    assert all(gate.value is None for gate in gates if gate.verdict == "fail")


def paired(lost: int = 0, gained: int = 0, n: int = 48) -> PairedCounts:
    return PairedCounts(
        both_right=n - lost - gained,
        lost=lost,
        gained=gained,
        both_wrong=0,
        difference=(gained - lost) / n,
        lower_bound=paired_lower_bound(gained, lost, n),
        margin=0.1,
    )


def facts(
    *,
    scope: Scope = "instance",
    outcome: UpdateOutcome = "stepped",
    norm: float | None = 0.01,
    steps: int = 1,
    lost: int = 0,
    critical_lost: int = 0,
    unparseable: int = 0,
) -> Facts:
    synthesis = ordinary.synthesis(unparseable=unparseable, kept=6 - unparseable)
    update = ordinary.update(
        outcome=outcome,
        steps=steps,
        not_finite=int(norm is None or outcome == "not_finite"),
        step_norm=norm,
        cumulative_norm=norm,
    )
    regression = ordinary.regression(paired(lost), paired(lost), critical_lost)
    return Facts(scope, synthesis, update, regression)


def decision(given: Facts) -> Decision:
    policy = default()
    return decide(judge(given, policy), given.update, given.scope, policy)


@pytest.mark.parametrize(
    ("given", "verdict", "reason", "violated"),
    [
        (facts(outcome="no_valid_samples"), "reject", "no_valid_samples", ()),
        (facts(outcome="no_movement"), "reject", "no_movement", ()),
        (facts(outcome="not_finite"), "reject", "gate_rejected", ("update.finite",)),
        (facts(norm=None), "reject", "gate_rejected", ("update.finite", "update.step_norm", "update.cumulative_norm")),
        (facts(norm=1.2), "reject", "gate_rejected", ("update.step_norm",)),
        (facts(steps=5), "reject", "gate_rejected", ("update.steps",)),
        (facts(critical_lost=1), "reject", "gate_rejected", ("regression.critical",)),
        (facts(lost=6), "hold", "gate_held", ("regression.previous", "regression.base")),
        (facts(lost=2), "hold", "gate_inconclusive", ("regression.previous", "regression.base")),
        (facts(norm=0.7), "hold", "outside_envelope", ("envelope.step_norm",)),
        (facts(scope="deployment"), "hold", "outside_envelope", ("envelope.scopes",)),
        (facts(unparseable=6), "apply", "inside_envelope", ()),
        (facts(), "apply", "inside_envelope", ()),
    ],
)
def test_each_rule_decides_in_its_order(given: Facts, verdict: str, reason: str, violated: tuple[str, ...]) -> None:
    decided = decision(given)
    assert (decided.verdict, decided.reason, decided.violated) == (verdict, reason, violated)


def test_inconclusive_never_applies_by_itself() -> None:
    gates = judge(facts(lost=2), default())
    assert {gate.name: gate.verdict for gate in gates}["regression.previous"] == "inconclusive"
    assert decision(facts(lost=2)).verdict == "hold"


def body(given: Facts) -> ChangeBody:
    policy = default()
    gates = judge(given, policy)
    moment = "2026-01-01T00:00:00.000000Z"
    return ChangeBody(
        identity=Identity(
            change_id="01900000-0000-7000-8000-000000000000",
            tenant="local",
            deployment="default",
            scope=given.scope,
            requester="local",
            subject="s-" + "0" * 32,
            request_commitment=DIGEST,
            requested_at=moment,
            recorded_at=moment,
        ),
        parents=Parents(
            base_model=DIGEST,
            parent_state=DIGEST,
            pointer_head=None,
            config=DIGEST,
            seed="1",
            prompt_template=DIGEST,
            policy=policy.digest,
            suite=DIGEST,
            fingerprint=DIGEST,
        ),
        synthesis=given.synthesis,
        update=given.update,
        regression=given.regression,
        gates=gates,
        decision=decide(gates, given.update, given.scope, policy),
        cost=Cost(flops="1", generated_tokens=1, seconds={}),
    )


def test_an_auditor_derives_the_same_decision_from_the_leaf() -> None:
    change = body(facts(lost=2))
    assert rederive(change, default()) == (change.gates, change.decision)


def test_a_flattered_bound_is_found_from_its_own_counts() -> None:
    change = body(facts(lost=6))
    assert change.regression is not None
    flattered = change.regression.against_base.model_copy(update={"lower_bound": 0.0})
    forged = change.model_copy(update={"regression": change.regression.model_copy(update={"against_base": flattered})})
    with pytest.raises(IntegrityError, match="base"):
        rederive(forged, default())


def edited(change: ChangeBody, part: str, **fields: object) -> ChangeBody:
    """The change with some fields of one of its parts replaced."""
    return change.model_copy(update={part: getattr(change, part).model_copy(update=fields)})


def impossible() -> PairedCounts:
    """More gained and lost than there are cases: the bound has no value for it."""
    return paired().model_copy(update={"gained": 40, "lost": 40})


def regression_of(change: ChangeBody, **fields: object) -> ChangeBody:
    assert change.regression is not None
    return edited(change, "regression", **fields)


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (lambda c: c.model_copy(update={"regression": None}), "no regression"),
        (lambda c: edited(c, "update", delta=None, delta_key=None), "no delta"),
        (lambda c: edited(c, "update", delta_key=None), "no delta key"),
        (lambda c: edited(c, "update", outcome="no_movement"), "has a delta"),
        (lambda c: edited(c, "update", outcome="no_valid_samples"), "has a delta"),
        (lambda c: edited(c, "update", steps=0), "no step that made it"),
        (lambda c: edited(c, "synthesis", kept=999), "999 kept"),
        (lambda c: edited(c, "synthesis", kept=0, unparseable=6), "0 samples were kept"),
        (lambda c: edited(c, "synthesis", generator="cd" * 32), "another state"),
        (lambda c: edited(c, "synthesis", kept=4, dropped={"sample.secret": 2}), "sample.secret dropped"),
        (lambda c: edited(c, "synthesis", kept=4, dropped={"sample.format": 2}), "sample.format dropped"),
        (lambda c: regression_of(c, n=47), "48 outcomes of 47"),
        (lambda c: regression_of(c, against_base=impossible()), "128 outcomes of 48"),
        (lambda c: regression_of(c, against_base=paired(lost=3)), "right after the update"),
        (lambda c: regression_of(c, critical_lost=5), "critical"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_change_that_leaves_out_what_stands_in_its_way_is_refused(
    forge: Callable[[ChangeBody], ChangeBody], said: str
) -> None:
    change = forge(body(facts(lost=2)))
    with pytest.raises(IntegrityError, match=said):
        consistent(change)
    with pytest.raises(IntegrityError, match=said):
        rederive(change, default())


def test_a_margin_that_is_not_the_policys_is_found() -> None:
    change = body(facts())
    assert change.regression is not None
    lax = change.regression.against_previous.model_copy(update={"margin": 0.9})
    with pytest.raises(IntegrityError, match="margin"):
        rederive(regression_of(change, against_previous=lax), default())


def test_the_bound_is_where_the_score_test_says_5_percent() -> None:
    """Second opinion: McNemar-type score statistic with the nuisance maximised on a grid instead of in closed form."""
    gained, lost, n = 3, 7, 60
    bound = paired_lower_bound(gained, lost, n, "tango")

    def log_likelihood(p_lost: float) -> float:
        p_gained = p_lost + bound
        rest = 1 - p_lost - p_gained
        if min(p_gained, rest) <= 0 or p_lost <= 0:
            return -math.inf
        return gained * math.log(p_gained) + lost * math.log(p_lost) + (n - gained - lost) * math.log(rest)

    p_lost = max((i / 200_000 for i in range(1, 200_000)), key=log_likelihood)
    p_gained = p_lost + bound
    variance = n * (p_gained + p_lost - bound**2)
    assert (gained - lost - n * bound) / math.sqrt(variance) == pytest.approx(1.6448536, abs=2e-3)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60))
def test_the_bound_lies_below_the_estimate_and_rises_with_gains(gained: int, lost: int, same: int) -> None:
    n = gained + lost + same
    if n == 0:
        assert paired_lower_bound(0, 0, 0) == -1.0
        return
    bound = paired_lower_bound(gained, lost, n)
    assert -1 <= bound <= (gained - lost) / n + 1e-12
    if same:
        assert paired_lower_bound(gained + 1, lost, n) >= bound
        assert paired_lower_bound(gained, lost + 1, n) <= bound


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        (b"self_approval: true", b"self_approval: yes"),
        (b"self_approval: true", b"self_approval: On"),
        (b"max_authentication_age_seconds: null", b"max_authentication_age_seconds: ~"),
    ],
)
def test_words_that_two_readers_understand_differently_are_no_new_policy(plain: bytes, other: bytes) -> None:
    """YAML 1.1 reads `yes` as true, 1.2 as text; the digest is of the bytes."""
    source = (data_folder("policies") / "solo" / "v1.yaml").read_bytes()
    assert plain in source
    with pytest.raises(PolicyError, match="is text to some readers"):
        load_policy(source.replace(plain, other), new=True)
    assert load_policy(source.replace(plain, other)).document == load_policy(source, new=True).document
