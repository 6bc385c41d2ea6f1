"""CEL behind our own small interface: compile once, type-checked and bounded; true only on a boolean true.

Rules:

  1. a program is written in a part of CEL: metrics, numbers, text in quotes, lists, `&& || ! == != < <= > >= in`,
     `+ - *`, `? :`, brackets, and the conversions `double(...)` and `int(...)`. No macro, no other function, no field,
     no map, no message: nothing that could run longer than the text is long
  2. at most 1,000 characters, 256 tokens and 16 levels of brackets. At most 8 multiplications, no division, no number
     beyond 1e30; in a policy that is new, no text inside a conversion, which reads it (`double('nan')`): whatever the
     metrics are (each within 1e30 too), every intermediate result is finite, so that no NaN can make a comparison or
     its negation come out true
  3. it is compiled and type-checked before it is used; its type is boolean
  4. it holds only where the library returns a value of type BOOL that is `True`. The library returns errors as truthy
     values (division by zero, no such overload, a metric that is not there), so the type is asked first

Bounds of rule 2: each factor is a sum of at most 256 terms within 1e30, so nine of them multiply to less than 1e292.
CEL's own logic stands: `a || b` holds where one of them does and the other cannot be told.

This module does not know what the metrics mean, nor what happens when a program does not hold.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from cel_expr_python import cel

from mass_gov.policy.metrics import LARGEST, METRICS, Value, usable

MAX_CHARS, MAX_TOKENS, MAX_DEPTH, MAX_PRODUCTS = 1000, 256, 16, 8
_TOKEN = re.compile(
    r"\s+"
    r"|(?P<number>(?:\d+\.\d+|\d+)(?:[eE][-+]?\d+)?(?![\w.]))"
    r"|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<text>'[A-Za-z0-9 ._-]*'|\"[A-Za-z0-9 ._-]*\")"
    r"|(?P<sign>&&|\|\||==|!=|<=|>=|[-+*<>!?:(),\[\]])"
)
_WORDS = ("true", "false", "in")
_CONVERSIONS = ("double", "int")
_TYPES = {"string": cel.Type.STRING, "bool": cel.Type.BOOL, "int": cel.Type.INT, "double": cel.Type.DOUBLE}
_ENVIRONMENT = cel.NewEnv(variables={name: _TYPES[kind] for name, kind in METRICS.items()})


@dataclass(frozen=True)
class Program:
    """A compiled expression, and the metrics that it names in the order in which they first stand there."""

    text: str
    names: tuple[str, ...]
    _compiled: Any

    def holds(self, metrics: Mapping[str, Value]) -> bool | None:
        """Whether it is true of these metrics; None where that cannot be told."""
        given = {name: metrics[name] for name in self.names if name in metrics and usable(metrics[name])}
        try:
            result = self._compiled.eval(data=given)
            plain = result.value()
            if result.type() != cel.Type.BOOL or not isinstance(plain, bool):
                return None
        except Exception:  # whatever the library raises: it was not told to be true
            return None
        return plain


@lru_cache(maxsize=1024)
def compile_program(text: str) -> Program:
    """Compile an expression.

    Raises:
        ValueError: it is none of rules 1 to 3; the message says what is wrong with it, and where.
    """
    names = _bounded(text)
    try:
        compiled = _ENVIRONMENT.compile(text)
    except Exception as error:  # the library raises plain RuntimeErrors
        raise ValueError(_explained(str(error))) from None
    if compiled.return_type() != cel.Type.BOOL:
        raise ValueError(
            f"it gives {compiled.return_type().name().lower()} and no yes or no; compare it with something"
        )
    return Program(text, names, compiled)


def converted_texts(text: str) -> list[str]:
    """Texts inside a conversion, in quotes or of a metric: it would read them as numbers past the bounds of rule 2.

    `double('nan')`, `double('in' + 'f')`, `double(kept > 0 ? '1e300' : 'x')`.
    """
    found: list[str] = []
    inside: list[bool] = []
    before = ""
    for kind, part in _tokens(text):
        if part == "(":
            inside.append(before in _CONVERSIONS or (bool(inside) and inside[-1]))
        elif part == ")" and inside:
            inside.pop()
        elif inside and inside[-1] and (kind == "text" or METRICS.get(part) == "string"):
            found.append(part)
        before = part
    return found


def _bounded(text: str) -> tuple[str, ...]:
    """Check rules 1 and 2; returns the metrics that are named."""
    if len(text) > MAX_CHARS:
        raise ValueError(f"it has {len(text)} characters and may have {MAX_CHARS}; split it into two rules")
    names: dict[str, None] = {}
    tokens = _tokens(text)
    if len(tokens) > MAX_TOKENS:
        raise ValueError(f"it has {len(tokens)} tokens and may have {MAX_TOKENS}; split it into two rules")
    depth = 0
    for (kind, token), (_, after) in pairwise([*tokens, ("", "")]):
        depth += (token in ("(", "[")) - (token in (")", "]"))
        if depth > MAX_DEPTH:
            raise ValueError(f"its brackets are nested more than {MAX_DEPTH} deep; write it flatter")
        if kind == "number" and float(token) > LARGEST:
            raise ValueError(f"{token} is beyond 1e30; use a smaller number")
        if kind == "word":
            _check_word(token, after)
            if token in METRICS:
                names[token] = None
    if tokens.count(("sign", "*")) > MAX_PRODUCTS:
        raise ValueError(f"it multiplies more than {MAX_PRODUCTS} times; split it into two rules")
    return tuple(names)


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ValueError(
                f"character {place + 1} ({text[place]!r}) is not accepted in a rule: metrics, numbers, text in plain "
                "quotes, comparisons, && || ! ? : + - * and brackets are"
            )
        if match.lastgroup is not None:
            found.append((match.lastgroup, match.group()))
        place = match.end()
    return found


def _check_word(word: str, after: str) -> None:
    if after == "(":
        if word not in _CONVERSIONS:
            raise ValueError(f"{word}(...) is not accepted in a rule; double(...) and int(...) are the only functions")
    elif word not in METRICS and word not in _WORDS:
        near = difflib.get_close_matches(word, METRICS, n=1)
        raise ValueError(f"there is no metric {word}{f'; perhaps {near[0]} is meant' if near else ''}")


def _explained(message: str) -> str:
    """The library's first line without its decoration, and what to do about the commonest mistake."""
    first = re.sub(r"^.*?ERROR: <input>:1:(\d+): ", r"at character \1: ", message.splitlines()[0])
    first = first.replace("(in container '')", "").strip()
    mixed = "double" in first and "int" in first and "overload" in first
    return first + ("; whole numbers and decimals do not mix: write 1.0, or double(kept)" if mixed else "")
