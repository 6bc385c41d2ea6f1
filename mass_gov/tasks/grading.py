"""Is this answer to a benchmark task right? One door to the three ways of checking: mathematics, a letter, running it.

Rules: what is handed in is the whole text that the model wrote; each way finds the answer in it by its own strict
rule. The outcomes are the four of `checking`, whatever the way.

It does not know models, prompts or how many tasks there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from mass_gov.errors import TaskError
from mass_gov.tasks.checking import AnswerChecker, Verdict
from mass_gov.tasks.choices import check_choice
from mass_gov.tasks.code_execution import (
    DEFAULT_LIMITS,
    CodeLimits,
    check_code,
    require_isolation,
    require_permission,
)
from mass_gov.tasks.readers.values import BenchmarkTask


class BenchmarkGrader:
    """Grades texts against tasks; usable from several threads. The mathematics worker starts when first needed.

    Args: `allow_code_execution` lets generated code run (isolated); `timeout_seconds` is per mathematical answer.

        with BenchmarkGrader(allow_code_execution=True) as grader:
            grader.prepare(tasks)  # refuses before any model time is spent
            grader.check(tasks[0], "The answer is 42").outcome
    """

    def __init__(
        self,
        *,
        allow_code_execution: bool = False,
        timeout_seconds: float = 5.0,
        code_limits: CodeLimits = DEFAULT_LIMITS,
    ) -> None:
        self._allow = allow_code_execution
        self._limits = code_limits
        self._mathematics = AnswerChecker(timeout_seconds=timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the mathematics worker; the grader stays usable."""
        self._mathematics.close()

    def prepare(self, tasks: Iterable[BenchmarkTask]) -> None:
        """Make sure that all of these can be graded.

        Raises: `TaskError` for a task without gold, `PermissionRefusedError` if code would have to run and may not,
        `OutageError` if it cannot be isolated here.
        """
        code = False
        for task in tasks:
            code = code or task.checking == "code"
            if (task.tests if task.checking == "code" else task.gold) is None:
                raise TaskError(f"The task {task.task_id!r} has no gold answer. Give it one, or leave it out.")
        if code:
            require_permission(self._allow)
            require_isolation()

    def check(self, task: BenchmarkTask, text: str) -> Verdict:
        """The verdict on the whole text that a model wrote. Raises as `prepare` does."""
        if task.checking == "code" and task.tests is not None:
            return check_code(task.tests, text, allow_code_execution=self._allow, limits=self._limits)
        if task.gold is None:
            raise TaskError(f"The task {task.task_id!r} has no gold answer. Give it one, or leave it out.")
        if task.checking == "choice":
            return check_choice(task.gold, text)
        return self._mathematics.explain(task.gold, text)
