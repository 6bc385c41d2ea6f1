"""Is this letter right? Multiple choice, read strictly from what a model wrote.

Rules
1. The letter is looked for in the marked answer only (the last box, what follows the last `####`, what follows the
   last "the answer is"), else in the whole text, which must then be the letter.
2. A letter counts alone, or followed by a full stop, comma, colon, semicolon or bracket ("B", "(B)", "B. Paris",
   "**B**", "option B"). "A cat" is an article and not a choice.
3. Two different letters are no answer. An option's text is never matched: only the letter was asked for.

It does not know what the options say.
"""

from __future__ import annotations

import re
from typing import Final

from mass_gov.tasks._answers import final_part
from mass_gov.tasks.checking import Outcome, Verdict

_WRAPPING: Final = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_LETTER: Final = re.compile(
    r"(?:(?:the\s+)?(?:option|choice|letter|answer)\s*(?::\s*)?)?(?:\(([A-Z])\)|([A-Z])(?=[.,:;)\]]|\s*$))(.*)",
    re.IGNORECASE | re.DOTALL,
)
_ANOTHER: Final = re.compile(r"\(([A-Z])\)|(?<![A-Za-z0-9'])([A-Z])(?=[.:;)\]](?:\s|$))|^[,;/&.\s]+([A-Z])\W*$")


def check_choice(gold: str, text: str, letters: str = "ABCD") -> Verdict:
    """Compare the letter that `text` chooses with `gold`; unparseable where it chooses none, or two."""
    chosen = chosen_letter(text, letters)
    if chosen is None:
        return Verdict(Outcome.UNPARSEABLE, f"no single letter of {letters} was chosen")
    return Verdict(Outcome.RIGHT if chosen == gold else Outcome.WRONG, f"letter {chosen}")


def chosen_letter(text: str, letters: str = "ABCD") -> str | None:
    """The letter that a text chooses, in upper case, or None."""
    marked = _WRAPPING.sub(r"\1", final_part(text)).replace("*", "").replace("$", "").strip()
    match = _LETTER.fullmatch(marked)
    if match is None:
        return None
    letter = (match[1] or match[2]).upper()
    others = {other[other.lastindex or 0] for other in _ANOTHER.finditer(match[3])}
    return letter if letter in letters and not (others & set(letters)) - {letter} else None
