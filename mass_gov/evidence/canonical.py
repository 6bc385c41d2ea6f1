"""Canonical JSON (RFC 8785) and SHA-256: the one way in which a value becomes bytes.

Rules: what is hashed or signed is stored as bytes and never re-serialised; a reader accepts only bytes that it would
have written itself, so that no two byte strings mean the same value. Non-finite numbers, integers beyond
±(2^53 - 1), keys that are not strings and lone surrogates are refused.

JSON has one kind of number: 2.0 is written `2` and read back as the integer 2. Readers that need a float convert.
This module does not know what the values mean.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Never, TypeAlias

import rfc8785

from mass_gov.errors import InputError, IntegrityError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_INTEGER = 2**53 - 1


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data`, 64 lowercase hex digits."""
    return hashlib.sha256(data).hexdigest()


def canonical_bytes(value: object) -> bytes:
    """The RFC 8785 serialisation of `value` (dict, list, tuple, str, int, float, bool, None).

    Raises:
        InputError: the value has no canonical form; the message names the place inside it.
    """
    try:
        if (quick := _quick_bytes(value)) is not None:
            return quick
        return rfc8785.dumps(value)  # type: ignore[arg-type]  # the point of the call is to refuse the rest
    except (ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{_fault(value) or error}. Mend the value before it is recorded.") from error


def parse_canonical(data: bytes) -> Json:
    """Read canonical JSON, and only canonical JSON: the result re-serialises to exactly `data`.

    Raises:
        IntegrityError: not UTF-8, not JSON, a duplicate key, a non-finite number, or any byte that RFC 8785 would
            have written otherwise.
    """
    try:
        value: Json = _STRICT.decode(data.decode("utf-8"))
        if _quick_bytes(value) == data:
            return value
        again = rfc8785.dumps(value)
    except (ValueError, OverflowError, RecursionError) as error:
        raise _not_canonical(str(error) or "nested too deeply") from error
    if again != data:
        raise _not_canonical(f"first differs at byte {_first_difference(again, data)}")
    return value


class _NotQuickError(ValueError):
    """A value that the standard library writes otherwise than RFC 8785, or may."""


def _quick_bytes(value: object) -> bytes | None:
    """RFC 8785 by the standard library, several times as fast, where the two cannot differ; None elsewhere.

    They agree on what has no number but integers up to 2^53 - 1 and decimals that Python writes without an exponent,
    and no character beyond U+FFFF, by whose UTF-16 form keys would sort otherwise. Both write the fewest digits that
    read back as the same number; from 1e-4 to 1e16 Python writes them as ECMAScript does, but for whole ones (`2.0`),
    whose ending is taken off. Reading the text back says which numbers it has, that no key was made a string, and that
    nothing was taken off that was not a number's.
    """
    try:
        text = _WRITER.encode(value)
        if ".0" in text:
            text = _WHOLE.sub(r"\1", text)
        if _READER.decode(text) != value or not (text.isascii() or max(text) <= "\uffff"):
            return None
        return text.encode("utf-8")
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def _quick_float(text: str) -> float:
    if not text.isascii() or "e" in text or "E" in text or text.endswith(".0"):  # -0.0 too, which is written 0
        raise _NotQuickError(text)
    return float(text)


def _quick_integer(text: str) -> int:
    number = int(text)
    if abs(number) > MAX_INTEGER:
        raise _NotQuickError(text)
    return number


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return result


def _integer(text: str) -> int | float:
    # A float such as 1e20 is written without exponent by RFC 8785; it must come back as the float that it was.
    number = int(text)
    return number if abs(number) <= MAX_INTEGER else float(number)


def _no_constant(text: str) -> Never:
    raise ValueError(f"{text} is not a JSON number")


# Made once: a decoder or an encoder takes longer to make than to use.
_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_constant=_no_constant)
_READER = json.JSONDecoder(parse_float=_quick_float, parse_int=_quick_integer)
_WHOLE = re.compile(r"(?<=[:,\[])(0|-?[1-9][0-9]*)\.0(?=[,}\]])")
_WRITER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _not_canonical(detail: str) -> IntegrityError:
    return IntegrityError(
        f"The bytes are not canonical JSON (RFC 8785): {detail}. They are not what was recorded; restore them."
    )


def _first_difference(left: bytes, right: bytes) -> int:
    for position, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return position
    return min(len(left), len(right))


def _fault(value: object, path: str = "$", depth: int = 0) -> str | None:
    """What makes `value` unfit for RFC 8785 and where, for a person; None when nothing obvious does."""
    if depth > 200:  # deeper than any record, shallower than the interpreter's stack
        return f"{path[:40]}... is nested too deeply for canonical JSON"
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                return f"{path} has the key {key!r}, and keys of canonical JSON are strings"
        return _first_fault([(f"{path}.{key}", item) for key, item in value.items()], depth)
    if isinstance(value, list | tuple):
        return _first_fault([(f"{path}[{i}]", item) for i, item in enumerate(value)], depth)
    return _scalar_fault(value, path)


def _first_fault(places: list[tuple[str, object]], depth: int) -> str | None:
    return next((fault for path, item in places if (fault := _fault(item, path, depth + 1))), None)


def _scalar_fault(value: object, path: str) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path} is {value}, and canonical JSON has finite numbers only"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return f"{path} is an integer beyond 2^53 - 1; record it as a string"
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        return f"{path} holds a lone surrogate, which is not Unicode text"
    if value is None or isinstance(value, bool | int | float | str):
        return None
    return f"{path} is a {type(value).__name__}, which JSON does not have"
