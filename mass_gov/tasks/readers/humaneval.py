"""HumanEval: functions to be written, held to tests, from the public JSON lines (gzipped or not).

Rules: everything that will be run is parsed while reading (never run here), so that a truncated file is a bad line
and not a wrong answer later. Does not know how code is run (`code_execution`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mass_gov.tasks.readers.records import Record, Where, build_tasks, json_lines
from mass_gov.tasks.readers.values import BenchmarkTask, CodeTests

_ASK: Final = "Complete this Python function. Answer with the code of the function and nothing else.\n\n"


def read_humaneval(path: Path) -> Iterator[BenchmarkTask]:
    """Stream openai/human-eval: task_id, prompt, entry_point, test and, if given, canonical_solution.

    Raises: `TaskError` at the first unusable line, one whose code does not parse among them.
    """
    return build_tasks(path, json_lines(path), _task)


def _task(record: Record, where: Where) -> BenchmarkTask:
    task_id = where.identifier(record, "task_id") or f"humaneval/{where.path.stem}/{where.line}"
    prompt, test = where.text(record, "prompt"), where.text(record, "test")
    entry_point = where.text(record, "entry_point")
    _refuse_without(where, "prompt", prompt, entry_point)
    _refuse_without(where, "test", test, "check")
    canonical = where.text(record, "canonical_solution") if record.get("canonical_solution") is not None else None
    if canonical is not None:
        _refuse_without(where, "canonical_solution", prompt + canonical, entry_point)
    tests = CodeTests(prompt, entry_point, test, canonical)
    return BenchmarkTask(task_id, _ASK + prompt, None, where.path.name, where.line, checking="code", tests=tests)


def _refuse_without(where: Where, key: str, source: str, name: str) -> None:
    """Refuse Python source that does not parse, or defines no function `name` at its top level."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where.refuse(f"its {key!r} is not Python ({error})", "Use the public HumanEval file as it is")
    if not any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body):
        where.refuse(f"its {key!r} defines no function {name!r}", "Use the public HumanEval file as it is")
