"""Grades answers after the fact: the gold answer is compared with what was recorded and served, never before."""

from __future__ import annotations

from types import TracebackType
from typing import Literal, Self

from mass_gov.tasks.checking import AnswerChecker

OutcomeName = Literal["right", "wrong", "unparseable", "timeout"]


class Grader:
    """Grades in a killable process that starts with the first question that needs it."""

    def __init__(self) -> None:
        self._checker = AnswerChecker()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._checker.close()

    def outcome(self, gold: str | None, answer: str | None) -> OutcomeName | None:
        """What an answer is worth; None without a gold answer."""
        if gold is None:
            return None
        if answer is None:
            return "unparseable"
        return self._checker.check(gold, answer).value


def correct(outcome: OutcomeName | None) -> bool | None:
    """Whether an outcome is right; None where nothing was graded."""
    return None if outcome is None else outcome == "right"
