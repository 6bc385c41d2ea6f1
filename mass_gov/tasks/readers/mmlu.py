"""MMLU: multiple choice from the public CSV (question, A, B, C, D, letter of the answer), with or without a header.

Rules: six fields a row, RFC 4180 quoting, UTF-8; the gold is one of the letters A to D and names an option that is
not empty. A subject is a file: its name without `.csv` stands in every task id. Does not know how a letter is found
in what a model writes (`choices`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mass_gov.errors import TaskError
from mass_gov.tasks.readers.records import Where, build_tasks, text_lines
from mass_gov.tasks.readers.values import BenchmarkTask
from mass_gov.tasks.text import clean_task_text

LETTERS: Final = "ABCD"
_HEADER: Final = ["a", "b", "c", "d", "answer"]
_ASK: Final = "Answer with the letter of the one right choice."


def read_mmlu(path: Path) -> Iterator[BenchmarkTask]:
    """Stream one MMLU subject; the question is put with its options, and the gold is the letter.

    Raises: `TaskError` at the first unusable row, which is named by the line that it begins in.
    """
    return build_tasks(path, _rows(path), _task)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line that the row begins in, fields) of each row that is not blank, the header left out."""
    rows = csv.reader((text for _, text in text_lines(path)), strict=True)
    begins = 1
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            Where(path, begins).refuse(f"it is not valid CSV ({error})", "Check its quotes, or remove the row")
        if row is None:
            return
        if row and not (begins == 1 and is_header(row)):
            yield begins, row
        begins = rows.line_num + 1


def is_header(row: list[str]) -> bool:
    """Whether a row names the columns instead of filling them."""
    return [cell.strip().casefold() for cell in row[1:]] == _HEADER


def _task(row: list[str], where: Where) -> BenchmarkTask:
    if len(row) != 6:
        where.refuse(f"it has {len(row)} fields, not 6", "Write question,A,B,C,D,letter, with quotes around commas")
    question, *options, letter = (cell.strip() for cell in row)
    if len(letter) != 1 or letter not in LETTERS:
        where.refuse(f"its answer is {letter[:20]!r}", "Write one of the letters A, B, C, D as the last field")
    if not question or not options[LETTERS.index(letter)]:
        where.refuse("its question or its right choice is empty", "Fill it in, or remove the row")
    put = "\n".join([question, *(f"{name}. {option}" for name, option in zip(LETTERS, options, strict=True)), _ASK])
    try:
        put = clean_task_text(put)
    except TaskError as error:
        raise TaskError(f"{where.path}, line {where.line}: {error}") from error
    task_id = f"mmlu/{where.path.stem}/{where.line}"
    return BenchmarkTask(task_id, put, letter, where.path.name, where.line, checking="choice")
