"""Checking free-form answers: the bars on real golds, what must stay wrong, and what a hostile answer can do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mass_gov.errors import MissingExtraError, OutageError, SettingsError, TaskError
from mass_gov.tasks.checking import AnswerChecker, Outcome
from mass_gov.tasks.readers import read_gsm8k, read_math500
from tests.fakes.public_files import public_file

pytest.importorskip("math_verify", reason="answers are checked on the learner's side: pip install 'mass-gov[ml]'")

HUGE = r"9^{9^{9^{9^{9}}}}"


@pytest.fixture(scope="module")
def checker() -> Iterator[AnswerChecker]:
    """One worker for the module, without the shortcut: everything goes through math-verify."""
    with AnswerChecker(timeout_seconds=30, shortcut=False) as checker:
        yield checker


def misgraded(checker: AnswerChecker, pairs: list[tuple[str, str]], wanted: Outcome) -> list[tuple[str, str, Outcome]]:
    outcomes = checker.check_many(pairs)
    return [(*pair, found) for pair, found in zip(pairs, outcomes, strict=True) if found is not wanted]


# ---- the bars -------------------------------------------------------------------------------------------------


def other_digit(match: re.Match[str]) -> str:
    """One digit up, 9 down: the number that it stands in changes, and never becomes 0 in a denominator."""
    return {"9": "8"}.get(match[0], str(int(match[0]) + 1))


def perturb(gold: str, *, last: bool) -> str:
    r"""Change the value of a gold: another digit in its first or last number, another word, or one more.

    Units (`\mbox{ cm}^2`) stay as they are: the checker ignores them by its rule 3. Every MATH-500 gold is an
    injective function of each of its numbers, so that another digit is another value.
    """
    value, unit = re.fullmatch(
        r"(.*?)((?:\\(?:text|mbox)\{ ?(?:cm|inches|cents|degrees)\}.*)?)", gold, re.DOTALL
    ).groups()
    digits = list(re.finditer(r"\d", value))
    if digits:
        digit = digits[-1 if last else 0]
        return value[: digit.start()] + other_digit(digit) + value[digit.end() :] + unit
    if r"\text" in value:
        return re.sub(r"\}$", " x}", value) if last else re.sub(r"\\text\{", r"\\text{x ", value)
    return f"{value} + 1" if last else f"1 + {value}"


def test_every_gsm8k_gold_is_right_and_one_more_is_wrong(checker: AnswerChecker) -> None:
    raw = public_file("gsm8k_test.jsonl")
    golds = [task.gold for task in read_gsm8k(raw) if task.gold]
    assert len(golds) == 1_319
    assert misgraded(checker, [(gold, gold) for gold in golds], Outcome.RIGHT) == []
    assert misgraded(checker, [(gold, str(int(gold) + 1)) for gold in golds], Outcome.WRONG) == []


@pytest.mark.slow
def test_every_math500_gold_is_right_and_a_changed_one_is_wrong(checker: AnswerChecker) -> None:
    golds = [task.gold for task in read_math500(public_file("math500_ttrl.json")) if task.gold]
    assert len(golds) == 500
    assert misgraded(checker, [(gold, gold) for gold in golds], Outcome.RIGHT) == []
    assert misgraded(checker, [(gold, rf"So it is \boxed{{{gold}}}.") for gold in golds], Outcome.RIGHT) == []
    for last in (False, True):
        pairs = [(gold, perturb(gold, last=last)) for gold in golds]
        assert all(gold != changed for gold, changed in pairs)
        assert misgraded(checker, pairs, Outcome.WRONG) == []


# ---- wrong stays wrong: what math-verify alone lets through ------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("52_8", "52_9"),  # the base is part of the numeral
        ("52_8", "52"),
        (".0000672", ".0000671"),  # small numbers are not all equal to six places
        ("x=.0000672", ".0000671"),
        ("1.25", "1.2500001"),
        (r"10^{-9}\pi", "0.000000003"),
        (r"\pi+10^{-20}", r"\pi"),
        ("R-r", "0"),  # two letters that differ in case only
        ("R-r", "r-R"),
        ("x^2+1=0", "x^2+2=0"),  # two equations without a real solution
        (r"\text{east}", "seat"),
        (r"\text{even}", "even odd"),
        ("(3,4]", "[3,4]"),
        ("(1,2)", "(2,1)"),
        ("1,-2", "-2,1,3"),
        ("1,-2", "1"),
        ("x=5", "y=5"),
        ("5", "5!"),
        ("64", "2**3**2"),
        ("2", r"5\sqrt{2} feet"),
        ("p - q", "q - p"),
        ("y = 2x + 3", "0 = 0"),
        ("x^2 = 4", "x = 2"),
    ],
)
def test_a_wrong_answer_is_not_made_right(checker: AnswerChecker, gold: str, answer: str) -> None:
    assert checker.explain(gold, answer).outcome is Outcome.WRONG


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("1/2", "0.5"),
        (r"\frac{1}{2}", "0.5"),
        (r"\frac12", "1/2"),
        ("0.5", "\u00bd"),
        ("1,000", "1000"),
        ("1000", "1,000.00"),
        (r"10,\!080", "10080"),
        (r"\frac{12}{5,\!525}", r"\frac{12}{5525}"),
        (r"\$18.90", "It costs $18.90."),
        ("18", "18 dollars"),
        ("18", "She earns $18 a day."),
        ("18", r"First 20, then 2 less: \boxed{18}. The 20 was before tax."),
        ("18", "20 - 2 = 18\n#### 18"),
        ("18", "The final answer is: **18**"),
        (r"1\frac45", "1 4/5 hours"),
        (r"\frac13", "0.333333"),
        (r"2\sqrt5", "2*sqrt(5)"),
        (r"2\sqrt5", "2\u221a5"),
        ("x^{10}", "x**10"),
        ("9.5", "9.5%"),
        ("0.095", r"9.5\%"),
        (r"90^\circ", "90"),
        (r"15\mbox{ cm}^2", "15"),
        ("1,-2", "$-2$ and $1$"),
        ("x=5", "5"),
        (r"x \in [-2,7]", "[-2,7]"),
        ("x^2+1=0", "2x^2+2=0"),
        ("4210_{5}", "4210_5"),
        (r"\text{(C)}", "C"),
        (r"\text{east}", "The answer is East."),
        (r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}", r"\begin{pmatrix} 0.2 \\ -3.6 \end{pmatrix}"),
        ("(a+5)(b+2)", "ab + 2a + 5b + 10"),
    ],
)
def test_another_form_of_the_same_answer_is_right(checker: AnswerChecker, gold: str, answer: str) -> None:
    assert checker.explain(gold, answer).outcome is Outcome.RIGHT


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "  \n",
        "I don't know",
        "\\boxed{18",
        "eighteen",
        "12 apples and then 18 pears, I think",
        "\\frac{",
        "\ud800",
        "\0",
    ],
)
def test_what_holds_no_single_value_is_unparseable_and_not_wrong(checker: AnswerChecker, answer: str) -> None:
    assert checker.explain("18", answer).outcome is Outcome.UNPARSEABLE


# ---- hostile answers and dying workers -------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [HUGE, "9**9**9**9", "(10^9)!", r"\sum_{k=1}^{10^{12}} \frac{1}{k}"])
def test_an_endless_answer_times_out_and_the_next_one_is_checked(answer: str) -> None:
    with AnswerChecker(timeout_seconds=1.5, shortcut=False) as checker:
        first = checker.check("18", "18"), checker.worker_pid
        started = time.monotonic()
        assert checker.check("18", answer) is Outcome.TIMEOUT
        assert time.monotonic() - started < 30  # killed: not waited for until math-verify comes back
        assert is_gone(first[1])
        assert checker.check("18", "18") is Outcome.RIGHT


def test_a_nest_that_breaks_the_parser_is_an_outcome(checker: AnswerChecker) -> None:
    nest = "(" * 400 + "1" + ")" * 400
    assert checker.check("18", nest) in {Outcome.UNPARSEABLE, Outcome.TIMEOUT, Outcome.WRONG}
    assert checker.check("18", "1" * 300_000) is Outcome.UNPARSEABLE
    assert checker.check("18", "so " * 100_000 + r"\boxed{18}") is Outcome.RIGHT


def test_a_worker_killed_between_two_answers_is_replaced() -> None:
    with AnswerChecker(shortcut=False) as checker:
        assert checker.check("1/2", "0.5") is Outcome.RIGHT
        killed = checker.worker_pid
        os.kill(killed, signal.SIGKILL)
        assert checker.check("1/2", "0.5") is Outcome.RIGHT
        assert checker.worker_pid not in {None, killed}


def test_a_worker_killed_during_an_answer_is_replaced_and_asked_again() -> None:
    with AnswerChecker(timeout_seconds=2, shortcut=False) as checker:
        checker.check("18", "18")
        first = checker.worker_pid
        killer = threading.Timer(0.5, os.kill, (first, signal.SIGKILL))
        killer.start()
        assert checker.check("18", HUGE) is Outcome.TIMEOUT  # the second worker was asked, and ran out of time
        assert checker.check("18", "18") is Outcome.RIGHT


def test_close_reaps_the_worker_and_the_checker_can_be_used_again() -> None:
    checker = AnswerChecker(shortcut=False)
    assert checker.worker_pid is None
    checker.check("18", "18")
    pid = checker.worker_pid
    checker.close()
    checker.close()
    assert is_gone(pid)
    assert checker.check("18", "19") is Outcome.WRONG
    checker.close()


def test_a_forgotten_checker_leaves_no_worker_behind() -> None:
    checker = AnswerChecker(shortcut=False)
    checker.check("18", "18")
    pid = checker.worker_pid
    del checker
    assert is_gone(pid)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads process states from /proc")
@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_does_not_outlive_a_killed_parent(busy: bool) -> None:
    script = f"""
import os, signal, threading
from mass_gov.tasks.checking import AnswerChecker
checker = AnswerChecker(timeout_seconds=1, shortcut=False)
checker.check("18", "18")
print(checker.worker_pid, flush=True)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
if {busy}:
    checker.check("18", "{HUGE}")
"""
    parent = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert parent.returncode == -signal.SIGKILL
    stat = Path(f"/proc/{int(parent.stdout)}/stat")
    deadline = time.monotonic() + 60  # a busy one has its CPU budget: one second and five of slack
    while stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline, "the worker still runs"
        time.sleep(0.1)


def test_threads_share_one_worker_and_get_their_own_verdicts() -> None:
    found: dict[int, Outcome] = {}
    with AnswerChecker(timeout_seconds=30, shortcut=False) as checker:

        def ask(number: int) -> None:
            found[number] = checker.check("7", str(number))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(5, 10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {number: Outcome.RIGHT if number == 7 else Outcome.WRONG for number in range(5, 10)}


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads the worker's environment from /proc")
def test_the_worker_sees_no_secret_and_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASS_GOV_KEY_PASSPHRASE", "correct horse")
    with AnswerChecker(shortcut=False) as checker:
        checker.check("18", "18")
        proc = Path(f"/proc/{checker.worker_pid}")
        names = {item.split(b"=")[0] for item in proc.joinpath("environ").read_bytes().split(b"\0") if item}
        assert names <= {b"PYTHONPATH", b"PYTHONHASHSEED", b"PYTHONDONTWRITEBYTECODE", b"LC_ALL"}
        limits = proc.joinpath("limits").read_text()
        assert re.search(r"Max address space +2147483648 ", limits)
        assert re.search(r"Max core file size +0 ", limits)
        assert re.search(r"Max file size +0 ", limits)
        assert not re.search(r"Max cpu time +unlimited", limits)
        assert os.getpgid(checker.worker_pid) == checker.worker_pid


# ---- the shortcut and bad use -----------------------------------------------------------------------------------


def test_plain_integers_need_no_worker() -> None:
    with AnswerChecker() as checker:
        assert checker.check("1319", "1,319") is Outcome.RIGHT
        assert checker.check("-4", "4") is Outcome.WRONG
        assert checker.check("+4", " 4\n") is Outcome.RIGHT
        assert checker.worker_pid is None
        assert checker.check("1319", "13,19") is not Outcome.RIGHT  # badly placed: two numbers, not the shortcut's
        assert checker.worker_pid is not None


def test_an_empty_gold_is_bad_input(checker: AnswerChecker) -> None:
    with pytest.raises(TaskError, match="gold answer is empty"):
        checker.check("  ", "18")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_an_unusable_timeout_is_refused(seconds: float) -> None:
    with pytest.raises(SettingsError, match="seconds above 0"):
        AnswerChecker(timeout_seconds=seconds)


def test_a_worker_that_cannot_be_started_is_an_outage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(OutageError, match="cannot be started"):
        AnswerChecker(shortcut=False).check("1", "2")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OutageError, match="exit status 1"):
        AnswerChecker(shortcut=False).check("1", "2")


def test_a_missing_math_verify_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python-without-math-verify"  # a real interpreter that sees no site-packages
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n', encoding="utf-8")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(MissingExtraError, match=r"mass-gov\[ml\]"):
        AnswerChecker(shortcut=False).check("1", "2")


def is_gone(pid: int | None) -> bool:
    assert pid
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
