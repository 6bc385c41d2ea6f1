"""One door to three ways of checking; a letter is chosen or it is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mass_gov.errors import PermissionRefusedError, TaskError
from mass_gov.tasks.checking import Outcome
from mass_gov.tasks.choices import check_choice, chosen_letter
from mass_gov.tasks.grading import BenchmarkGrader
from mass_gov.tasks.readers import BenchmarkTask, CodeTests

TESTS = CodeTests("def f(x):\n    pass\n", "f", "def check(candidate):\n    assert candidate(1) == 1\n")
SUM = BenchmarkTask("sum", "1 + 1", "2", "f", 1)
CHOICE = BenchmarkTask("choice", "Which?", "B", "f", 2, checking="choice")
CODE = BenchmarkTask("code", "Write f.", None, "f", 3, checking="code", tests=TESTS)


@pytest.fixture(scope="module")
def grader() -> Iterator[BenchmarkGrader]:
    with BenchmarkGrader() as grader:
        yield grader


@pytest.mark.parametrize(
    "text",
    [
        "B", " b ", "(B)", "B.", "B)", "**B**", "\\boxed{B}", "\\boxed{\\text{B}}", "$B$", "B. Paris", "(b) Paris",
        "B. Vitamin C", "Option B", "The answer is B", "The answer is: (B).", "I think A. first.\nSo the answer is B.",
        "It is hot, so C is out.\n#### B", "Let me see. A is wrong; the answer is B: Paris", "answer: B, as shown",
        "The answer is **B. Paris**", "the answer is option (B) because of that",
    ],
)  # fmt: skip
def test_one_letter_is_a_choice(text: str) -> None:
    assert chosen_letter(text) == "B"


@pytest.mark.parametrize(
    "text",
    [
        "", "I do not know", "A cat", "The answer is A cat", "Paris", "AB", "A or B", "(A) or (B)", "A. or B.", "E",
        "A and B", "Because", "\\boxed{}", "The answer is 2", "B2", "#### ", "A, B", "All of (A), (B) and (C)",
    ],
)  # fmt: skip
def test_no_letter_or_two_are_unparseable_and_never_guessed(text: str) -> None:
    assert check_choice("A", text).outcome is Outcome.UNPARSEABLE


def test_another_letter_is_wrong() -> None:
    assert check_choice("A", "The answer is C.").outcome is Outcome.WRONG
    assert check_choice("C", "The answer is C.").outcome is Outcome.RIGHT
    assert chosen_letter("E", "ABCDE") == "E"


def test_each_task_is_checked_in_its_own_way(grader: BenchmarkGrader) -> None:
    assert grader.check(SUM, "2").outcome is Outcome.RIGHT
    assert grader.check(SUM, "3").outcome is Outcome.WRONG
    assert grader.check(CHOICE, "#### B").outcome is Outcome.RIGHT
    assert grader.check(CHOICE, "2").outcome is Outcome.UNPARSEABLE


def test_code_is_refused_before_any_model_time_is_spent(grader: BenchmarkGrader) -> None:
    grader.prepare([SUM, CHOICE])
    with pytest.raises(PermissionRefusedError, match="--allow-code-execution"):
        grader.prepare([SUM, CODE])
    with pytest.raises(PermissionRefusedError):
        grader.check(CODE, "    return x\n")


def test_a_task_without_gold_cannot_be_graded(grader: BenchmarkGrader) -> None:
    bare = BenchmarkTask("bare", "1 + 1", None, "f", 1)
    with pytest.raises(TaskError, match="'bare' has no gold answer"):
        grader.prepare([bare])
    with pytest.raises(TaskError, match="'bare' has no gold answer"):
        grader.check(bare, "2")


def test_a_choice_is_read_in_time_that_grows_with_the_text() -> None:
    """A model that is stuck on white space is no reason to wait: the pattern once took time by its square."""
    assert chosen_letter("option" + " " * 300_000 + "!") is None
    assert chosen_letter("option" + " " * 300_000 + "B") == "B"
    assert chosen_letter("the answer" + " " * 300_000 + ":" + " " * 300_000 + "(C)") == "C"
