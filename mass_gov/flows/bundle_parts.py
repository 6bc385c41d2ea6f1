"""A bundle taken apart: which member is which part of the proof. Step (1) of `mass_gov.flows.bundle_verify`.

Rules: a member that has no name of the layout is refused, and so is a set of members of which one is missing. What
events call for (artifacts, references) is counted where the events are known; nothing is left over there either.
`README.md`, `leaf.json` and the markers can only say one thing, so they are made again and compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mass_gov.errors import IntegrityError
from mass_gov.evidence.bundle_members import (
    CHECKPOINT,
    DELTA_KEY,
    EVENT,
    LEAF,
    LOG_KEY,
    PROOF,
    README,
    README_TEXT,
    leaf_document,
)
from mass_gov.evidence.canonical import parse_canonical

_EVENT_MEMBER = re.compile(r"events/(0|[1-9][0-9]{0,17})/(event\.dsse\.json|leaf\.json|inclusion\.tlog-proof)")
_ALWAYS = (README, CHECKPOINT, EVENT, LEAF, PROOF, LOG_KEY, DELTA_KEY)
_MAX_INDEX = 10**18


@dataclass(frozen=True, slots=True)
class EventPart:
    """One event's leaf and its inclusion proof; `where` is the leaf's member."""

    where: str
    leaf: bytes = field(repr=False)
    proof: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a bundle holds.

    Attributes:
        members: every member by its name.
        change_index: where the change stands in the log, as `leaf.json` says; its proof bears it out.
        events: by index, the change's among them.
        contents: names of the members that events call for, or nobody.
    """

    members: Mapping[str, bytes] = field(repr=False)
    change_index: int
    events: dict[int, EventPart]
    contents: frozenset[str]

    @property
    def checkpoint(self) -> bytes:
        """The signed head."""
        return self.members[CHECKPOINT]


def take_apart(members: Mapping[str, bytes]) -> Parts:
    """Say which member is which, step (1).

    Raises:
        IntegrityError: one is missing, or says something that is not its own.
    """
    if missing := [name for name in _ALWAYS if name not in members]:
        raise _refuse(f"it lacks {', '.join(missing)}")
    if members[README] != README_TEXT:
        raise _refuse(f"{README} is not the text that every bundle has")
    change_index = _index_of(members[LEAF])
    folders = {change_index: ""}
    for name in members:
        if (match := _EVENT_MEMBER.fullmatch(name)) is not None:
            index = int(match[1])
            if index == change_index:
                raise _refuse(f"{name} is the change's own event, which stands at the top")
            folders[index] = f"events/{index}/"
    events = {index: _event(members, folder, index) for index, folder in sorted(folders.items())}
    known = {f"{folder}{name}" for folder in folders.values() for name in (EVENT, LEAF, PROOF)} | set(_ALWAYS)
    return Parts(members, change_index, events, frozenset(members.keys() - known))


def _event(members: Mapping[str, bytes], folder: str, index: int) -> EventPart:
    if missing := [f"{folder}{name}" for name in (EVENT, LEAF, PROOF) if f"{folder}{name}" not in members]:
        raise _refuse(f"it lacks {', '.join(missing)}")
    leaf = members[f"{folder}{EVENT}"]
    if leaf_document(index, leaf) != members[f"{folder}{LEAF}"]:
        raise _refuse(f"{folder}{LEAF} is not what {folder}{EVENT} says")
    return EventPart(f"{folder}{EVENT}", leaf, members[f"{folder}{PROOF}"])


def _index_of(document: bytes) -> int:
    value = parse_canonical(document)
    index = value.get("index") if isinstance(value, dict) else None
    if not isinstance(index, int) or isinstance(index, bool) or not 0 < index < _MAX_INDEX:
        raise _refuse(f"{LEAF} does not say where the change stands")
    return index


def _refuse(why: str) -> IntegrityError:
    return IntegrityError(f"The bundle is not whole: {why}. Ask for it again from whoever exported it.")
