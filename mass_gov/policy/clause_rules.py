"""What a mapping file asks of events, one event at a time: tallies of records, and the five rules for gaps.

Rules: memory does not grow with the log. A tally keeps counts, the first examples and a few values; what has to be
remembered of every event (keys that wait for another event, keys that were there) goes into a notebook that the caller
brings. Whether an event lies within the report's period and place is the caller's to say. The order is that of the log.
`followed`: an event that waits still is a gap at once where there is no time limit, else once its time is over.

This module does not know where events come from, and believes what it is given.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mass_gov.policy.clause_paths import values_at
from mass_gov.policy.clauses import ANY, NONE, Each, Fact, Followed, Gap, Keyed, Known, Records, Selector, Some

EXAMPLES = 5
"""Examples that are kept of anything."""
DIFFERENT = 12
"""Values of a field that are told apart; a field with more of them is only counted."""
_IDS = ("body.change.identity.change_id", "body.response_id", "body.incident_id", "body.change_id", "body.principal")


class Memory(Protocol):
    """Where keys are remembered (`mass_gov.ledger.notebook.Notebook`)."""

    def note(self, kind: str, key: str, text: str = "") -> str | None:
        """Note a text where there is none."""

    def find(self, kind: str, key: str) -> str | None:
        """The text of a key."""

    def take(self, kind: str, key: str) -> str | None:
        """The text of a key, which is forgotten."""

    def rest(self, kind: str) -> Iterator[tuple[str, str]]:
        """What is left of a kind."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An event as the rules see it.

    Attributes:
        here, now: whether it lies within the report's tenant and deployment, and within its period.
    """

    index: int
    predicate: Mapping[str, Any] = field(repr=False)
    here: bool = True
    now: bool = True

    @property
    def type(self) -> str:
        """What kind of event it is."""
        return str(self.predicate["body"]["type"])

    def at(self, path: str) -> tuple[Any, ...]:
        """Every value at a path."""
        return values_at(self.index, self.predicate, path)

    def document(self) -> dict[str, Any]:
        """What an example of it says: where it stands, when it was, and the id of what it is about."""
        named = next((found[0] for path in _IDS if (found := self.at(path))), None)
        return {"index": self.index, "time": self.predicate["time"], "id": named}


def has(seen: Seen, wanted: Mapping[str, Any]) -> bool:
    """Whether an event has one of the values that each path must have."""
    return all(_fits(seen.at(path), value) for path, value in wanted.items())


def selects(selector: Selector, seen: Seen) -> bool:
    """Whether a selector finds an event."""
    inside = (seen.here or selector.everywhere) and (seen.now or selector.ever)
    return inside and seen.type == selector.type and has(seen, selector.where)


def _fits(found: tuple[Any, ...], wanted: object) -> bool:
    if wanted in (ANY, NONE):
        return bool(found) is (wanted == ANY)
    accepted = wanted if isinstance(wanted, tuple) else (wanted,)
    # True is 1 to Python, and not to whoever wrote the file.
    return any(type(one) is type(other) and one == other for one in found for other in accepted)


@dataclass
class Tally:
    """How many events a selector finds, and what they say."""

    spec: Records
    count: int = 0
    first: int | None = None
    last: int | None = None
    examples: list[dict[str, Any]] = field(default_factory=list)
    said: dict[str, int] = field(default_factory=dict)
    values: dict[str, Counter[str]] = field(default_factory=dict)

    def look(self, seen: Seen) -> None:
        """Count it, if it is one."""
        if not selects(self.spec, seen):
            return
        self.count, self.last = self.count + 1, seen.index
        self.first = seen.index if self.first is None else self.first
        if len(self.examples) < EXAMPLES:
            self.examples.append(seen.document())
        for path in self.spec.fields:
            if found := seen.at(path):
                self.said[path] = self.said.get(path, 0) + 1
                values = self.values.setdefault(path, Counter())
                if len(values) <= DIFFERENT:
                    values.update({json.dumps(one) for one in found})

    def document(self) -> dict[str, Any]:
        """The tally as JSON; a field's values are named only where there are few of them."""
        fields = [
            {
                "path": path,
                "events": self.said.get(path, 0),
                "values": [
                    {"value": json.loads(value), "events": n}
                    for value, n in sorted(self.values.get(path, Counter()).items())
                ]
                if len(self.values.get(path, ())) <= DIFFERENT
                else None,
            }
            for path in self.spec.fields
        ]
        where = {path: list(v) if isinstance(v, tuple) else v for path, v in self.spec.where.items()}
        return {
            "type": self.spec.type,
            "where": where,
            "everywhere": self.spec.everywhere,
            "ever": self.spec.ever,
            "count": self.count,
            "first_index": self.first,
            "last_index": self.last,
            "examples": self.examples,
            "fields": fields,
        }


@dataclass
class GapCheck:
    """One rule: looks at events as they pass by, and says in the end what it found."""

    rule: Gap
    memory: Memory
    found: int = 0
    looked_at: int = 0
    called_for: bool = False
    examples: list[dict[str, Any]] = field(default_factory=list)
    note: str | None = None

    @property
    def _kind(self) -> str:
        """What its notes are filed under: no two rules share a notebook's page."""
        return f"rule {id(self)}"

    def types(self) -> frozenset[str]:
        """The event types that it wants to see."""
        match self.rule:
            case Each() as rule:
                return frozenset({rule.of.type})
            case Some() as rule:
                return frozenset({rule.of.type} | ({rule.when.type} if rule.when is not None else set()))
            case Followed() | Known() as rule:
                return frozenset({rule.of.type, *(by.type for by in rule.by)})
            case Fact():
                return frozenset()

    def look(self, seen: Seen) -> None:
        """Take an event into account."""
        match self.rule:
            case Each() as rule:
                if selects(rule.of, seen):
                    self._judge(seen.document(), has(seen, rule.needs))
            case Some() as rule:
                self.looked_at += selects(rule.of, seen)
                self.called_for |= rule.when is not None and selects(rule.when, seen)
            case Followed() as rule:
                self._follow(rule, seen)
            case Known() as rule:
                self._know(rule, seen)
            case Fact():
                pass

    def document(self, facts: Mapping[str, int | None], at: str) -> dict[str, Any]:
        """What was found by the time `at`, as JSON."""
        match self.rule:
            case Some() as rule if (rule.when is None or self.called_for) and self.looked_at < rule.at_least:
                self.found, self.note = 1, f"{self.looked_at} of at least {rule.at_least}"
            case Followed() as rule:
                self._still_waiting(rule, at)
            case Fact() as rule:
                self._fact(rule, facts.get(rule.fact))
        return {
            "rule": self.rule.rule,
            "says": self.rule.says,
            "verdict": self._verdict(),
            "looked_at": self.looked_at,
            "found": self.found,
            "examples": self.examples,
            "note": self.note,
        }

    def _verdict(self) -> Literal["gap", "none", "nothing to look at"]:
        if self.found:
            return "gap"
        idle = isinstance(self.rule, Each | Followed | Known) and not self.looked_at
        idle |= isinstance(self.rule, Some) and self.rule.when is not None and not self.called_for
        return "nothing to look at" if idle else "none"

    def _judge(self, example: dict[str, Any], fine: bool) -> None:
        self.looked_at += 1
        self._wrong(example, not fine)

    def _wrong(self, example: dict[str, Any], wrong: bool) -> None:
        self.found += wrong
        if wrong and len(self.examples) < EXAMPLES:
            self.examples.append(example)

    def _follow(self, rule: Followed, seen: Seen) -> None:
        for key in _keys(rule.by, seen):
            waited = self.memory.take(self._kind, key)
            if waited is not None and rule.within_days is not None:
                example = json.loads(waited)
                self._wrong(example, _late(example["time"], seen.predicate["time"], rule.within_days))
        if selects(rule.of, seen):
            self.looked_at += 1
            for key in _keys((rule.of,), seen):
                self.memory.note(self._kind, key, json.dumps(seen.document()))

    def _still_waiting(self, rule: Followed, at: str) -> None:
        for _, text in self.memory.rest(self._kind):
            example = json.loads(text)
            self._wrong(example, rule.within_days is None or _late(example["time"], at, rule.within_days))

    def _know(self, rule: Known, seen: Seen) -> None:
        if selects(rule.of, seen):
            keys = _keys((rule.of,), seen)
            there = [self.memory.find(self._kind, key) is not None for key in keys]
            self._judge(seen.document(), bool(there) and all(there))
        for key in _keys(rule.by, seen):
            self.memory.note(self._kind, key)

    def _fact(self, rule: Fact, value: int | None) -> None:
        self.looked_at = 1
        bounds = [f"at least {rule.at_least}"] if rule.at_least is not None else []
        bounds += [f"at most {rule.at_most}"] if rule.at_most is not None else []
        self.note = f"{rule.fact} is {'not known' if value is None else value}, wanted {' and '.join(bounds)}"
        low = rule.at_least is not None and value is not None and value < rule.at_least
        high = rule.at_most is not None and value is not None and value > rule.at_most
        self.found = int(value is None or low or high)


def _keys(selectors: tuple[Keyed, ...], seen: Seen) -> list[str]:
    """The keys of an event under each selector that it fits, wherever and whenever it was."""
    fitting = [one for one in selectors if seen.type == one.type and has(seen, one.where)]
    return [json.dumps(value) for one in fitting for value in seen.at(one.key)]


def _late(since: str, at: str, days: int) -> bool:
    return dt.datetime.fromisoformat(at) - dt.datetime.fromisoformat(since) > dt.timedelta(days=days)
