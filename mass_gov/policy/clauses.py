"""A mapping file: what the clauses of a regulation ask for, which events answer them, and what would be a gap.

Rules: it is data, and another framework is another file. What it can say is small on purpose:

- a *selector* names an event type, and values that its paths must have (`clause_paths`); `any` asks for some
  value, `none` for no value
- *records* are counted: how many events a selector finds, the first and the last, examples, and what `fields` say
- a *gap* is one of five rules: `each` (every such event has what it `needs`), `followed` (another one with the same key
  came later, in time), `known` (another one with the same key came before), `some` (at least so many are there, where
  `when` happened at all), `fact` (a figure about the log or its settings lies within bounds)

A selector looks at the period, tenant and deployment that a report is about; `everywhere` leaves the place out,
`ever` the period. Every type and path is held to the event catalogue when the file is read, with the line in the
message.

This module does not know what the law says, nor whether a mapping reads it well: the file carries its source and says
that it is no legal advice.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictBool, StrictInt, StrictStr, StringConstraints, ValidationError, model_validator

from mass_gov.errors import InputError, PolicyError
from mass_gov.policy.clause_paths import fault_of
from mass_gov.policy.gate_settings import Part
from mass_gov.policy.strict_yaml import read_mapping
from mass_gov.records.base import Slug
from mass_gov.records.events import EVENT_TYPES

ANY, NONE = "any", "none"
"""What a path may have to have instead of one of several values: some value, whichever, or no value."""

Path = Annotated[str, StringConstraints(pattern=r"^[a-z_0-9]+(\.[a-z_0-9]+)*$", max_length=120)]
Prose = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Date = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Value = StrictBool | StrictInt | StrictStr
Values = Value | tuple[Value, ...]
Number = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
FactName = Literal["log.verified", "log.unwitnessed", "retention.days", "incidents.open", "incidents.overdue"]
"""Figures that come from beside the events; `docs/reference/clauses.md` says what each is."""


class Selector(Part):
    """Which events."""

    type: str
    where: dict[Path, Values] = Field(default_factory=dict)
    everywhere: bool = False
    ever: bool = False

    @model_validator(mode="after")
    def _in_the_catalogue(self) -> Self:
        if self.type not in EVENT_TYPES:
            raise ValueError(f"there is no event type {self.type!r}")
        for path in self.paths():
            if (fault := fault_of(self.type, path)) is not None:
                raise ValueError(fault)
        return self

    def paths(self) -> tuple[str, ...]:
        """Every path that it reads."""
        return tuple(self.where)


class Records(Selector):
    """Events that answer a clause, and what of them is counted by value."""

    fields: tuple[Path, ...] = ()

    def paths(self) -> tuple[str, ...]:
        """Every path that it reads."""
        return (*self.where, *self.fields)


class Keyed(Selector):
    """Events that others are found by."""

    key: Path

    def paths(self) -> tuple[str, ...]:
        """Every path that it reads."""
        return (*self.where, self.key)


class Each(Part):
    """Every such event has what it needs."""

    rule: Literal["each"]
    says: Prose
    of: Selector
    needs: dict[Path, Values]

    @model_validator(mode="after")
    def _known_paths(self) -> Self:
        if faults := [fault for path in self.needs if (fault := fault_of(self.of.type, path)) is not None]:
            raise ValueError(faults[0])
        return self


class Followed(Part):
    """Another event with the same key came later: within so many days, or at all."""

    rule: Literal["followed"]
    says: Prose
    of: Keyed
    by: tuple[Keyed, ...]
    within_days: Number | None = None


class Known(Part):
    """Another event with the same key came before."""

    rule: Literal["known"]
    says: Prose
    of: Keyed
    by: tuple[Keyed, ...]


class Some(Part):
    """At least so many are there, if there is anything that calls for them."""

    rule: Literal["some"]
    says: Prose
    of: Selector
    at_least: Annotated[Number, Field(ge=1)] = 1
    when: Selector | None = None


class Fact(Part):
    """A figure lies within bounds. One that nobody knows is a gap."""

    rule: Literal["fact"]
    says: Prose
    fact: FactName
    at_least: Number | None = None
    at_most: Number | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a fact needs at_least or at_most; `true` counts as 1")
        return self


Gap = Annotated[Each | Followed | Known | Some | Fact, Field(discriminator="rule")]


class Clause(Part):
    """One paragraph: what it asks, in the file's own words, and what answers it here."""

    ref: Annotated[str, StringConstraints(min_length=1, max_length=40)]
    asks: Prose
    records: tuple[Records, ...] = ()
    gaps: tuple[Gap, ...] = ()
    verify: tuple[Prose, ...] = ()
    """How to check the answer: commands, each on a line of its own."""
    beyond: Prose | None = None
    """What no record here can show."""


class ReportSpec(Part):
    """One report: the clauses that it goes through."""

    title: Prose
    incidents: bool = False
    """Whether the incidents of the period are listed, with their deadlines."""
    clauses: Annotated[tuple[Clause, ...], Field(min_length=1)]


class Severity(Part):
    """How grave an incident can be, and how long there is to report it."""

    report_within_days: Annotated[Number, Field(le=3650)] | None
    ref: Annotated[str, StringConstraints(max_length=40)]
    means: Prose


class Source(Part):
    """Where the clauses come from, and how far somebody compared them with it."""

    document: Prose
    published: Prose
    url: Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$", max_length=300)]
    checked: Date
    how: Prose


class Framework(Part):
    """A whole mapping file."""

    format: Literal[1]
    name: Slug
    version: Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
    date: Date
    title: Prose
    notice: Prose
    source: Source
    reports: dict[Slug, ReportSpec]
    incidents: dict[Slug, Severity]


class Clauses(Part):
    """A validated mapping file with its digest and its bytes."""

    framework: Framework
    digest: str
    source: bytes = Field(repr=False)

    @property
    def label(self) -> str:
        """Name and version, for people: `eu-ai-act/v1`."""
        return f"{self.framework.name}/v{self.framework.version}"

    def severity(self, name: str) -> Severity:
        """How grave `name` is.

        Raises:
            InputError: the file knows no such severity.
        """
        if name not in self.framework.incidents:
            known = ", ".join(self.framework.incidents)
            raise InputError(f"{self.label} has no severity {name[:60]!r}. Use one of {known}.")
        return self.framework.incidents[name]


def load_clauses(source: bytes, where: str = "clauses") -> Clauses:
    """Validate the bytes of one mapping file.

    Raises:
        PolicyError: with `where`, the line, what is wrong, and where to look.
    """
    data, lines = read_mapping(source, where)
    try:
        framework = Framework.model_validate(data)
    except ValidationError as error:
        raise PolicyError(_explain(error, lines, where)) from None
    return Clauses(framework=framework, digest=hashlib.sha256(source).hexdigest(), source=source)


def _explain(error: ValidationError, lines: dict[tuple[str, ...], int], where: str) -> str:
    faults = error.errors(include_url=False)
    # An unknown key comes first: a misspelt key is also reported as a missing one, which would mislead.
    first: Any = min(faults, key=lambda fault: fault["type"] != "extra_forbidden")
    path: tuple[str, ...] = ()
    loc = [str(one) for one in first["loc"]]
    for place, part in enumerate(loc):
        tried = place > 1 and loc[place - 2] == "gaps"  # pydantic names the rule that it tried
        if not tried and (*path, part) in lines:
            path = (*path, part)
    what = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        what = f"unknown key `{first['loc'][-1]}`; remove it or mend its spelling"
    elif first["type"] == "missing":
        what = f"`{first['loc'][-1]}` is missing"
    dotted = " > ".join(path)
    more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
    at = f"{where}, line {lines[path]}: {dotted or 'the file'}"
    return f"{at}: {what}{more}. See docs/reference/clauses.md and events.md."
