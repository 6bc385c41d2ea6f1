"""Reads samples that a caller supplies instead of the model: JSON lines of {"question", "solution"}."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mass_gov.errors import TaskError
from mass_gov.tasks.text import clean_task_text

MAX_BYTES = 4 * 1024 * 1024


def read_forced(path: Path) -> list[tuple[str, str]]:
    """Return (question, solution) pairs, checked whole before anything else happens.

    Raises:
        TaskError: naming the file, the line and what to do.
    """
    pairs = [
        _pair(line, f"{path}, line {i}") for i, line in enumerate(_read(path).split("\n"), start=1) if line.strip()
    ]
    if not pairs:
        raise TaskError(f'{path} holds no sample. Write one {{"question": ..., "solution": ...}} a line.')
    return pairs


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise TaskError(f"{path} is longer than {MAX_BYTES:,} bytes. Give fewer samples.")
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TaskError(f"{path} is not UTF-8 at byte {error.start}. Save it as UTF-8.") from None
    except OSError as error:
        raise TaskError(f"{path} cannot be read: {error.strerror}. Check --forced-samples.") from None


def _pair(line: str, where: str) -> tuple[str, str]:
    try:
        value: Any = json.loads(line)
    except ValueError as error:
        raise TaskError(f"{where}: it is not valid JSON ({error}). Correct the line, or remove it.") from None
    except RecursionError:
        raise TaskError(f"{where}: its JSON is nested too deeply. Write a flat object.") from None
    if not isinstance(value, dict) or value.keys() != {"question", "solution"}:
        raise TaskError(f'{where}: a sample has exactly the keys "question" and "solution". Correct the line.')
    try:
        return _text(value["question"]), _text(value["solution"])
    except TaskError as error:
        raise TaskError(f"{where}: {error}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TaskError("question and solution are texts. Put them in double quotes.")
    return clean_task_text(value)
