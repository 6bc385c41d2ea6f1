"""The JSON lines that `mass-gov solve --file` takes.

Rules: the whole file is checked before the first task is returned, so that nothing is adapted when a later line is
bad. Unknown keys are ignored, since public files carry many.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mass_gov.errors import TaskError
from mass_gov.tasks.readers.records import Record, Where, build_tasks, json_lines
from mass_gov.tasks.readers.values import BenchmarkTask


def read_tasks_jsonl(path: Path) -> Iterator[BenchmarkTask]:
    """Check a whole file of tasks, then stream it.

    Each line is an object with `question` (or `task`), and optionally `id` (or `task_id`), `answer` (or `gold`, text
    or a number) and `domain`. Without an id, a task is called after its place: `<file name>:<line>`.

    Raises: `TaskError` before returning if any line is unusable, any id repeats, or the file cannot be read twice.
    """
    refuse_unrepeatable(path)
    for _ in build_tasks(path, json_lines(path), _line_task):
        continue
    return build_tasks(path, json_lines(path), _line_task)


def refuse_unrepeatable(path: Path) -> None:
    """Raise `TaskError` for a pipe or a device: what is read once to be checked is gone."""
    if path.exists() and not path.is_dir() and not path.is_file():
        raise TaskError(f"{path} is a pipe or a device, and tasks are read twice. Save them to a file first.")


def _line_task(record: Record, where: Where) -> BenchmarkTask:
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
