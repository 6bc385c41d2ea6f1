"""Files of tasks in their public formats: GSM8K, MATH-500, MMLU, HumanEval, and the lines of `mass-gov solve --file`.

`read_benchmark` recognises the format by its content. What every reader keeps to is in `records`.
It does not know how an answer is checked (`grading`), nor what a task costs.
"""

from __future__ import annotations

from mass_gov.tasks.readers.humaneval import read_humaneval
from mass_gov.tasks.readers.mathematics import read_gsm8k, read_math500
from mass_gov.tasks.readers.mmlu import read_mmlu
from mass_gov.tasks.readers.recognise import MAX_TASKS, Format, read_benchmark, recognise_format
from mass_gov.tasks.readers.records import MAX_ARRAY_BYTES, MAX_LINE_BYTES
from mass_gov.tasks.readers.task_lines import read_tasks_jsonl
from mass_gov.tasks.readers.values import BenchmarkTask, Checking, CodeTests

__all__ = [
    "MAX_ARRAY_BYTES",
    "MAX_LINE_BYTES",
    "MAX_TASKS",
    "BenchmarkTask",
    "Checking",
    "CodeTests",
    "Format",
    "read_benchmark",
    "read_gsm8k",
    "read_humaneval",
    "read_math500",
    "read_mmlu",
    "read_tasks_jsonl",
    "recognise_format",
]
