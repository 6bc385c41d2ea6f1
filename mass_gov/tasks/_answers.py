r"""What counts as the answer in a free-form text, and what of it carries meaning. Pure string work, no sympy.

Rules
1. An answer is never guessed. A marked answer counts (`\boxed{}`, `####`, "the answer is"), else the whole text;
   prose with two different numbers in it and no mark has no reading, and not "its last number".
2. What is dropped carries no value: spacing commands, currency signs, emphasis, a full stop, a noun after a number.
3. Words are compared as words only where the gold answer is words.

It does not know whether two answers are equal: that is `_checker_process`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

_UNICODE: Final = str.maketrans(
    {
        "\u2212": "-", "\u2013": "-", "\u00d7": r"\times ", "\u00b7": r"\cdot ", "\u00f7": "/", "\u03c0": r"\pi ",
        "\u00b0": r"^\circ", "\u221e": r"\infty ", "\u2264": r"\le ", "\u2265": r"\ge ", "\u222a": r"\cup ",
        "\u00bd": r"\frac{1}{2}", "\u00bc": r"\frac{1}{4}", "\u00be": r"\frac{3}{4}", "\u00a0": " ", "\u202f": " ",
    }
)  # fmt: skip
_BOX: Final = re.compile(r"\\(?:boxed|fbox)\s*\{")
_SAID: Final = re.compile(r"\banswer\s*(?:is|:|=)\s*:?", re.IGNORECASE)
_INLINE: Final = re.compile(r"(?<!\\)\$\$?([^$]+)(?<!\\)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_CURRENCY: Final = re.compile(r"(?<!\\)\$\s?(-?\d[\d,]*(?:\.\d+)?|-?\.\d+)(?=[.,;!?]*(?:\s+[A-Za-z]{2,}|\s*$))")
_WRAPPER: Final = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_WORD: Final = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{3,}")
_NOT_PROSE: Final = frozenset(
    {
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "sinh",
        "cosh",
        "tanh",
        "arcsin",
        "arccos",
        "arctan",
        "log",
        "exp",
    }
    | {"lim", "max", "min", "gcd", "lcm", "mod", "det", "sqrt", "cis", "and"}
)
_NUMBER: Final = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)(?:/\d+)?\s?%?")
_MATHS_SIGNS: Final = re.compile(r"[\\^_{}=+*<>|()\[\]]|\d[A-Za-z]|[A-Za-z]\d")
_DECIMAL: Final = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)")


def final_part(text: str) -> str:
    r"""Return the marked answer: the last `\boxed{}`, else after the last `####`, else after "answer is", else all."""
    boxes = list(_BOX.finditer(text))
    if boxes:
        return _balanced(text, boxes[-1].end())
    if "####" in text:
        return text.rsplit("####", 1)[1].strip().split("\n", 1)[0]
    said = list(_SAID.finditer(text))
    if said:
        return text[said[-1].end() :].strip().split("\n", 1)[0]
    return text


def _balanced(text: str, start: int) -> str:
    """Return what stands between the brace that opened just before `start` and the one that closes it."""
    depth = 1
    for index in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return text[start:index]
    return ""  # cut off in the middle: no answer was completed


def tidy(text: str) -> str:
    """Drop what carries no meaning: spacing commands, currency, emphasis, a full stop; spell Unicode as LaTeX."""
    text = final_part(text).translate(_UNICODE).strip()
    text = re.sub(r"(^|\s)\*\*([^*]+)\*\*", r"\1\2", text)
    text = re.sub(r"\w+(?:\*\*\w+)+", _tower, text).replace("**", "^")
    text = re.sub(r"\u221a\s*(\d+)", r"\\sqrt{\1}", text).replace("\u221a", r"\sqrt ")
    text = re.sub(r"(?<=\d),\\!\s*(?=\d{3})", "", _CURRENCY.sub(r"\1", text))
    text = re.sub(r"\\[!,;:]|\\\s|\\quad|\\displaystyle|~", " " if r"\!" not in text else "", text)
    text = re.sub(r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi ", text)
    text = re.sub(r"(?<![\d.,}])(\d+)\s+(\d+)/(\d+)(?!\d)", r"\1\\frac{\2}{\3}", text)
    return re.sub(r"[.,;]+$", "", text.strip()).strip()


def _tower(match: re.Match[str]) -> str:
    """Spell `a**b**c` as `a^{b^{c}}`: Python's powers associate to the right, LaTeX's need the braces."""
    base, *exponents = match[0].split("**")
    return base + "".join("^{" + exponent for exponent in exponents) + "}" * len(exponents)


def expression(text: str) -> str | None:
    """Return the mathematics in a tidied text, or None where there is none or more than one reading."""
    segments = [next(group for group in match.groups() if group) for match in _INLINE.finditer(text)]
    around = _INLINE.sub(" ", text)
    if segments and re.fullmatch(r"(?:\s|,|;|\.|and|or)*", around):
        return ", ".join(segment.strip() for segment in segments)
    if segments:
        return segments[0].strip() if len(segments) == 1 and not re.search(r"\d", around) else None
    if not _is_prose(text):
        return text if re.search(r"[A-Za-z0-9]", text) else None
    head = re.fullmatch(r"(.*?[\d})])\s+[A-Za-z][A-Za-z .'-]*", text, re.DOTALL)
    if head and not _is_prose(head[1]):
        return str(head[1])  # a unit or a noun after the value: "18 dollars"
    numbers = {match[0].strip() for match in _NUMBER.finditer(text) if match[0]}
    return numbers.pop() if len(numbers) == 1 and not _MATHS_SIGNS.search(text) else None


def _is_prose(text: str) -> bool:
    """Whether a word stands in the text outside of LaTeX commands and text boxes. "3 and 4" is a pair, not prose."""
    return any(word.lower() not in _NOT_PROSE for word in _WORD.findall(_outside_boxes(text)))


def _outside_boxes(text: str) -> str:
    return re.sub(r"\\(?:begin|end)\{\w+\*?\}", " ", _WRAPPER.sub(" ", text))


def words_of(text: str) -> str:
    """Return a text answer as lower-case words: `\\text{(C)}` and `c` are the same choice."""
    text = _WRAPPER.sub(r" \1 ", text.replace("$", " "))
    return " ".join(re.findall(r"[^\W_]+", text.replace("\\", " ").casefold()))


def is_text(gold: str) -> bool:
    r"""Whether a gold answer is words and not mathematics: `\text{east}`, `yes`, `east`."""
    if re.fullmatch(r"\$?\s*" + _WRAPPER.pattern + r"\s*\$?", gold):
        return bool(re.search(r"[A-Za-z]", gold.split("{", 1)[1])) and not re.search(r"\d", gold)
    return gold.lower() == "no" or (not re.search(r"[\d\\$^_=+*/<>]", gold) and _is_prose(gold))


def decimal(text: str) -> Fraction | None:
    """Return a plain decimal (`-1,234.50`, `$18`, `10,\\!080`) exactly, or None."""
    bare = re.sub(r"\\\$|\$|\\!|(?<=,)\s", "", text).replace(" ", "")
    return Fraction(bare.replace(",", "")) if _DECIMAL.fullmatch(bare) else None


def tell_cases_apart(gold: str, answer: str) -> tuple[str, str]:
    """Mark capitals where a text uses both cases of a letter: the parser would read R - r as r - r = 0."""
    bare = [re.sub(r"\\[A-Za-z]+", " ", _outside_boxes(text)) for text in (gold, answer)]
    both = {c for text in bare for c in text if c.isascii() and c.isupper() and c.lower() in text}
    if not both:
        return gold, answer
    capital = re.compile(r"\\[A-Za-z]+|(" + "|".join(sorted(both)) + ")")
    marked = [capital.sub(lambda m: f"{{{m[1]}_{{cap}}}}" if m[1] else m[0], text) for text in (gold, answer)]
    return marked[0], marked[1]
