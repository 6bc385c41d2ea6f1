"""Values between the process that tests and the process that is tested, as one line of ASCII JSON each.

Rules: only built-in types cross, exactly as themselves; a subclass crosses as its base, an iterator as its first
100,000 items. Anything else becomes a `Foreign`, which equals nothing: no object of the tested side can answer for
its own equality on the testing side. Decoding raises `ValueError` for whatever this module would not have written.

What the two say to mass-gov is one line too: `READY`, then a verdict, whose words are `shown`. Standard library only.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, Final

MAX_ITEMS: Final = 100_000
READY: Final = b"ready"
"""First line of the verdict's pipe once the walls stand; before it stands why they do not."""
DETAIL_CHARS: Final = 200


class Foreign:
    """Stands for a value that cannot cross; equal to nothing, not even to another of its kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def dumps(value: object) -> bytes:
    """Encode one value as a line; what is nested too deeply, or fails while it is read, is `Foreign`."""
    try:
        return json.dumps(_pack(value)).encode("ascii") + b"\n"
    except Exception:  # a generator of the tested side may raise anything
        return json.dumps(["foreign", type(value).__name__]).encode("ascii") + b"\n"


def loads(line: bytes) -> Any:
    """Decode a line. Raises `ValueError`."""
    try:
        return _unpack(json.loads(line))
    except (TypeError, KeyError, IndexError, RecursionError, OverflowError) as error:
        raise ValueError(f"not a value: {type(error).__name__}") from error


def shown(text: str) -> str:
    """A line that a terminal may be shown."""
    return "".join(c if c.isprintable() else " " for c in text)[:DETAIL_CHARS].strip()


def _pack(value: Any) -> list[Any]:  # noqa: PLR0911  (one line per type)
    if value is None or isinstance(value, bool):
        return ["plain", value]
    if isinstance(value, str):
        return ["plain", str.__str__(value)]
    if isinstance(value, int):
        return ["int", hex(int.__index__(value))]  # hexadecimal: decimal digits are limited, and slow
    if isinstance(value, float):
        return ["float", float.hex(value)]
    if isinstance(value, complex):
        return ["complex", value.real.hex(), value.imag.hex()]
    if isinstance(value, bytes | bytearray):
        return [type(value).__name__, value.hex()]
    if isinstance(value, dict):
        return ["dict", [[_pack(key), _pack(item)] for key, item in dict.items(value)]]
    if isinstance(value, range):
        return ["range", value.start, value.stop, value.step]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [_pack(item) for item in value]]
    if isinstance(value, Iterator):
        return ["iterator", [_pack(item) for item in itertools.islice(value, MAX_ITEMS)]]
    return ["foreign", type(value).__name__]


def _unpack(packed: Any) -> Any:  # noqa: PLR0911  (one line per type)
    kind, *rest = packed
    match kind, *rest:
        case ["plain", None | bool() | str() as value]:
            return value
        case ["int", str(digits)]:
            return int(digits, 16)
        case ["float", str(digits)]:
            return float.fromhex(digits)
        case ["complex", str(real), str(imaginary)]:
            return complex(float.fromhex(real), float.fromhex(imaginary))
        case ["bytes", str(digits)]:
            return bytes.fromhex(digits)
        case ["bytearray", str(digits)]:
            return bytearray.fromhex(digits)
        case ["dict", list(pairs)]:
            return {_unpack(key): _unpack(item) for key, item in pairs}
        case ["range", int(start), int(stop), int(step)]:
            return range(start, stop, step)
        case [("list" | "tuple" | "set" | "frozenset") as name, list(items)]:
            return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[name](map(_unpack, items))
        case ["iterator", list(items)]:
            return iter([_unpack(item) for item in items])
        case ["foreign", str(name)]:
            return Foreign(name[:80])
    raise ValueError(f"no value is of kind {str(kind)[:40]!r}")
