"""What a new policy lets pass that the old one did not: never less than there is, for every setting there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mass_gov.config_data import data_folder
from mass_gov.policy import load_policy
from mass_gov.policy.document import PolicyDocument
from mass_gov.policy.gate_settings import LATER_GATES, Part
from mass_gov.policy.rules import Rule
from mass_gov.policy.widening import differences, widens

NAMES = ("default", "solo", "strict", "research")


def shipped(name: str) -> PolicyDocument:
    return load_policy((data_folder("policies") / name / "v1.yaml").read_bytes(), name).document


STRICT = shipped("strict")


def changed(document: PolicyDocument, path: str, value: object) -> PolicyDocument:
    """The same policy with one setting (`gates.update.steps.limit`) replaced, validated as a file would be."""
    data: dict[str, Any] = document.model_dump(by_alias=True)
    part: Any = data
    keys = list(keys_of(path))
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    return PolicyDocument.model_validate(data)


def keys_of(path: str) -> Iterator[str | int]:
    """Keys of a dotted path; the name of a gate has a dot of its own, a rule its place in the list."""
    parts = path.split(".")
    if parts[0] == "gates":
        yield from ("gates", f"{parts[1]}.{parts[2]}", *parts[3:])
    elif parts[0] == "rules" and len(parts) > 1:
        yield from ("rules", int(parts[1]), *parts[2:])
    else:
        yield from parts


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("suites.instance", "other-v1"),
        ("envelope.scopes", ("instance", "deployment")),
        ("envelope.step_norm", 0.66),
        ("envelope.cumulative_norm", 0.68),
        ("envelope.spectral_norm", "unused"),
        ("envelope.anchor_kl", 0.3),
        ("envelope.generation_depth", "unused"),
        ("samples.real_share", 0.2),
        ("samples.importance_weights", False),
        ("gates.sample.format.limit", 0.6),
        ("gates.sample.format.on_fail", "drop"),
        ("gates.sample.near_duplicate.similarity", 0.9),
        ("gates.sample.agreement", "unused"),
        ("gates.sample.agreement.agreement", 0.6),
        ("gates.sample.agreement.resolves", 4),
        ("gates.sample.agreement.scopes", ("deployment",)),
        ("gates.sample.secrets.on_fail", "hold"),
        ("gates.sample.perplexity.high", 9.0),
        ("gates.update.distinct_2.limit", 0.2),
        ("gates.update.real_share", "unused"),
        ("gates.update.finite.on_fail", "hold"),
        ("gates.update.steps.limit", 3.0),
        ("gates.update.budget.changes_per_hour", 121),
        ("gates.update.budget.flops_per_hour", 2e15),
        ("gates.update.cooldown.limit", 3599.0),
        ("gates.regression.previous.margin", 0.09),
        ("gates.regression.critical.limit", 1.0),
        ("gates.regression.power.discordance", 0.07),
        ("gates.regression.power.power", 0.7),
        ("gates.regression.base.bound", "tango"),
        ("gates.regression.base.instance_margin", 0.09),
        ("gates.sample.near_duplicate.keep", "first"),
        ("gates.window.flips.cases", 49),
        ("gates.window.flips.tolerance", 0.02),
        ("gates.window.tail_coverage.limit", 0.4),
        ("gates.window.flips.window", 32),
        ("gates.window.flips.window", 128),
        ("rules", ()),
        ("rules.0.require", "kept >= 3"),
        ("rules.2.on_fail", "hold"),
        ("scopes.requester", ("instance", "deployment")),
        ("scopes.requester", ("deployment",)),
        ("approvals.required", 1),
        ("approvals.roles", ("operator", "admin", "requester")),
        ("approvals.self_approval", True),
        ("approvals.max_authentication_age_seconds", 901),
        ("approvals.max_authentication_age_seconds", None),
        ("approvals.signature_required", False),
        ("approvals.expires_after_hours", 73.0),
        ("approvals.expires_after_hours", None),
        ("retention.instance", "recipe"),
        ("while_pending", "base"),
    ],
)
def test_whoever_lets_more_pass_does_not_do_it_alone(path: str, value: object) -> None:
    wider = widens(STRICT, changed(STRICT, path, value))
    assert wider, path
    if path != "rules" and not path.startswith("rules."):
        assert wider == (path,)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("description", "Other words."),
        ("version", 2),
        ("envelope.id", "other-v1"),
        ("envelope.scopes", ()),
        ("envelope.step_norm", 0.2),
        ("gates.sample.format.on_fail", "reject"),
        ("gates.update.distinct_2.limit", 0.4),
        ("gates.regression.base.margin", 0.01),
        ("approvals.required", 3),
        ("approvals.roles", ("admin",)),
        ("approvals.expires_after_hours", 1.0),
        ("scopes.requester", ()),
        ("rules.0.on_fail", "reject"),
        ("rules.0.why", "Other words."),
        ("samples.real_share", 0.5),
    ],
)
def test_whoever_lets_less_pass_may_do_it_alone(path: str, value: object) -> None:
    other = changed(STRICT, path, value)
    assert widens(STRICT, other) == ()
    assert len(differences(STRICT, other)) == 1


def test_a_projection_is_never_granted_by_the_way() -> None:
    projecting = STRICT.model_dump(by_alias=True) | {"update": {"projection": "instance", "trust_radius": 0.2}}
    always = STRICT.model_dump(by_alias=True) | {"update": {"projection": "always", "trust_radius": 0.1}}
    instance, both = PolicyDocument.model_validate(projecting), PolicyDocument.model_validate(always)
    assert widens(STRICT, instance) == ("update.projection", "update.trust_radius")
    assert widens(instance, STRICT) == ()
    assert widens(instance, both) == ("update.projection",)
    assert widens(both, instance) == ("update.trust_radius",)


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_widens_nothing_of_itself(name: str) -> None:
    assert differences(shipped(name), shipped(name)) == ()


def test_what_widens_stands_in_the_log_by_names_that_it_takes() -> None:
    from mass_gov.records.events import PolicyProposed

    for old in NAMES:
        for new in NAMES:
            wider = widens(shipped(old), shipped(new))
            PolicyProposed(policy="0" * 64, name="x", version=1, replaces="1" * 64, widens=wider)


def test_a_gate_or_a_limit_that_is_taken_out_always_widens() -> None:
    for gate in LATER_GATES:
        path = f"gates.{gate}"
        assert widens(STRICT, changed(STRICT, path, "unused")) == (path,)
        assert widens(changed(STRICT, path, "unused"), STRICT) == ()


def settings_of(part: type[Part], path: str = "") -> Iterator[str]:
    """Dotted path of every setting of the class, those of a gate that may be unused too."""
    for attribute, field in part.model_fields.items():
        name = f"{path}{field.alias or attribute}"
        kinds = [field.annotation, *get_args(field.annotation)]
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Part) and kind is not Rule]
        if inner:
            yield from settings_of(inner[0], f"{name}.")
        else:
            yield name


def other_values(value: object) -> Iterator[object]:
    """Values of the same kind that may stand in the place of this one."""
    match value:
        case bool():
            yield not value
        case int():
            yield from (value + 1, value - 1)
        case float():
            yield from (value * 0.5, value * 1.5 + 0.01)
        case tuple():
            yield from ((), ("instance",), ("deployment",), ("instance", "deployment"), ("operator",), ("requester",))
        case None:
            yield from (1, 1.0)
        case str():
            words = (
                "drop",
                "hold",
                "reject",
                "never",
                "instance",
                "always",
                "none",
                "base",
                "parent",
                "delta",
                "recipe",
                "first",
                "best",
                "tango",
                "corrected",
            )
            yield from (*words, "other")


def at(document: PolicyDocument, path: str) -> Any:
    part: Any = document.model_dump(by_alias=True)
    for key in keys_of(path):
        part = part[key]
    return part


TOGETHER = ("rules", "update.projection", "update.trust_radius")
"""What cannot change alone; it has tests of its own."""


@pytest.mark.parametrize("path", [path for path in settings_of(PolicyDocument) if path not in TOGETHER])
def test_no_setting_can_change_unseen(path: str) -> None:
    """Every setting there is: a difference is shown, and what is not narrower or words is called widening."""
    before = at(STRICT, path)
    tried = 0
    for value in other_values(before):
        try:
            other = changed(STRICT, path, value)
        except ValueError:
            continue
        if at(other, path) == before:
            continue
        (found,) = differences(STRICT, other)
        (back,) = differences(other, STRICT)
        assert found.path == path
        assert {found.direction, back.direction} in ({"wider", "narrower"}, {"other"}, {"neither"})
        tried += 1
    always = path.endswith(".scopes") and path.removeprefix("gates.").removesuffix(".scopes") not in LATER_GATES
    assert tried or (path.startswith("gates.") and always), path  # a gate that is always judged says no scopes


@given(st.lists(st.sampled_from(["a", "b", "c"]), unique=True), st.lists(st.sampled_from(["a", "b", "c"]), unique=True))
def test_a_rule_that_goes_widens_and_one_that_comes_does_not(old: list[str], new: list[str]) -> None:
    def having(names: list[str]) -> PolicyDocument:
        rules = [Rule(name=name, require="forced", on_fail="hold", why="x") for name in names]
        return STRICT.model_copy(update={"rules": tuple(rules)})

    assert set(widens(having(old), having(new))) == {f"rules.{name}" for name in set(old) - set(new)}
