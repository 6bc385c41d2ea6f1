"""Where a recorded and a recomputed stage part: the first token, tensor, gate, case or field, with both values.

Rules: documents are walked in the order of their fields, which is the order in which a stage comes about, and lists by
position; the first value that is not the same is the difference. What has a name (a gate, a measure, a case) is called
by it, everything else by its index from 0. What only one side has is None on the other.

Two deltas are compared tensor by tensor in the order of their names. Of float32 numbers, the distance in ULP is the
number of steps from one to the other along all float32 values in the total order of IEEE 754 (section 5.10), where -0
comes right before +0: it is 0 exactly where the bits are equal.

Pure functions: nothing here knows a ledger or a model, or why two values differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

Floats = NDArray[np.float32]
Place = tuple[tuple[str, int | str], ...]
_NAMED_BY = ("name", "gate", "case_id", "module")
_OUTCOME = {"right", "answer"}
"""Fields of what a regression case came to, which are shown together."""
_SHORT = 60


@dataclass(frozen=True, slots=True)
class Distance:
    """How far two sets of float32 numbers lie apart.

    Attributes:
        numbers: how many there are.
        differing: of how many the bits differ.
        max_abs: the largest absolute difference; None where it is not finite.
        max_ulp: the largest number of float32 steps between two of them.
        cosine: of the two as vectors, in float64; None where one is all zeros or not finite.
    """

    numbers: int
    differing: int
    max_abs: float | None
    max_ulp: int
    cosine: float | None

    def __str__(self) -> str:
        """`max abs 1.2e-07, 3 ULP, cosine 0.99999998, 12 of 512 numbers`, in as many digits as tell it from 1."""
        far = "not finite" if self.max_abs is None else f"{self.max_abs:.3g}"
        angle = "none" if self.cosine is None else f"{self.cosine:.12g}"
        return f"max abs {far}, {self.max_ulp} ULP, cosine {angle}, {self.differing} of {self.numbers} numbers"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place at which two documents part, and what each says there.

    Attributes:
        at: from the outside in: `(("sample", 0), ("token", 17))`.
        field: the field that differs there.
        tensor, delta: of two deltas, how far the first differing tensor and the whole lie apart.
    """

    at: Place
    field: str
    recorded: Any
    recomputed: Any
    tensor: Distance | None = None
    delta: Distance | None = None

    def __str__(self) -> str:
        """One line for a person; longer values are cut."""
        where = ", ".join(f"{kind} {name}" for kind, name in self.at)
        if self.delta is not None:
            first = f"{where}: {self.tensor}; " if self.tensor is not None else ""
            return f"{first}whole delta: {self.delta}"
        said = f"{self.field} {_short(self.recorded)} is recorded, {_short(self.recomputed)} was computed"
        return f"{where}: {said}" if where else said

    def document(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "at": dict(self.at),
            "field": self.field,
            "recorded": self.recorded,
            "recomputed": self.recomputed,
            "tensor": asdict(self.tensor) if self.tensor is not None else None,
            "delta": asdict(self.delta) if self.delta is not None else None,
        }


def first_difference(recorded: Mapping[str, Any], recomputed: Mapping[str, Any]) -> Difference | None:
    """Walk two documents of JSON values; None where they say the same."""
    return _in_mapping(recorded, recomputed, (), "")


def delta_difference(recorded: Mapping[str, bytes], recomputed: Mapping[str, bytes]) -> Difference | None:
    """Compare two PEFT folders by their tensors; None where every byte is the same.

    Where no tensor tells them apart, the difference is the first file that does.
    """
    names = sorted(recorded.keys() | recomputed.keys())
    differing = [name for name in names if recorded.get(name) != recomputed.get(name)]
    if not differing:
        return None
    try:
        sides = [_tensors(files) for files in (recorded, recomputed)]
    except (SafetensorError, ValueError, KeyError, TypeError):
        sides = []
    if sides and (found := _in_tensors(*sides)) is not None:
        return found
    one, other = (files.get(differing[0]) for files in (recorded, recomputed))
    return Difference((("file", differing[0]),), "bytes", _size(one), _size(other))


def distance(recorded: Floats, recomputed: Floats) -> Distance:
    """How far two arrays of the same shape lie apart."""
    one, other = recorded.ravel(), recomputed.ravel()
    steps = np.abs(_place_in_order(one) - _place_in_order(other))
    wide, wider = one.astype(np.float64), other.astype(np.float64)
    with np.errstate(all="ignore"):
        largest = float(np.abs(wide - wider).max(initial=0.0))
        lengths = float(np.linalg.norm(wide) * np.linalg.norm(wider))
        cosine = float(wide @ wider) / lengths if lengths > 0 else math.nan
    return Distance(
        numbers=one.size,
        differing=int(np.count_nonzero(steps)),
        max_abs=largest if math.isfinite(largest) else None,
        max_ulp=int(steps.max(initial=0)),
        cosine=max(-1.0, min(1.0, cosine)) if math.isfinite(cosine) else None,
    )


def _place_in_order(values: Floats) -> NDArray[np.int64]:
    """Which place each float32 takes in the total order: 0 for +0, -1 for -0, and so on to either side."""
    bits = values.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -1 - (bits & 0x7FFFFFFF), bits)


def _tensors(files: Mapping[str, bytes]) -> dict[str, Floats]:
    """Every tensor of a folder by name. Raises ValueError where one is no float32."""
    found: dict[str, Any] = {}
    for file in sorted(files):
        found |= load(files[file]) if file.endswith(".safetensors") else {}
    if any(tensor.dtype != np.float32 for tensor in found.values()):
        raise ValueError("a delta holds float32 numbers")
    return found


def _in_tensors(recorded: Mapping[str, Floats], recomputed: Mapping[str, Floats]) -> Difference | None:
    """The first tensor by name that is another, or that only one side has."""
    for name in sorted(recorded.keys() | recomputed.keys()):
        one, other = recorded.get(name), recomputed.get(name)
        if one is None or other is None or one.shape != other.shape:
            return Difference((("tensor", name),), "shape", _shape(one), _shape(other))
    names = sorted(recorded)
    apart = {name: distance(recorded[name], recomputed[name]) for name in names}
    first = next((name for name in names if apart[name].differing), None)
    if first is None:
        return None
    whole = distance(*(np.concatenate([side[name].ravel() for name in names]) for side in (recorded, recomputed)))
    where = int(np.argmax(_place_in_order(recorded[first].ravel()) != _place_in_order(recomputed[first].ravel())))
    was, now = (_finite(side[first].ravel()[where]) for side in (recorded, recomputed))
    return Difference((("tensor", first), ("number", where)), "value", was, now, apart[first], whole)


def _shape(tensor: Floats | None) -> list[int] | None:
    return list(tensor.shape) if tensor is not None else None


def _finite(value: np.float32) -> float | None:
    return float(value) if math.isfinite(value) else None


def _in_mapping(
    recorded: Mapping[str, Any], recomputed: Mapping[str, Any], at: Place, within: str
) -> Difference | None:
    for key in dict.fromkeys((*recorded, *recomputed)):
        one, other = recorded.get(key), recomputed.get(key)
        if one != other:
            return _in_value(key, one, other, at, within)
    return None


def _in_value(key: str, one: Any, other: Any, at: Place, within: str) -> Difference | None:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() != _OUTCOME:
        return _in_mapping(one, other, at, f"{within}{key}.")
    if isinstance(one, list) and isinstance(other, list):
        return _in_list(key, one, other, at, within)
    return Difference(at, within + key, _plain(one), _plain(other))


def _in_list(key: str, recorded: list[Any], recomputed: list[Any], at: Place, within: str) -> Difference | None:
    pairs = enumerate(zip_longest(recorded, recomputed))
    index, (one, other) = next((index, pair) for index, pair in pairs if pair[0] != pair[1])
    place = (*at, (_singular(key), _name_of(one, other) or index))
    if isinstance(one, dict) and isinstance(other, dict):
        return _in_mapping(one, other, place, "")
    return Difference(place, within + key, _plain(one), _plain(other))


def _name_of(one: Any, other: Any) -> str | None:
    """What an item is called, where both sides call it the same or only one has it."""
    sides = [side for side in (one, other) if isinstance(side, dict)]
    names = {side[field] for side in sides for field in _NAMED_BY if field in side}
    return str(names.pop()) if len(names) == 1 else None


def _singular(key: str) -> str:
    return {"losses": "loss"}.get(key, key.removesuffix("s").replace("_", " "))


def _plain(value: Any) -> Any:
    """A value that can be shown; of a whole that the other side lacks only that it is there."""
    return "present" if isinstance(value, list) or (isinstance(value, dict) and value.keys() != _OUTCOME) else value


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"


def _size(content: bytes | None) -> str | None:
    return f"{len(content)} bytes" if content is not None else None
