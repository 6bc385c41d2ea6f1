"""GSM8K and MATH: problems whose gold answer is mathematics.

Rules: the gold answer is what the file marks as such (`####`, `answer`, the last box of `solution`), kept as it is
written but for thousands commas. Does not know how it is compared (`checking`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mass_gov.tasks._answers import final_part
from mass_gov.tasks.readers.records import Record, Where, build_tasks, json_array, json_lines, sniff
from mass_gov.tasks.readers.values import BenchmarkTask


def read_gsm8k(path: Path) -> Iterator[BenchmarkTask]:
    """Stream openai/grade-school-math JSON lines; the gold answer stands after `####`, without thousands commas.

    Raises: `TaskError` at the first unusable line.
    """

    def task(record: Record, where: Where) -> BenchmarkTask:
        question, solution = where.text(record, "question"), where.text(record, "answer")
        _, mark, gold = solution.rpartition("####")
        if not mark or not gold.strip():
            where.refuse("its answer has no '#### <number>' at the end", "Use the public GSM8K files as they are")
        task_id = f"gsm8k/{path.stem}/{where.line}"
        return BenchmarkTask(task_id, question, gold.strip().replace(",", ""), path.name, where.line)

    return build_tasks(path, json_lines(path), task)


def read_math500(path: Path) -> Iterator[BenchmarkTask]:
    """Stream MATH-500: the TTRL array (prompt, answer, id) or JSON lines (problem, answer or solution, unique_id).

    A record without `answer` gets its gold from the last box of its `solution`. Raises: `TaskError` as above.
    """

    def task(record: Record, where: Where) -> BenchmarkTask:
        question = where.text(record, "prompt" if "prompt" in record else "problem")
        gold = where.text(record, "answer") if "answer" in record else final_part(where.text(record, "solution"))
        if not gold.strip():
            where.refuse("it has no gold answer", "Give it a key 'answer', or a solution with a \\boxed{} answer")
        named = where.identifier(record, "id") or where.identifier(record, "unique_id")
        return BenchmarkTask(named or f"math/{path.stem}/{where.line}", question, gold, path.name, where.line)

    return build_tasks(path, json_array(path) if sniff(path).startswith(b"[") else json_lines(path), task)
