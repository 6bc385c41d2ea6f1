"""What every task domain has in common: splits, sub-problems, the verifier, and who owns which question.

Three promises hold for each domain because they are kept here and nowhere else:

1. `sample(seed, split)` returns problems of that split and of no other; what a split holds is the domain's rule.
2. A question belongs to the suites or to everybody else, by its hash; seeds of the one never yield the other.
3. `verify` reads the question text again and solves that: the stored gold is not trusted.

A domain adds five small methods on its own problem type `P`. Not known here: models, prompts, files.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from mass_gov.errors import TaskError
from mass_gov.tasks.task import (
    CARD_SEEDS,
    MARKER,
    PROBE_SEEDS,
    SUITE_SEEDS,
    Kind,
    Split,
    Task,
    counter_rng,
    share,
)

P = TypeVar("P")
_SUITE_SHARE = 1 / 16
_TRIES = 10_000


def in_suite_bucket(question: str) -> bool:
    """Whether only regression suites and probes may ask this question (a sixteenth of all, by hash)."""
    return share("suite-bucket", question) < _SUITE_SHARE


class Domain(ABC, Generic[P]):
    """One family of problems. Subclasses are stateless; all methods are pure functions of their arguments."""

    name: ClassVar[str]
    kind: ClassVar[Kind]
    chance: ClassVar[float]  # accuracy of the best guess that does not read the question, 0..1

    @abstractmethod
    def draw(self, rng: random.Random, split: Split) -> P:
        """Any problem of about this split's size; `sample` draws again until `split_of` agrees."""

    @abstractmethod
    def ease(self, problem: P, rng: random.Random) -> P:
        """An easier problem of the same kind, about the same operator or rule where the domain has one."""

    @abstractmethod
    def split_of(self, problem: P) -> Split:
        """Who may see this problem solved: base training `easy` ones, meta-training `meta` ones, nobody `hard` ones."""

    @abstractmethod
    def level(self, problem: P) -> int:
        """Difficulty, 1 is easiest."""

    @abstractmethod
    def render(self, problem: P) -> str:
        """The question, in printable ASCII; `parse` is its inverse."""

    @abstractmethod
    def parse(self, question: str) -> P | None:
        """The problem that a question of this domain states; None for any other text."""

    @abstractmethod
    def answer(self, problem: P) -> str:
        """The only right answer, computed from the problem alone."""

    @abstractmethod
    def working(self, problem: P) -> str:
        """The steps that a careful pupil writes before the marker; may be empty."""

    def kin(self, problem: P, rng: random.Random) -> P | None:
        """Another problem about the same operator or rule, as hard; None where the domain has neither."""
        return None

    def practice_text(self, problem: P) -> str:
        """How practice states a sub-problem, for a reader who has the task before him."""
        return self.render(problem)

    def read_practice(self, task: P, text: str) -> P | None:
        """The problem that a practice text states in the context of `task`; None for any other text."""
        return self.parse(text)

    def scratch(self, problem: P) -> str:
        """Working that practice shows and that is not trained on; may be empty."""
        return ""

    def visits(self, task: P, practice: P) -> bool:
        """Whether `practice` takes a step that solving `task` takes too."""
        return False

    def sample(self, seed: int, split: Split) -> Task:
        """The task of this seed. Same seed and split, same task, on every machine.

        Raises:
            TaskError: `split` is none of `easy`, `meta` and `hard`, or the seed is negative.
        """
        if split not in ("easy", "meta", "hard") or seed < 0:
            raise TaskError(f"no task for seed {seed} and split {split!r}: use a seed >= 0 and easy, meta or hard")
        rng = counter_rng(self.name, split, seed)
        for_suite = SUITE_SEEDS <= seed < CARD_SEEDS or seed >= PROBE_SEEDS
        for _ in range(_TRIES):
            problem = self.draw(rng, split)
            question = self.render(problem)
            if in_suite_bucket(question) == for_suite and self.split_of(problem) == split:  # cheapest first
                return self._task(f"{self.name}/{split}/{seed}", problem, question, split, seed)
        raise TaskError(f"{self.name} found no {split} problem in {_TRIES} draws: its splits are too narrow")

    def subproblem(self, task: Task, seed: int) -> Task:
        """An easier problem of the same kind than `task`, never `task` itself and never a suite's question.

        It is `easy` by size. About a held-out operator or rule it is still held out from training: a model may
        practise on it at test time, base training draws sub-problems of easy tasks only.

        Raises:
            TaskError: `task` does not belong to this domain.
        """
        problem = self.read(task.question)
        rng = counter_rng(self.name, "sub", task.question, seed)
        for _ in range(_TRIES):
            easier = self.ease(problem, rng)
            question = self.render(easier)
            if question != task.question and not in_suite_bucket(question):
                return self._task(f"{task.task_id}/sub/{seed}", easier, question, "easy", seed)
        raise TaskError(f"{self.name} found no sub-problem of {task.question!r}: pose another task")

    def sibling(self, task: Task, seed: int) -> Task | None:
        """Another task about the operator or rule of `task`; None where the domain has neither."""
        problem, rng = self.read(task.question), counter_rng(self.name, "kin", task.question, seed)
        for _ in range(_TRIES):
            other = self.kin(problem, rng)
            if other is None:
                return None
            question = self.render(other)
            if question != task.question and not in_suite_bucket(question):
                return self._task(f"{task.task_id}/kin/{seed}", other, question, task.split, seed)
        raise TaskError(f"{self.name} found no sibling of {task.question!r}: pose another task")

    def is_right(self, task: Task, question: str, answer: str) -> bool:
        """Whether a practice pair written for `task` states another problem of this domain and answers it rightly.

        For figures only: neither training nor any gate may ask.
        """
        problem = self.read_practice(self.read(task.question), question)
        return problem is not None and self.render(problem) != task.question and answer.strip() == self.answer(problem)

    def on_path(self, task: Task, question: str) -> bool:
        """Whether solving `task` passes through this practice question. For figures only."""
        problem = self.read(task.question)
        practice = self.read_practice(problem, question)
        return practice is not None and self.visits(problem, practice)

    def verify(self, task: Task, answer: str) -> bool:
        """Whether `answer` (white space around it ignored) solves the question as it is written."""
        return answer.strip() == self.answer(self.read(task.question))

    def read(self, question: str) -> P:
        """Parse, or say that the question is not of this domain (TaskError)."""
        problem = self.parse(question)
        if problem is None:
            raise TaskError(f"{question!r} is no question of domain {self.name}: see `mass-gov tasks sample`")
        return problem

    def solution(self, problem: P) -> str:
        """`{working}#{answer}`."""
        return f"{self.working(problem)}{MARKER}{self.answer(problem)}"

    def _task(self, task_id: str, problem: P, question: str, split: Split, seed: int) -> Task:
        return Task(
            task_id=task_id,
            domain=self.name,
            kind=self.kind,
            level=self.level(problem),
            split=split,
            seed=seed,
            question=question,
            answer=self.answer(problem),
            solution=self.solution(problem),
            practice=self.practice_text(problem),
            scratch=self.scratch(problem),
        )
