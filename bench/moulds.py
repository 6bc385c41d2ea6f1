"""Events by the thousand, for `seed_ledger.py`: signed, exactly as the ledger would write them, and cheap.

A mould is an event's payload and rows, made once by the program itself with placeholders where events differ: ids,
times, places, subjects. Casting puts values in their place. Only strings are replaced, by strings of the same kind, so
what was canonical stays so. Chunks know nothing of one another and can be cast in any process.
"""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mass_gov.evidence.dsse import PAYLOAD_TYPE, sign_envelope
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.merkle import leaf_hash
from mass_gov.evidence.signing import Signer
from mass_gov.ledger import Entry, marks
from mass_gov.ledger.entries import statement_bytes
from mass_gov.ledger.schema import changes, responses
from mass_gov.records.base import timestamp
from mass_gov.records.events import ChangeRecorded, Predicate, ResponseServed

TENANTS = ("acme", "globex", "initech", "umbrella")
DEPLOYMENTS = ("tutor", "desk")
RARE_EVERY = 50_000
"""Events between two changes of the tenant `rare`."""
PLACEHOLDERS = {
    "event_id": "00000000-0000-7000-8000-000000000001",
    "change_id": "00000000-0000-7000-8000-000000000002",
    "response_id": "00000000-0000-7000-8000-000000000003",
    "tenant": "placeholder-tenant",
    "deployment": "placeholder-deployment",
    "subject": "s-" + "01" * 16,
    "commitment": "02" * 32,
    "recorded": "03" * 32,
    "leaf_hash": "04" * 32,
    "time": "2001-01-01T00:00:00.000001Z",
}


class Cast(NamedTuple):
    """One event: its leaf and its rows; `rejects` is the index of the change that it rejects."""

    index: int
    leaf: bytes
    leaf_hash: str
    row: dict[str, Any]
    change: dict[str, Any] | None
    response: dict[str, Any] | None
    rejects: int | None


@dataclass(frozen=True)
class Mould:
    """An event with placeholders: its payload, and its rows as JSON (`events`; `changes` and `responses`)."""

    payload: str
    rows: str
    held: bool = False

    @classmethod
    def of(cls, predicate: Predicate) -> Mould:
        """Of an event that has placeholders in it."""
        body = predicate.body
        entry = Entry(0, b"", PLACEHOLDERS["leaf_hash"], predicate)
        change = change_row(entry, body) if isinstance(body, ChangeRecorded) else None
        response = response_row(entry, body) if isinstance(body, ResponseServed) else None
        held = isinstance(body, ChangeRecorded) and body.change.decision.verdict == "hold"
        payload = statement_bytes(predicate, predicate.document()).decode("utf-8")
        return cls(payload, json.dumps([marks.rows_of([(0, predicate)], "")[0], change, response]), held)

    def cast(self, index: int, signer: Signer, values: Mapping[str, str], rejects: int | None = None) -> Cast:
        """Sign the event that has these values."""
        payload = _filled(self.payload, values)
        leaf = sign_envelope(payload.encode("utf-8"), PAYLOAD_TYPE, signer)
        hashed = leaf_hash(leaf).hex()
        row, *others = json.loads(_filled(self.rows, {**values, "leaf_hash": hashed}))
        for one in (row, *filter(None, others)):
            one["index"] = index
        return Cast(index, leaf, hashed, row, *others, rejects)


@dataclass(frozen=True)
class Moulds:
    """What a chunk is cast from."""

    changes: tuple[Mould, ...]
    answer: Mould
    replay: Mould
    rejection: Mould


@dataclass(frozen=True)
class Caster:
    """Casts chunks of one log, with its key, in whatever process.

    Attributes:
        keys: the folder of the key store.
        started, step: time of event 0, and between two events.
    """

    keys: Path
    moulds: Moulds
    seed: int
    started: dt.datetime
    step: dt.timedelta

    def chunk(self, bounds: tuple[int, int]) -> list[Cast]:
        """The events from the first index up to before the second."""
        chunk = _Chunk(self, KeyStore.open(self.keys).log_signer, random.Random(f"{self.seed} {bounds[0]}"))
        return [chunk.one(index) for index in range(*bounds)]


class _Chunk:
    """Draws events, and remembers what later ones are about."""

    def __init__(self, caster: Caster, signer: Signer, chance: random.Random) -> None:
        self._caster, self._signer, self._chance = caster, signer, chance
        self._known: deque[dict[str, str]] = deque(maxlen=50)
        self._held: deque[tuple[int, dict[str, str]]] = deque()

    def one(self, index: int) -> Cast:
        """The next event."""
        made = self._drawn(index, self._caster.moulds)
        if made.change is not None:
            change = {name: str(made.change[name]) for name in ("change_id", "tenant", "deployment")}
            self._known.append({"recorded": made.leaf_hash, **change})
            if made.change["status"] == "held":
                self._held.append((index, self._known[-1]))
        return made

    def _drawn(self, index: int, moulds: Moulds) -> Cast:
        kind, signer, values = self._chance.random(), self._signer, self._values(index)
        if index % RARE_EVERY == 0:
            return self._chance.choice(moulds.changes).cast(index, signer, values | {"tenant": "rare"})
        if kind < 0.2 or not self._known:
            return self._chance.choice(moulds.changes).cast(index, signer, values)
        if kind < 0.22 and self._held and self._held[0][0] < index - 2 * marks.STRETCH:
            rejected, about = self._held.popleft()
            return moulds.rejection.cast(index, signer, values | about, rejected)
        if kind < 0.4:
            return moulds.replay.cast(index, signer, values | self._chance.choice(self._known))
        return moulds.answer.cast(index, signer, values)

    def _values(self, index: int) -> dict[str, str]:
        moment, chance = self._caster.started + index * self._caster.step, self._chance
        return {
            **{name: _uuid7(moment, chance) for name in ("event_id", "change_id", "response_id")},
            "tenant": chance.choice(TENANTS),
            "deployment": chance.choice(DEPLOYMENTS),
            "subject": f"s-{chance.getrandbits(128):032x}",
            "commitment": f"{chance.getrandbits(256):064x}",
            "time": timestamp(moment),
        }


def change_row(entry: Entry, body: ChangeRecorded) -> dict[str, Any]:
    """What `changes` holds of a change that was just recorded."""
    change = body.change
    said = {**change.identity.document(), **change.parents.document(), **change.update.document()}
    said |= {"index": entry.index, "leaf_hash": entry.leaf_hash, "status": marks.first_status(change)}
    return {column.name: said.get(column.name) for column in changes.columns}


def response_row(entry: Entry, body: ResponseServed) -> dict[str, Any]:
    """What `responses` holds of an answer."""
    said = {"index": entry.index, "tenant": entry.predicate.tenant, "deployment": entry.predicate.deployment}
    said |= body.document() | {"subject": body.unadapted.subject if body.unadapted is not None else None}
    return {column.name: said.get(column.name) for column in responses.columns}


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(PLACEHOLDERS[name], value)
    return text


def _uuid7(moment: dt.datetime, chance: random.Random) -> str:
    text = f"{int(moment.timestamp() * 1000):012x}7{chance.getrandbits(76):019x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{'89ab'[chance.getrandbits(2)]}{text[17:20]}-{text[20:]}"
