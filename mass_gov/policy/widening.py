"""What a new policy lets pass that the old one did not, and every other difference between the two.

Rules:

  1. two settings are compared by the mark beside the setting's type (`mass_gov.policy.wider`)
  2. a gate or a limit that is not used any more lets more pass; one that joins lets less pass
  3. rules are compared by name: one that is gone, or says something else, lets more pass
  4. what is not marked, and what is wider here and narrower there, is `other`: it counts as widening, since two people
     look at a change of which nobody can tell. A name, a version, a description let nothing pass

Pure: an auditor derives the same from the two files. What this does not see is that two differences may cancel out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic.fields import FieldInfo

from mass_gov.policy.document import PolicyDocument
from mass_gov.policy.gate_settings import Part
from mass_gov.policy.rules import Rule
from mass_gov.policy.wider import Wider

Direction = Literal["wider", "narrower", "other", "neither"]
_WIDENING = ("wider", "other")
_NONE = (None, "unused")


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting that is not the same in both policies. None: it is not there."""

    path: str
    old: Any
    new: Any
    direction: Direction


def widens(old: PolicyDocument, new: PolicyDocument) -> tuple[str, ...]:
    """Dotted names of the settings by which `new` lets, or may let, pass what `old` did not; in the file's order."""
    return tuple(one.path for one in differences(old, new) if one.direction in _WIDENING)


def differences(old: PolicyDocument, new: PolicyDocument) -> tuple[Difference, ...]:
    """Every setting that differs, in the order of the file."""
    return tuple(_parts("", old, new))


def _parts(path: str, old: Part, new: Part) -> Iterator[Difference]:
    for attribute, field in type(old).model_fields.items():
        name = f"{path}{field.alias or attribute}"
        before, after = getattr(old, attribute), getattr(new, attribute)
        if name == "rules":
            yield from _rules(before, after)
        elif isinstance(before, Part) and isinstance(after, Part):
            yield from _parts(f"{name}.", before, after)
        elif isinstance(before, Part) or isinstance(after, Part):
            gone = isinstance(before, Part)
            yield Difference(name, "used" if gone else before, after if gone else "used", _gone(gone))
        elif _comparable(before) != _comparable(after):
            yield Difference(name, before, after, _direction(field, before, after))


def _rules(old: tuple[Rule, ...], new: tuple[Rule, ...]) -> Iterator[Difference]:
    before, after = {rule.name: rule for rule in old}, {rule.name: rule for rule in new}
    for name in before | after:
        if name in before and name in after:
            yield from _parts(f"rules.{name}.", before[name], after[name])
        else:
            gone = name in before
            rule = before[name] if gone else after[name]
            yield Difference(
                f"rules.{name}", rule.require if gone else None, None if gone else rule.require, _gone(gone)
            )


def _gone(gone: bool) -> Direction:
    return "wider" if gone else "narrower"


def _comparable(value: Any) -> Any:
    return frozenset(value) if isinstance(value, tuple) else value


def _direction(field: FieldInfo, old: Any, new: Any) -> Direction:
    mark = _mark(field)
    if mark is Wider.NEITHER:
        return "neither"
    wider = _is_wider(mark, field, old, new)
    return "other" if wider is None else "wider" if wider else "narrower"


def _is_wider(mark: Wider | None, field: FieldInfo, old: Any, new: Any) -> bool | None:
    match mark:
        case Wider.HIGHER | Wider.GRANTED | Wider.LOWER:
            none = math.inf if mark is Wider.HIGHER else -math.inf
            before, after = (none if value in _NONE else float(value) for value in (old, new))
            return (after > before) == (mark is not Wider.LOWER)
        case Wider.MORE | Wider.FEWER:
            more, fewer = set(new) - set(old), set(old) - set(new)
            return None if more and fewer else bool(more) == (mark is Wider.MORE)
        case Wider.LATER | Wider.EARLIER:
            words = get_args(field.annotation)
            return (words.index(new) > words.index(old)) == (mark is Wider.LATER)
        case Wider.YES | Wider.NO:
            return bool(new == (mark is Wider.YES))
        case _:
            return None


def _mark(field: FieldInfo) -> Wider | None:
    """The mark beside a setting's type, or beside one of its types; None where there is none."""
    beside = [
        *field.metadata,
        *(mark for one in get_args(field.annotation) for mark in getattr(one, "__metadata__", ())),
    ]
    return next((mark for mark in beside if isinstance(mark, Wider)), None)
