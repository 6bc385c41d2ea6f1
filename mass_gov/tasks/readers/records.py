"""From bytes to checked values: lines, JSON, and one record's fields, each refused by file, line and remedy.

Rules
1. One line in memory, at most 1 MiB of it; a JSON array is a single value, at most 64 MiB. gzip is undone on the way.
2. The first bad record ends the reading with a `TaskError` that names file, line, what is wrong and what to do.
3. A known key is type-checked; a key given twice is refused; no task id is used twice (16 bytes are kept of each).

It does not know formats: which keys there are, and what they mean.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Final, NoReturn, TypeVar, cast

from mass_gov.errors import TaskError
from mass_gov.tasks.readers.values import BenchmarkTask
from mass_gov.tasks.text import clean_task_text, refuse_unprintable

MAX_LINE_BYTES: Final = 1024 * 1024
MAX_ARRAY_BYTES: Final = 64 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
_GZIP: Final = b"\x1f\x8b"
Record = dict[str, Any]
Raw = TypeVar("Raw")


# ---- one record -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file: reads typed values from the record there, and refuses it by name."""

    path: Path
    line: int

    def refuse(self, problem: str, remedy: str) -> NoReturn:
        """Raise the `TaskError` of this place."""
        raise TaskError(f"{self.path}, line {self.line}: {problem}. {remedy}.")

    def text(self, record: Record, key: str) -> str:
        """Return a required, non-blank text without control characters or lone surrogates."""
        if key not in record:
            self.refuse(f"the key {key!r} is missing", "Add it, or check that this is the right file format")
        value = record[key]
        if not isinstance(value, str):
            self.refuse(f"{key!r} is {_kind(value)}, not a text", f"Put the value of {key!r} in double quotes")
        try:
            return clean_task_text(value) if key in _QUESTIONS else self._plain(value, key)
        except TaskError as error:
            raise TaskError(f"{self.path}, line {self.line}: {error}") from error

    def identifier(self, record: Record, key: str) -> str | None:
        """Return an id given as text or whole number, None where there is none."""
        value = record.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return None if value is None else self.text(record, key)

    def number_or_text(self, record: Record, key: str) -> str | None:
        """Return an answer; a JSON number keeps the digits it was written with."""
        value = record.get(key)
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return str(value)
        return None if value is None else self.text(record, key)

    @staticmethod
    def _plain(value: str, key: str) -> str:
        if not value.strip():
            raise TaskError(f"{key!r} is empty. Fill it in or leave the key out.")
        refuse_unprintable(value.replace("\r\n", "\n"), repr(key))
        return value


_QUESTIONS: Final = frozenset({"question", "task", "prompt", "problem"})


def _kind(value: object) -> str:
    names = {
        type(None): "null",
        bool: "true or false",
        int: "a number",
        Decimal: "a number",
        str: "a text",
        list: "a list",
    }
    return names.get(type(value), "an object")


def build_tasks(
    path: Path, records: Iterator[tuple[int, Raw]], task: Callable[[Raw, Where], BenchmarkTask]
) -> Iterator[BenchmarkTask]:
    """Build tasks from numbered records; refuse an id seen before, and a file without any."""
    seen: dict[bytes, int] = {}
    for line, value in records:
        where = Where(path, line)
        built = task(value, where)
        mark = hashlib.blake2b(built.task_id.encode(), digest_size=16).digest()
        if mark in seen:
            where.refuse(f"its id {built.task_id!r} was used in line {seen[mark]}", "Give every task an id of its own")
        seen[mark] = line
        yield built
    if not seen:
        raise TaskError(f"{path} holds no task. Write one JSON object per line, or one CSV row.")


# ---- bytes to records -----------------------------------------------------------------------------------------


def sniff(path: Path) -> bytes:
    """Return the first 4 KiB of a file, undone from gzip, without a byte order mark and leading white space."""
    with _open(path) as file:
        return _read(file.read, 4096, Where(path, 1)).removeprefix(_BOM).lstrip()


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Stream (line number, text with its line end) of every line. Offsets in messages count bytes from 0."""
    offset = 0
    with _open(path) as file:
        for line in itertools.count(1):
            where = Where(path, line)
            raw = _read(file.readline, MAX_LINE_BYTES + 1, where)
            if not raw:
                return
            if len(raw) > MAX_LINE_BYTES:
                where.refuse(f"it is longer than {MAX_LINE_BYTES:,} bytes", "Write one task per line, shorter")
            yield line, _decode(raw, where, offset)
            offset += len(raw)


def json_lines(path: Path) -> Iterator[tuple[int, Record]]:
    """Stream (line number, JSON object) of the lines that are not blank."""
    for line, text in text_lines(path):
        if text.strip():
            where = Where(path, line)
            yield line, _object(_parse(text, where), where)


def json_array(path: Path) -> Iterator[tuple[int, Record]]:
    """Stream (position from 1, JSON object) of an array."""
    where = Where(path, 1)
    with _open(path) as file:
        raw = _read(file.read, MAX_ARRAY_BYTES + 1, where)
    if len(raw) > MAX_ARRAY_BYTES:
        where.refuse(f"the array is longer than {MAX_ARRAY_BYTES:,} bytes", "Write it as JSON lines")
    for position, value in enumerate(_parse(_decode(raw, where, 0), where), start=1):
        yield position, _object(value, Where(path, position))


def _open(path: Path) -> IO[bytes]:
    """Open a file for reading; one that begins like gzip is undone, whatever its name."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")
    except FileNotFoundError:
        raise TaskError(f"There is no file {path}. Check the path.") from None
    except IsADirectoryError:
        raise TaskError(f"{path} is a folder. Name the file in it.") from None
    except (OSError, ValueError) as error:
        raise TaskError(f"{path} cannot be read: {error}. Check its permissions.") from error


def _read(read: Callable[[int], bytes], size: int, where: Where) -> bytes:
    try:
        return read(size)
    except (EOFError, zlib.error, OSError) as error:
        where.refuse(f"the file cannot be read on ({error})", "It may be cut off or damaged: get it again")


def _object(value: Any, where: Where) -> Record:
    if not isinstance(value, dict):
        where.refuse(f"it is {_kind(value)}, not an object", 'Write {"question": "..."}')
    return value


def _decode(raw: bytes, where: Where, offset: int) -> str:
    """Decode UTF-8; a byte order mark at the start of the file is dropped."""
    if offset == 0:
        offset = len(raw) - len(raw.removeprefix(_BOM))
        raw = raw.removeprefix(_BOM)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        where.refuse(
            f"byte {offset + error.start} of the file (0x{raw[error.start]:02x}) is not UTF-8",
            "Save the file as UTF-8",
        )


def _parse(text: str, where: Where) -> Any:
    """Parse one JSON value strictly: no NaN, no key twice, numbers keep their digits."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_refuse_twice)
    except RecursionError:
        where.refuse("its JSON is nested too deeply", "Write a flat object")
    except ValueError as error:
        shown = f"column {error.colno}, {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)
        where.refuse(f"it is not valid JSON ({shown})", "Correct the line, or remove it")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key is given twice")
    return record
