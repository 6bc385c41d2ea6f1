"""Over random numbers: the checker agrees with exact arithmetic, whatever the numbers are dressed as."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mass_gov.tasks.checking import AnswerChecker, Outcome

pytest.importorskip("math_verify", reason="answers are checked on the learner's side: pip install 'mass-gov[ml]'")

INTEGERS = st.integers(-(10**12), 10**12)
RATIONALS = st.builds(Fraction, st.integers(-(10**4), 10**4), st.integers(1, 10**4))
PROFILE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def checker() -> Iterator[AnswerChecker]:
    with AnswerChecker(timeout_seconds=30, shortcut=False) as checker:
        yield checker


@PROFILE
@given(left=INTEGERS, right=INTEGERS)
def test_integers_agree_exactly_when_they_are_equal_with_and_without_the_shortcut(
    checker: AnswerChecker, left: int, right: int
) -> None:
    quick = AnswerChecker()
    for gold, answer in ((left, right), (left, left), (left, left + 1)):
        wanted = Outcome.RIGHT if gold == answer else Outcome.WRONG
        for text in (str(answer), f"{answer:,}", f"${answer}$", rf"\boxed{{{answer}}}"):
            assert checker.check(str(gold), text) is wanted
        assert quick.check(str(gold), f"{answer:,}") is wanted
    assert quick.worker_pid is None


@PROFILE
@given(value=RATIONALS, other=RATIONALS)
def test_fractions_agree_exactly_when_they_are_equal(checker: AnswerChecker, value: Fraction, other: Fraction) -> None:
    for answer in (value, other, value + Fraction(1, 10**6)):
        forms = (rf"\frac{{{answer.numerator}}}{{{answer.denominator}}}", f"{answer.numerator}/{answer.denominator}")
        wanted = Outcome.RIGHT if answer == value else Outcome.WRONG
        gold = rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
        assert [checker.check(gold, form) for form in forms] == [wanted, wanted]


@PROFILE
@given(digits=st.integers(1, 10**9), places=st.integers(0, 12), step=st.sampled_from([-1, 0, 1]))
def test_decimals_are_compared_to_their_last_digit(checker: AnswerChecker, digits: int, places: int, step: int) -> None:
    gold, answer = (f"{Decimal(n).scaleb(-places):f}" for n in (digits, digits + step))
    assert checker.check(gold, answer) is (Outcome.WRONG if step else Outcome.RIGHT)


@PROFILE
@given(text=st.text(max_size=200))
def test_no_text_breaks_the_checker(checker: AnswerChecker, text: str) -> None:
    assert checker.check("18", text) in set(Outcome)
    assert checker.check("18", "18") is Outcome.RIGHT
