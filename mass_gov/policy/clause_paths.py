"""Where a mapping file looks into an event: dotted paths, checked against the catalogue before anything is read.

Rules: a path starts at the event's predicate (`body.change.decision.verdict`, `actor.role`, `artifacts.role`), or is
`index`. Through a list it goes on in every item, so that a path has as many values as it finds; what says nothing
(null) is no value. A path that no event of its type can have is an error of the file, not an absent value.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from mass_gov.records.events import Body, Predicate

INDEX = "index"
_BODIES: dict[str, type[BaseModel]] = {
    str(one.model_fields["type"].default): one for one in get_args(get_args(Body)[0])
}


def values_at(index: int, predicate: Mapping[str, Any], path: str) -> tuple[Any, ...]:
    """Every value that an event has at a path; none where it says nothing there."""
    if path == INDEX:
        return (index,)
    found: list[Any] = [predicate]
    for part in path.split("."):
        found = [one.get(part) for one in _items(found) if isinstance(one, Mapping)]
    return tuple(one for one in _items(found) if one is not None)


def fault_of(event_type: str, path: str) -> str | None:
    """Why no event of a type has such a path; None where it has."""
    if path == INDEX:
        return None
    kinds: list[Any] = [Predicate]
    for part in path.split("."):
        kinds = [inner for kind in kinds for inner in _inside(kind, part, event_type)]
        if not kinds:
            return f"{event_type} has nothing at `{path}`: there is no `{part}`"
    return None


def _items(values: Sequence[Any]) -> list[Any]:
    flat: list[Any] = []
    for value in values:
        flat += _items(value) if isinstance(value, list | tuple) else [value]
    return flat


def _inside(kind: Any, part: str, event_type: str) -> list[Any]:
    if kind is Predicate and part == "body":
        return [_BODIES[event_type]]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _models(kind.model_fields[part].annotation) if part in kind.model_fields else []
    return [kind] if get_origin(kind) is dict else []


def _models(annotation: Any) -> list[Any]:
    """What a field's type may be, without the optional, the annotated and the list around it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _models(get_args(annotation)[0])
    if origin in (tuple, list, Union, types.UnionType):
        return [inner for one in get_args(annotation) if one not in (type(None), ...) for inner in _models(one)]
    return [annotation]
