"""What is asked, and separately what would be right.

Rules: a method receives `Problem.question` and nothing else of a problem; gold answers stay inside `Evaluation.check`,
which is asked only after the answers are in. A generated question has one right text; a file's answers are graded by
`tasks.grading`, from the whole text. A reply without an answer is `unparseable`.

Does not know models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mass_gov.errors import InputError
from mass_gov.mass.rivals.values import Answer
from mass_gov.tasks._answers import final_part
from mass_gov.tasks.grading import BenchmarkGrader
from mass_gov.tasks.readers import BenchmarkTask
from mass_gov.tasks.registry import sample_tasks
from mass_gov.tasks.task import Split, Task

OutcomeName = Literal["right", "wrong", "unparseable", "timeout"]
Check = Callable[[int, Answer], OutcomeName]
"""(place of the problem, what a method replied) -> what it is worth."""


@dataclass(frozen=True)
class Problem:
    """One question of the evaluation. `kind` is empty for problems from files."""

    problem_id: str
    question: str
    domain: str
    kind: str


@dataclass(frozen=True)
class Evaluation:
    """The problems of a run and the way to grade answers to them."""

    problems: tuple[Problem, ...]
    check: Check

    @property
    def questions(self) -> tuple[str, ...]:
        """All that a method gets to see."""
        return tuple(problem.question for problem in self.problems)

    def grade(self, answers: Sequence[Answer]) -> list[OutcomeName]:
        """The outcome of one answer per problem, in order."""
        return [self.check(place, answer) for place, answer in enumerate(answers)]


def held_out(n: int, seed: int, domain: str | None = None, split: Split = "hard") -> Evaluation:
    """n fresh tasks, round-robin over the domains. Raises as `sample_tasks` does, InputError for none."""
    return from_tasks(sample_tasks(n, seed, domain, split))


def from_tasks(tasks: Sequence[Task]) -> Evaluation:
    """Given tasks with their own gold answers. Raises InputError for none."""
    if not tasks:
        raise InputError("there is no task to evaluate on. Ask for at least one: --n 1.")
    golds = [task.answer for task in tasks]

    def check(place: int, answer: Answer) -> OutcomeName:
        if answer.key is None:
            return "unparseable"
        return "right" if answer.key.strip() == golds[place] else "wrong"

    return Evaluation(tuple(Problem(task.task_id, task.question, task.domain, task.kind) for task in tasks), check)


def from_benchmark(tasks: Sequence[BenchmarkTask], grader: BenchmarkGrader) -> Evaluation:
    """Problems of a file, graded on the whole text that was written; a problem's domain is its file, or what it says.

    Raises TaskError, PermissionRefusedError or OutageError where they cannot be graded, before anything is answered.
    """
    grader.prepare(tasks)

    def check(place: int, answer: Answer) -> OutcomeName:
        return grader.check(tasks[place], answer.text).outcome.value

    problems = [Problem(task.task_id, task.question, task.domain or task.source, "") for task in tasks]
    return Evaluation(tuple(problems), check)


def found_in_text(text: str, finished: bool) -> str | None:
    """The answer in what a model wrote that nobody taught a marker, for votes: the marked part, else all of it."""
    return final_part(text).strip() or None
