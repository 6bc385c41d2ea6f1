r"""The process that grades: one JSON request per line in, one JSON reply per line out. Started by `checking`.

Rules
1. It trusts nothing it reads: it runs with capped memory, CPU, files and environment, and the parent may kill it
   at any moment. It keeps no state that matters between two lines.
2. math-verify decides that two expressions are equal; what it is known to let through is then refused here. A
   veto only ever turns *right* into *wrong*, so each of them makes the checker stricter (`_VETOES` below).
3. Units and degree signs are ignored, `9%` agrees with 9 and with 0.09, single letters match whatever their case
   unless one of the texts uses both cases of a letter. Sets ignore order, tuples do not. A value that was not worked
   out (`16-3-4` for 9) is right, since it is equal: a task that asks for the working-out needs a verifier of its own.

It does not know: who asks, what the task was, or how long it may take (the parent's clock kills it).
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import resource
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from mass_gov.tasks._answers import decimal, expression, is_text, tell_cases_apart, tidy, words_of

Reply = dict[str, str]
RIGHT: Final = "right"
WRONG: Final = "wrong"
UNPARSEABLE: Final = "unparseable"

MAX_ANSWER_CHARS: Final = 2_000  # of the marked answer, not of the working before it; MATH golds stay below 100
_MEMORY_BYTES: Final = 2 * 1024**3
_STATUS: Final = Path("/proc/self/status")  # Linux
_CPU_SLACK_SECONDS: Final = 5  # an orphan of a killed parent stops itself this long after its budget

_NUMERAL: Final = re.compile(r"(-?[0-9A-Za-z]+)_\{?(\d+)\}?")


# ---- what math-verify lets through -----------------------------------------------------------------------


def _numerals_differ(gold: str, answer: str, _g: Any, _a: Any) -> bool:
    """52_8 and 52_9 parse alike, since the base is dropped; a numeral without its base is another number."""
    pair = [_NUMERAL.fullmatch(re.sub(r"\s", "", text)) for text in (gold, answer)]
    if not any(match and match[1].lstrip("-")[0].isdigit() for match in pair):
        return False
    digits = [(match[1].lstrip("0").lower(), int(match[2])) if match else None for match in pair]
    return digits[0] != digits[1]


def _decimals_differ(gold: str, answer: str, _g: Any, _a: Any) -> bool:
    """Numbers are compared after rounding to six places, so .0000672 agrees with .0000671."""
    pair = [decimal(text) for text in (gold, answer)]
    return None not in pair and pair[0] != pair[1]


def _values_differ(_gold: str, _answer: str, g: Any, a: Any) -> bool:
    """The same for what is not a plain decimal: five significant digits if rounded, all of them if exact."""
    sympy = _sympy()
    g, a = _sides(g, a)
    for left, right in zip(_leaves(g), _leaves(a), strict=False):
        if not (left.is_number and right.is_number and left.is_finite and right.is_finite) or left == right:
            continue
        rounded = left.has(sympy.Float) or right.has(sympy.Float)
        close = Fraction(1, 100_000) if rounded else Fraction(1, 10**30)
        x, y = sympy.N(left.doit(), 40), sympy.N(right.doit(), 40)
        if abs(x - y) > close * abs(x):
            return True
    return False


def _sides(g: Any, a: Any) -> tuple[Any, Any]:
    """Return what is compared: x = 5 stands for 5, unless the other side is an equation about something else."""
    pair = [isinstance(item, _sympy().Eq) for item in (g, a)]
    if all(pair):
        return (g.rhs, a.rhs) if g.lhs == a.lhs else (None, None)
    return (g.rhs if pair[0] else g), (a.rhs if pair[1] else a)


def _leaves(expr: Any) -> list[Any]:
    """Return the scalars of an expression in an order that agrees between equal expressions; [] if there is none."""
    sympy = _sympy()
    if isinstance(expr, sympy.MatrixBase):
        return list(expr.flat())
    if isinstance(expr, sympy.Tuple):
        return [leaf for item in expr.args for leaf in _leaves(item)]
    if isinstance(expr, sympy.Interval):
        return [expr.start, expr.end]
    if isinstance(expr, sympy.FiniteSet) and all(item.is_number and item.is_real for item in expr.args):
        return sorted(expr.args, key=sympy.N)
    return [expr] if isinstance(expr, sympy.Expr) else []


def _vacuous(_gold: str, _answer: str, g: Any, a: Any) -> bool:
    """Two equations without solutions agree vacuously: x^2+1=0 and x^2+2=0."""
    sympy = _sympy()
    if not (isinstance(g, sympy.Eq) and isinstance(a, sympy.Eq)) or g == a or sympy.solve(g, g.free_symbols):
        return False
    ratio = sympy.simplify((g.lhs - g.rhs) / (a.lhs - a.rhs))
    return bool(ratio.free_symbols or ratio == 0)


_VETOES: Final[tuple[Callable[[str, str, Any, Any], bool], ...]] = (
    _numerals_differ,
    _decimals_differ,
    _values_differ,
    _vacuous,
)


# ---- the verdict ------------------------------------------------------------------------------------------


def grade(gold: str, answer: str) -> Reply:
    """Return {"outcome", "detail"} for one pair. Errors of the parser are outcomes; MemoryError passes through."""
    gold_text, answer_text = tidy(gold), tidy(answer)
    if not answer_text:
        return {"outcome": UNPARSEABLE, "detail": "the answer is empty"}
    if len(answer_text) > MAX_ANSWER_CHARS:
        return {"outcome": UNPARSEABLE, "detail": f"the answer is longer than {MAX_ANSWER_CHARS} characters"}
    if is_text(gold_text):
        return _grade_text(gold_text, answer_text)
    wanted, got = expression(gold_text), expression(answer_text)
    if wanted is None:
        return {"outcome": UNPARSEABLE, "detail": "the gold answer has no single reading"}
    if got is None:
        return {"outcome": UNPARSEABLE, "detail": "no single value is marked as the answer"}
    return _grade_maths(wanted, got)


def _grade_text(gold: str, answer: str) -> Reply:
    """Words are equal when they are the same words; math-verify must agree, so that it cannot be the looser one."""
    wanted, got = words_of(gold), words_of(answer)
    if not got:
        return {"outcome": UNPARSEABLE, "detail": "the answer holds no word"}
    if wanted != got:
        return {"outcome": WRONG, "detail": "other words"}
    agreed = _verify(_parse(rf"\text{{{wanted}}}"), _parse(rf"\text{{{got}}}"))
    return {"outcome": RIGHT if agreed else WRONG, "detail": "words"}


def _grade_maths(gold: str, answer: str) -> Reply:
    """Compare two expressions; a percent sign on one side only is tried both as hundredths and as the bare number."""
    detail = "math-verify"
    for wanted, got in _percent_readings(*tell_cases_apart(gold, answer)):
        parsed_gold, parsed_answer = _parse(wanted), _parse(got)
        if not any(not isinstance(item, str) for item in parsed_answer):
            return {"outcome": UNPARSEABLE, "detail": "math-verify cannot parse the answer"}
        if _verify(parsed_gold, parsed_answer):
            veto = _vetoed(wanted, got, parsed_gold[0], parsed_answer[0])
            if veto is None:
                return {"outcome": RIGHT, "detail": "math-verify"}
            detail = f"math-verify agrees, {veto} does not"
    return {"outcome": WRONG, "detail": detail}


def _percent_readings(gold: str, answer: str) -> list[tuple[str, str]]:
    bare = [re.sub(r"\s*\\?%$", "", text) for text in (gold, answer)]
    one_sided = (bare[0] != gold) != (bare[1] != answer)
    return [(gold, answer), (bare[0], bare[1])] if one_sided else [(gold, answer)]


def _vetoed(gold: str, answer: str, g: Any, a: Any) -> str | None:
    """Return the name of the first veto against this agreement. One that cannot finish counts as a veto."""
    for veto in _VETOES:
        try:
            if veto(gold, answer, g, a):
                return veto.__name__.lstrip("_")
        except (ArithmeticError, AttributeError, NotImplementedError, RecursionError, TypeError, ValueError):
            return veto.__name__.lstrip("_")
    return None


def _sympy() -> Any:
    return importlib.import_module("sympy")  # late: known to be there only after the handshake


def _math_verify() -> Any:
    return importlib.import_module("math_verify")


def _parse(text: str) -> list[Any]:
    # The library's own timeout uses SIGALRM inside this process; the parent's kill needs no cooperation.
    return list(_math_verify().parse(f"${text}$", parsing_timeout=None))


def _verify(gold: list[Any], answer: list[Any]) -> bool:
    return bool(_math_verify().verify(gold, answer, timeout_seconds=None))


# ---- the loop ---------------------------------------------------------------------------------------------


def _lock_down() -> None:
    """Cap what this process may take. Called after the imports, so that the caps bound the questions only."""
    if _STATUS.exists():  # elsewhere than on Linux an address-space cap is refused or ignored
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))


def _allow_cpu(seconds: float) -> None:
    """Give the next question its CPU budget; the kernel ends this process after it, parent or no parent."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(usage.ru_utime + usage.ru_stime + seconds) + _CPU_SLACK_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _memory_was_short() -> bool:
    """Whether this process came near its memory cap: sympy swallows MemoryError, so the verdict means nothing."""
    if not _STATUS.exists():
        return False
    peak = re.search(r"VmPeak:\s+(\d+) kB", _STATUS.read_text(encoding="utf-8", errors="replace"))
    return peak is not None and int(peak[1]) * 1024 > 0.9 * _MEMORY_BYTES


def _answer(request: dict[str, Any]) -> Reply:
    _allow_cpu(float(request["seconds"]))
    try:
        reply = grade(request["gold"], request["answer"])
        short = _memory_was_short() and reply["outcome"] != RIGHT
    except MemoryError:
        short = True
    except Exception as error:  # a library in the worker failed on this text: that is what unparseable means
        return {"outcome": UNPARSEABLE, "detail": f"{type(error).__name__} while checking"}
    return {"outcome": UNPARSEABLE, "detail": "out of memory", "last": "yes"} if short else reply


def main() -> int:
    """Say hello, then answer until stdin closes. Replies leave on a private descriptor: prints cannot forge one."""
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    hello: Reply
    try:
        _math_verify()
        hello = {"ready": "yes"}
    except ImportError as error:
        hello = {"missing": error.name or str(error)}
    print(json.dumps(hello), file=out, flush=True)
    if "missing" in hello:
        return 1
    _lock_down()
    for line in sys.stdin:
        reply = _answer(json.loads(line))
        print(json.dumps(reply), file=out, flush=True)
        if "last" in reply:
            break
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
