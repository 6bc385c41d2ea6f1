"""What a benchmark file gives: one kind of value, whatever the format.

It does not know files, nor how an answer is checked; `checking` only says which way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Checking = Literal["math", "choice", "code"]


@dataclass(frozen=True, slots=True)
class CodeTests:
    """What a generated function is held to.

    Args: `prompt` the code that is to be continued, complete with a docstring as body; `entry_point` the function's
    name; `test` source that defines `check(candidate)`; `canonical` a right continuation of the prompt, if given.
    """

    prompt: str
    entry_point: str
    test: str
    canonical: str | None = None


@dataclass(frozen=True, slots=True)
class BenchmarkTask:
    """A task from a file.

    Args: `question` as put to the model; `line` is the line in the file, or the position in a JSON array, from 1;
    `source` the file's name without its folder; `gold` the reference answer if the file gives one; `domain` only
    where a file of tasks names it; `checking` what an answer is compared with: `gold` as mathematics, `gold` as a
    letter, or `tests` by running it.
    """

    task_id: str
    question: str
    gold: str | None
    source: str
    line: int
    domain: str | None = None
    checking: Checking = "math"
    tests: CodeTests | None = None
