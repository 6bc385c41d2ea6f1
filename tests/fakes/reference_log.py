"""A second opinion of what a log means: where pointers stand and where changes do, from an export and nothing else.

Written from DESIGN section 11 for tests, and on purpose not from the program: it imports nothing of it, reads the
exported JSON as it lies, and refuses nothing. A pointer is a stack here (the program keeps a row that moves):
an activation puts the change's own state on it, a rollback takes the change off wherever it is, a move to another base
empties it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Place = tuple[str, str]


@dataclass
class Pointer:
    """One pointer: its base state, and the changes that stand on it with the state of each."""

    base: str | None = None
    stack: list[tuple[str, str, bool]] = field(default_factory=list)
    head: int | None = None

    @property
    def state(self) -> str | None:
        """Its state; None while it never moved."""
        return None if self.head is None else self.stack[-1][1] if self.stack else self.base

    @property
    def change(self) -> str | None:
        """The change whose delta makes the state: one that learned nothing makes none."""
        return next((change for change, _, learned in reversed(self.stack) if learned), None)


@dataclass
class Meaning:
    """What a log means."""

    pointers: dict[Place, Pointer] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    frozen: set[Place | str] = field(default_factory=set)

    def is_frozen(self, place: Place) -> bool:
        """Whether a deployment may not learn."""
        return place in self.frozen or "everywhere" in self.frozen


def bare_state(model: str, delta: str | None) -> str:
    """The digest that names a state, written out again: SHA-256 of the canonical JSON of its two parts."""
    text = json.dumps({"base": model, "delta": delta}, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_export(path: Path) -> Meaning:
    """Read an export of a log from the first event to the last."""
    meaning, recorded = Meaning(), dict[str, dict[str, Any]]()
    for line in path.read_text().splitlines():
        event = json.loads(line)
        if "leaf" in event:  # the closing line has none
            statement = json.loads(base64.b64decode(event["leaf"]["payload"]))
            _take(meaning, recorded, event["index"], statement["predicate"])
    return meaning


def _take(meaning: Meaning, recorded: dict[str, dict[str, Any]], index: int, predicate: dict[str, Any]) -> None:
    body, place = predicate["body"], (predicate["tenant"], predicate["deployment"])
    kind = body["type"]
    if kind == "change.recorded":
        change = body["change"]
        recorded[change["identity"]["change_id"]] = change
        applies = {"instance": "applied", "deployment": "pending"}[change["identity"]["scope"]]
        meaning.status[change["identity"]["change_id"]] = {"apply": applies, "hold": "held", "reject": "rejected"}[
            change["decision"]["verdict"]
        ]
    elif kind == "change.approved" and body["approvals"] == body["required"] and body["meaning"] == "apply":
        if recorded[body["change_id"]]["identity"]["scope"] == "instance":
            meaning.status[body["change_id"]] = "applied"
    elif kind == "change.rejected":
        meaning.status[body["change_id"]] = "rejected"
    elif kind == "change.activated":
        change, pointer = recorded[body["change_id"]], meaning.pointers.setdefault(place, Pointer())
        pointer.base = pointer.base or bare_state(change["parents"]["base_model"], None)
        learned = change["update"]["delta"] is not None
        below = pointer.stack[-1][1] if pointer.stack else pointer.base
        state = bare_state(change["parents"]["base_model"], change["update"]["delta"]) if learned else below
        pointer.stack.append((body["change_id"], state, learned))
        pointer.head = index
        meaning.status[body["change_id"]] = "active"
    elif kind == "change.rolled_back":
        pointer = meaning.pointers.setdefault(place, Pointer())
        if any(change == body["change_id"] for change, _, _ in pointer.stack):
            pointer.stack = [one for one in pointer.stack if one[0] != body["change_id"]]
            pointer.head = index
        meaning.status[body["change_id"]] = "rolled_back"
    elif kind == "pointer.rebased":
        pointer = meaning.pointers.setdefault(place, Pointer())
        meaning.status |= dict.fromkeys((change for change, _, _ in pointer.stack), "retired")
        pointer.base, pointer.stack, pointer.head = bare_state(body["to_model"], None), [], index
    elif kind == "control.frozen":
        meaning.frozen.add("everywhere" if body["extent"] == "everywhere" else place)
    elif kind == "control.unfrozen":
        meaning.frozen.discard("everywhere" if body["extent"] == "everywhere" else place)
