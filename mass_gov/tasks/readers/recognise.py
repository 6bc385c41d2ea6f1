"""Which format a file has, by its content and never by its name; and its tasks, all of them checked.

Rules: the first record decides, by the keys that only one format has. What fits none is refused with the list of
formats. A JSON line with an id of its own is a task file's, even if its answer holds `####`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from mass_gov.errors import TaskError
from mass_gov.tasks.readers.humaneval import read_humaneval
from mass_gov.tasks.readers.mathematics import read_gsm8k, read_math500
from mass_gov.tasks.readers.mmlu import read_mmlu
from mass_gov.tasks.readers.records import json_lines, sniff, text_lines
from mass_gov.tasks.readers.task_lines import read_tasks_jsonl, refuse_unrepeatable
from mass_gov.tasks.readers.values import BenchmarkTask

Format = Literal["gsm8k", "math500", "mmlu", "humaneval", "tasks"]
READERS: Final[Mapping[Format, Callable[[Path], Iterator[BenchmarkTask]]]] = MappingProxyType(
    {
        "gsm8k": read_gsm8k,
        "math500": read_math500,
        "mmlu": read_mmlu,
        "humaneval": read_humaneval,
        "tasks": read_tasks_jsonl,
    }
)
MAX_TASKS: Final = 200_000
_KNOWN: Final = (
    "Use GSM8K, MATH or HumanEval JSON lines, a MATH-500 array, MMLU CSV (question,A,B,C,D,letter), or JSON lines with "
    "'question' and 'answer'"
)


def read_benchmark(path: Path, *, limit: int | None = None) -> list[BenchmarkTask]:
    """Recognise the format, check the whole file, and return its first `limit` tasks (all of them for None).

    Raises: `TaskError` for a file that is missing, empty, of no known format or beyond 200,000 tasks, and for the
    first unusable record, whether or not it is among those returned.
    """
    refuse_unrepeatable(path)
    kept: list[BenchmarkTask] = []
    for count, task in enumerate(READERS[recognise_format(path)](path), start=1):
        if count > MAX_TASKS:
            raise TaskError(f"{path} holds more than {MAX_TASKS:,} tasks. Split it.")
        if limit is None or count <= limit:
            kept.append(task)
    return kept


def recognise_format(path: Path) -> Format:
    """Return the format of a file, from its first record. Raises: `TaskError` as above."""
    start = sniff(path)
    if start.startswith(b"["):
        return "math500"
    if start.startswith(b"{"):
        return _of_record(next(json_lines(path))[1], path)
    try:
        row = next(csv.reader((text for _, text in islice(text_lines(path), 1_000)), strict=True), [])
    except csv.Error:
        row = []
    if len(row) != 6:
        raise TaskError(f"{path} is {'empty' if not start else 'in no known format'}. {_KNOWN}.")
    return "mmlu"


def _of_record(record: dict[str, Any], path: Path) -> Format:
    if {"prompt", "test", "entry_point"} <= record.keys():
        return "humaneval"
    if "question" in record or "task" in record:
        own_id = "id" in record or "task_id" in record
        return "gsm8k" if not own_id and "####" in str(record.get("answer", "")) else "tasks"
    if "problem" in record or {"prompt", "answer"} <= record.keys():
        return "math500"
    raise TaskError(f"{path} has a first record of no known format (keys: {sorted(record)[:8]}). {_KNOWN}.")
