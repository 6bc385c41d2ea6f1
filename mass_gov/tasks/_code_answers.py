"""Which program a model's text stands for. Pure string work; nothing is run or repaired.

Rules, first that applies
1. Fenced blocks: the last one that defines the asked function, put after the prompt (which it then overrides).
2. The function itself at the start of a line: the text from its first line of code on, put after the prompt.
3. A continuation: the text goes on where the prompt ends, up to the first line that is not indented (what the stop
   sequences of Chen et al., 2021, arXiv 2107.03374, section 3 amount to). One that does not start indented is none.

It does not know whether the program is valid Python: what cannot be compiled is found unparseable where it would run.
"""

from __future__ import annotations

import re
from typing import Final

from mass_gov.tasks.readers.values import CodeTests

_FENCE: Final = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_CODE_LINE: Final = re.compile(r"^(?:import |from |def |class |@|[A-Za-z_]\w* *=)", re.MULTILINE)


def program_of(tests: CodeTests, text: str) -> str | None:
    """Return the whole program that `text` makes of the prompt, or None where there is none."""
    text = text.replace("\r\n", "\n")
    blocks = [match[1] for match in _FENCE.finditer(text)]
    whole = [block for block in blocks if _defines(block, tests.entry_point)]
    if whole:
        return f"{tests.prompt}\n\n{whole[-1]}"
    if len(blocks) == 1:
        text = blocks[0]
    elif blocks:
        return None
    if _defines(text, tests.entry_point):
        start = _CODE_LINE.search(text)
        return f"{tests.prompt}\n\n{text[start.start() :] if start else text}"
    return _continued(tests.prompt, text)


def _defines(text: str, name: str) -> bool:
    return re.search(rf"^(?:async )?def {re.escape(name)}\b", text, re.MULTILINE) is not None


def _continued(prompt: str, text: str) -> str | None:
    kept: list[str] = []
    for line in text.split("\n"):
        if line.strip() and not line[0].isspace():
            break
        kept.append(line)
    body = "\n".join(kept)
    return f"{prompt}{body}\n" if body.strip() else None
