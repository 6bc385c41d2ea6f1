"""One policy file: YAML in, a frozen and fully typed `Policy` out, or one clear error that names the line.

Rules: unknown keys, NaN, infinities, wrong types and wrong units are refused, because a limit that is not understood is
a limit that does not hold; what the YAML itself may not be is said in `strict_yaml`. A policy is never edited: a new
version is a new file. Its digest is the SHA-256 of the file's bytes, so what was read is what was approved.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from mass_gov.errors import PolicyError
from mass_gov.policy.cel import converted_texts
from mass_gov.policy.gate_settings import LATER_GATES, Gates, Limit, Part, RelativeNorm, Share, Unused
from mass_gov.policy.possible import impossible
from mass_gov.policy.rules import Rule
from mass_gov.policy.strict_yaml import read_mapping
from mass_gov.policy.wider import Wider
from mass_gov.records.base import Slug
from mass_gov.records.change import SCOPES, Scope


class Envelope(Part):
    """The pre-approved limits inside which an update applies by itself (the predetermined change).

    A limit is of the number of the same name in the leaf, or of the measure `update.<name>`. `unused` sets none.
    """

    id: Annotated[Slug, Wider.NEITHER]
    scopes: Annotated[tuple[Scope, ...], Wider.MORE]
    step_norm: Annotated[RelativeNorm, Wider.HIGHER]
    """Of the step as it stands: after a projection, where there was one."""
    cumulative_norm: Annotated[RelativeNorm, Wider.HIGHER]
    spectral_norm: Annotated[RelativeNorm, Wider.HIGHER] | Unused
    cumulative_spectral_norm: Annotated[RelativeNorm, Wider.HIGHER] | Unused
    anchor_kl: Annotated[Limit, Wider.HIGHER] | Unused
    anchor_kl_p99: Annotated[Limit, Wider.HIGHER] | Unused
    loss_jump: Annotated[Limit, Wider.HIGHER] | Unused
    generation_depth: Annotated[Limit, Wider.HIGHER] | Unused


MEASURED_LIMITS = tuple(name for name, field in Envelope.model_fields.items() if Unused in get_args(field.annotation))
"""Limits of the envelope on a measure of the change; they joined with format 2 of the file."""


class Update(Part):
    """How a step is taken."""

    projection: Annotated[Literal["never", "instance", "always"], Wider.LATER]
    """Whether a step outside the trust region is projected back into it: never, for scope instance, for both scopes."""
    trust_radius: Annotated[RelativeNorm, Wider.GRANTED] | Unused
    """Largest relative Frobenius norm of a module's step after projection; `unused` if and only if never projected."""

    @model_validator(mode="after")
    def _radius(self) -> Self:
        if (self.trust_radius == "unused") != (self.projection == "never"):
            raise ValueError("trust_radius is a number where steps are projected, and `unused` where they never are")
        return self

    def radius_for(self, scope: Scope) -> float | None:
        """The trust radius of a step of this scope; None where it is not projected."""
        if self.trust_radius == "unused" or (self.projection == "instance" and scope != "instance"):
            return None
        return self.trust_radius


class Samples(Part):
    """What an update learns from besides what the model wrote itself."""

    real_share: Annotated[Share, Wider.LOWER]
    """Anchors (real tasks with gold answers) over all samples that are learned from; 0 mixes none in."""
    importance_weights: Annotated[bool, Field(strict=True)]
    """Whether samples are weighed by the density ratio of the real pool to the model's own writing."""


class Approvals(Part):
    """What it takes when an update does not apply by itself."""

    required: Annotated[int, Field(ge=1, le=16, strict=True), Wider.LOWER]
    roles: Annotated[tuple[Literal["requester", "operator", "admin"], ...], Field(min_length=1), Wider.MORE]
    """Roles whose approval counts."""
    self_approval: Annotated[bool, Field(strict=True), Wider.YES]
    """Whether the requester's own yes counts. Marked in every event where it does."""
    max_authentication_age_seconds: Annotated[
        Annotated[int, Field(ge=1, le=86_400 * 366, strict=True)] | None, Wider.HIGHER
    ]
    """How long ago an approver may have last proved who they are; null asks for no proof."""
    signature_required: Annotated[bool, Field(strict=True), Wider.NO]
    """Whether an approval needs the approver's own signature. A registered key always signs."""
    expires_after_hours: Annotated[
        Annotated[float, Field(gt=0, le=24 * 366, allow_inf_nan=False, strict=True)] | None, Wider.HIGHER
    ]
    """How long a held change waits before it counts as rejected; null: for ever."""


class RoleScopes(Part):
    """Which scopes each role may ask for."""

    requester: Annotated[tuple[Scope, ...], Wider.MORE]
    operator: Annotated[tuple[Scope, ...], Wider.MORE]
    admin: Annotated[tuple[Scope, ...], Wider.MORE]

    def may_ask(self, role: str, scope: Scope) -> bool:
        """Whether somebody of this role may ask for an update of this scope; other roles may not at all."""
        return scope in getattr(self, role, ()) if role in type(self).model_fields else False


class Retention(Part):
    """What is kept of an update."""

    instance: Annotated[Literal["delta", "recipe"], Wider.LATER]
    """Of scope instance: the delta itself, or what is needed to make it again. Deployment scope keeps the delta."""


class Suites(Part):
    """Which regression suite tests an update, by the scope that was asked for: every update runs one."""

    instance: Slug
    deployment: Slug


class PolicyDocument(Part):
    """The file, field by field."""

    format: Annotated[int, Field(ge=1, le=2, strict=True), Wider.LOWER]
    """As the file declares it. One of format 1 asks of nobody to have seen what they approve (`policy.approving`)."""
    name: Annotated[Slug, Wider.NEITHER]
    version: Annotated[int, Field(ge=1, le=1_000_000, strict=True), Wider.NEITHER]
    description: Annotated[str, Field(max_length=2000), Wider.NEITHER]
    suites: Suites
    envelope: Envelope
    update: Update
    samples: Samples
    gates: Gates
    rules: Annotated[tuple[Rule, ...], Field(max_length=64)]
    """Judged after the gates, on the change's metrics (`mass_gov.policy.rules`)."""
    scopes: RoleScopes
    approvals: Approvals
    retention: Retention
    while_pending: Annotated[Literal["none", "base", "parent"], Wider.LATER]
    """Whose answer is served while a change is held, and after a reject."""

    @model_validator(mode="after")
    def _rule_names(self) -> Self:
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names):
            raise ValueError("two rules have one name; give each its own")
        return self

    def suite_for(self, scope: Scope) -> str:
        """Name of the suite that tests an update of this scope."""
        return self.suites.instance if scope == "instance" else self.suites.deployment

    def gates_for(self, scope: Scope) -> Gates:
        """The gates as a change of this scope meets them: what is not for it is unused."""
        return _met(self.gates, scope)


_MET: dict[tuple[int, Scope], tuple[Gates, Gates]] = {}
_MOST_MET = 64


def _met(gates: Gates, scope: Scope) -> Gates:
    """`gates.for_scope(scope)`, which every step of a change asks for, made once for the same object.

    By identity: what has its own settings is another object, and one that is kept here cannot hand its identity on.
    """
    known = _MET.get((id(gates), scope))
    if known is None or known[0] is not gates:
        if len(_MET) >= _MOST_MET:
            _MET.clear()
        known = _MET[id(gates), scope] = (gates, gates.for_scope(scope))
    return known[1]


class Policy(Part):
    """A validated policy with its digest and its bytes."""

    document: PolicyDocument
    digest: str
    source: bytes = Field(repr=False)

    @property
    def label(self) -> str:
        """Name and version, for people: `default/v1`."""
        return f"{self.document.name}/v{self.document.version}"


def load_policy(source: bytes, where: str = "policy", *, new: bool = False) -> Policy:
    """Validate the bytes of one policy file.

    Arguments:
        new: whether it is a file that somebody gives, and not one that a log holds: then it may not say what two
            readers understand differently, nor a number that the bounds of rules do not see.

    Raises:
        PolicyError: with `where`, the line, what is wrong, and what is accepted.
    """
    data, lines = read_mapping(source, where, new=new)
    if data.get("format") == 1:
        _refuse_later(lines, where)
        data = _with_what_joined(data)
    try:
        document = PolicyDocument.model_validate(data)
    except ValidationError as error:
        raise PolicyError(_explain(error, lines, where)) from None
    for path, what in impossible(document):
        dotted = " > ".join(path)
        raise PolicyError(f"{where}, line {_line(path, lines)}: {dotted}: {what} See docs/reference/policy.md.")
    for index, rule in enumerate(document.rules if new else ()):
        for number in converted_texts(rule.require):
            line = _line(("rules", str(index), "require"), lines)
            raise PolicyError(
                f"{where}, line {line}: rules > {index} > require: {number} is text; a conversion is of numbers."
            )
    return Policy(document=document, digest=hashlib.sha256(source).hexdigest(), source=source)


def _with_what_joined(data: dict[str, Any]) -> dict[str, Any]:
    """A file of format 1, which had one suite, ten gates, Tango's bound and no rules, with what joined since as it was.

    Logs hold such files, and what they decided has to be derived again (decision 0009).
    """
    suite = {"suites": {"instance": data["suite"], "deployment": data["suite"]}} if "suite" in data else {}
    rest = {name: value for name, value in data.items() if name != "suite"}
    parts = {name: rest[name] | before for name, before in _BEFORE.items() if isinstance(rest.get(name), dict)}
    for gate in ("regression.previous", "regression.base"):
        if isinstance(rest.get("gates"), dict) and isinstance(rest["gates"].get(gate), dict):
            parts["gates"][gate] = {"bound": "tango"} | rest["gates"][gate]
    return rest | parts | suite | _BEFORE_WHOLE


def _refuse_later(lines: dict[tuple[str, ...], int], where: str) -> None:
    """Refuse what joined with format 2 in a file that says it is older: it would be read, and would not hold."""
    later: set[tuple[str, ...]] = {(part, name) for part, before in _BEFORE.items() for name in before}
    later |= {(name,) for name in (*_BEFORE_WHOLE, "suites")}
    if found := sorted((lines[path], path) for path in later & lines.keys()):
        line, path = found[0]
        raise PolicyError(f"{where}, line {line}: {' > '.join(path)}: it joined with format 2; write `format: 2`.")


_BEFORE: dict[str, dict[str, Any]] = {
    "gates": dict.fromkeys(LATER_GATES, "unused"),
    "envelope": dict.fromkeys(MEASURED_LIMITS, "unused"),
    "approvals": {
        "roles": ("requester", "operator", "admin"),
        "max_authentication_age_seconds": None,
        "signature_required": False,
        "expires_after_hours": None,
    },
}
_BEFORE_WHOLE: dict[str, Any] = {
    "update": {"projection": "never", "trust_radius": "unused"},
    "samples": {"real_share": 0.0, "importance_weights": False},
    "rules": (),
    "scopes": dict.fromkeys(RoleScopes.model_fields, SCOPES),
    "retention": {"instance": "delta"},
}
"""What format 1 left unsaid, as it was."""


_QUANTITY = re.compile(r"\s*[-+]?[0-9][0-9.,_]*\s*(%|[A-Za-z]{1,12}/?[A-Za-z]{0,12})\s*")
"""A number with a unit behind it: 5%, 72h, 10 minutes."""


_TYPE_NAME = re.compile(r"^[A-Z]|\[|constrained")
"""What pydantic puts between the keys of a path: which of several types it tried."""
_REMEDIES = {
    "extra_forbidden": "unknown key; remove it or mend its spelling",
    "model_type": "settings are `key: value` in braces or indented; a gate that is not used says `unused`",
}


def _other_choice(fault: ErrorDetails) -> bool:
    """Whether it only says that a gate with settings is not the word `unused`, which nobody meant."""
    return fault["type"] == "literal_error" and not isinstance(fault["input"], str)


def _line(path: tuple[str, ...], lines: dict[tuple[str, ...], int]) -> int:
    """The line of a setting, or of the nearest part around it that the file has."""
    return next(lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines)


def _explain(error: ValidationError, lines: dict[tuple[str, ...], int], where: str) -> str:
    # An unknown key comes first: a misspelt key is also reported as a missing one, which would mislead.
    faults = [fault for fault in error.errors(include_url=False) if not _other_choice(fault)] or error.errors()
    first = min(faults, key=lambda item: item["type"] != "extra_forbidden")
    path = tuple(str(part) for part in first["loc"])
    dotted = " > ".join(part for part in path if not _TYPE_NAME.search(part))
    what = _REMEDIES.get(first["type"], first["msg"].removeprefix("Value error, "))
    if isinstance(first["input"], str) and _QUANTITY.fullmatch(first["input"]):
        what = f"{first['input']!r} carries a unit; the key says the unit, and the value is the number alone"
    more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{where}, line {_line(path, lines)}: {dotted}: {what}.{more} See docs/reference/policy.md."
