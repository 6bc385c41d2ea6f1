"""Files of tasks in their public formats: GSM8K, MATH-500, and the JSON lines that `mass-gov solve --file` takes.

Rules
1. Reading is streaming: one line in memory, at most 1 MiB of it. The one exception is a MATH-500 array, which is a
   single JSON value (at most 64 MiB).
2. The first bad record ends the reading with a `TaskError` that names file, line, what is wrong and what to do.
3. `read_tasks_jsonl` goes through the whole file before it returns, so that nothing is adapted when a later line
   is bad. All that grows with the file is 16 bytes per task id, so that no id is used twice.
4. Unknown keys are ignored (public files carry many); known keys are type-checked; a key given twice is refused.

It does not know how a gold answer is compared (`checking`), nor what a task costs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NoReturn

from mass_gov.errors import TaskError
from mass_gov.tasks._answers import final_part
from mass_gov.tasks.text import clean_task_text, refuse_unprintable

MAX_LINE_BYTES: Final = 1024 * 1024
MAX_ARRAY_BYTES: Final = 64 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BenchmarkTask:
    """A task from a file.

    Args: `line` is the line in the file, or the position in a JSON array, from 1; `source` the file's name without
    its folder; `gold` the reference answer if the file gives one; `domain` only where a file of tasks names it.
    """

    task_id: str
    question: str
    gold: str | None
    source: str
    line: int
    domain: str | None = None


# ---- the three formats ----------------------------------------------------------------------------------------


def read_gsm8k(path: Path) -> Iterator[BenchmarkTask]:
    """Stream openai/grade-school-math JSON lines; the gold answer stands after `####`, without thousands commas.

    Raises: `TaskError` at the first unusable line.
    """

    def task(record: Record, where: _Where) -> BenchmarkTask:
        question, solution = where.text(record, "question"), where.text(record, "answer")
        _, mark, gold = solution.rpartition("####")
        if not mark or not gold.strip():
            where.refuse("its answer has no '#### <number>' at the end", "Use the public GSM8K files as they are")
        task_id = f"gsm8k/{path.stem}/{where.line}"
        return BenchmarkTask(task_id, question, gold.strip().replace(",", ""), path.name, where.line)

    return _tasks(path, _json_lines(path), task)


def read_math500(path: Path) -> Iterator[BenchmarkTask]:
    """Stream MATH-500: the TTRL array (prompt, answer, id) or JSON lines (problem, answer or solution, unique_id).

    A record without `answer` gets its gold from the last box of its `solution`. Raises: `TaskError` as above.
    """

    def task(record: Record, where: _Where) -> BenchmarkTask:
        question = where.text(record, "prompt" if "prompt" in record else "problem")
        gold = where.text(record, "answer") if "answer" in record else final_part(where.text(record, "solution"))
        if not gold.strip():
            where.refuse("it has no gold answer", "Give it a key 'answer', or a solution with a \\boxed{} answer")
        named = where.identifier(record, "id") or where.identifier(record, "unique_id")
        return BenchmarkTask(named or f"math/{path.stem}/{where.line}", question, gold, path.name, where.line)

    with _open(path) as file:
        start = file.read(4096).removeprefix(_BOM).lstrip()
    return _tasks(path, _json_array(path) if start.startswith(b"[") else _json_lines(path), task)


def read_tasks_jsonl(path: Path) -> Iterator[BenchmarkTask]:
    """Check a whole file of tasks, then stream it.

    Each line is an object with `question` (or `task`), and optionally `id` (or `task_id`), `answer` (or `gold`, text
    or a number) and `domain`. Without an id, a task is called after its place: `<file name>:<line>`.

    Raises: `TaskError` before returning if any line is unusable, any id repeats, or the file cannot be read twice.
    """
    if path.exists() and not path.is_dir() and not path.is_file():
        raise TaskError(f"{path} is a pipe or a device, and tasks are read twice. Save them to a file first.")
    for _ in _tasks(path, _json_lines(path), _line_task):
        continue
    return _tasks(path, _json_lines(path), _line_task)


def _line_task(record: Record, where: _Where) -> BenchmarkTask:
    key = "question" if "question" in record else "task"
    if key not in record:
        where.refuse("it has neither 'question' nor 'task'", 'Write {"question": "..."}')
    question = where.text(record, key)
    task_id = where.identifier(record, "id") or where.identifier(record, "task_id")
    gold = where.number_or_text(record, "answer")
    if gold is None:
        gold = where.number_or_text(record, "gold")
    domain = where.text(record, "domain") if record.get("domain") is not None else None
    return BenchmarkTask(
        task_id or f"{where.path.name}:{where.line}", question, gold, where.path.name, where.line, domain
    )


def _tasks(
    path: Path, records: Iterator[tuple[int, Any]], task: Callable[[Record, _Where], BenchmarkTask]
) -> Iterator[BenchmarkTask]:
    """Build tasks from numbered JSON values; refuse what is no object, an id seen before, and a file without any."""
    seen: dict[bytes, int] = {}
    for line, value in records:
        where = _Where(path, line)
        if not isinstance(value, dict):
            where.refuse(f"it is {_kind(value)}, not an object", 'Write {"question": "..."}')
        built = task(value, where)
        mark = hashlib.blake2b(built.task_id.encode(), digest_size=16).digest()
        if mark in seen:
            where.refuse(f"its id {built.task_id!r} was used in line {seen[mark]}", "Give every task an id of its own")
        seen[mark] = line
        yield built
    if not seen:
        raise TaskError(f"{path} holds no task. Write one JSON object per line.")


# ---- one record -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Where:
    """A place in a file: reads typed values from the record there, and refuses it by name."""

    path: Path
    line: int

    def refuse(self, problem: str, remedy: str) -> NoReturn:
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


# ---- bytes to JSON --------------------------------------------------------------------------------------------


def _open(path: Path) -> Any:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise TaskError(f"There is no file {path}. Check the path.") from None
    except IsADirectoryError:
        raise TaskError(f"{path} is a folder. Name the file in it.") from None
    except (OSError, ValueError) as error:
        raise TaskError(f"{path} cannot be read: {error}. Check its permissions.") from error


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Stream (line number, JSON value) of the lines that are not blank. Offsets in messages count bytes from 0."""
    offset = 0
    with _open(path) as file:
        for line, raw in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), start=1):
            where = _Where(path, line)
            if len(raw) > MAX_LINE_BYTES:
                where.refuse(f"it is longer than {MAX_LINE_BYTES:,} bytes", "Write one task per line, shorter")
            text = _decode(raw, where, offset)
            offset += len(raw)
            if text.strip():
                yield line, _parse(text, where)


def _json_array(path: Path) -> Iterator[tuple[int, Any]]:
    with _open(path) as file:
        raw = file.read(MAX_ARRAY_BYTES + 1)
    where = _Where(path, 1)
    if len(raw) > MAX_ARRAY_BYTES:
        where.refuse(f"the array is longer than {MAX_ARRAY_BYTES:,} bytes", "Write it as JSON lines")
    yield from enumerate(_parse(_decode(raw, where, 0), where), start=1)


def _decode(raw: bytes, where: _Where, offset: int) -> str:
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


def _parse(text: str, where: _Where) -> Any:
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
