"""What text may be posed as a task, and how long what people write about changes may be.

Rules: a text is refused or kept as it is; the one change is `\\r\\n` to `\\n`, since the line end of the machine that
wrote a file is not part of the problem. Nothing is folded, trimmed or replaced: what the requester wrote is what the
model sees and what the record keeps. Refused are texts that have no stable bytes (lone surrogates) and texts that a
terminal, a log or a prompt could show as something else than they are (control characters).

It does not know what the text means, nor how many tokens it makes: that limit belongs to the model.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from mass_gov.errors import TaskError

MAX_TASK_CHARS: Final = 8_000
MAX_REASON_CHARS: Final = 2_000
MAX_TITLE_CHARS: Final = 200
MAX_DESCRIPTION_CHARS: Final = 20_000
_ALLOWED_CONTROLS: Final = "\n\t"


def clean_task_text(text: str, *, limit: int = MAX_TASK_CHARS) -> str:
    """Return `text` with `\\n` line ends, or say why it cannot be a task.

    Args: `limit` in characters (code points), counted after the line ends are made equal.
    Raises: `TaskError` for an empty, blank, over-long or control-character text, or one with a lone surrogate;
    positions are counted from 1.
    """
    text = text.replace("\r\n", "\n")
    if not text.strip():
        raise TaskError("The task is empty. Write the problem to be solved.")
    if len(text) > limit:
        raise TaskError(
            f"The task is {len(text):,} characters long and the limit is {limit:,}. Shorten it or split it."
        )
    refuse_unprintable(text, "The task")
    return text


def refuse_unprintable(text: str, what: str) -> None:
    """Raise `TaskError` naming the first code point that has no place in a record; `what` opens the message."""
    for position, character in enumerate(text, start=1):
        kind = unicodedata.category(character)
        if kind == "Cs":
            raise TaskError(
                f"{what} holds half of a surrogate pair (U+{ord(character):04X}) at character {position}. "
                "Write the text as valid UTF-8."
            )
        if kind == "Cc" and character not in _ALLOWED_CONTROLS:
            raise TaskError(
                f"{what} holds the control character U+{ord(character):04X} at character {position}. "
                "Remove it; only line feeds and tabs are kept."
            )
