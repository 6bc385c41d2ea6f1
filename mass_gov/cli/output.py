"""What the command line prints: JSON for programs, tables for people, one line at a time on stderr.

Rules: nothing that a person or a model wrote is read as markup, as an emoji name or by the terminal: control and
bidirectional characters are shown as escapes. JSON is ASCII, so that no terminal encoding can break it.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Mapping

from rich import box
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

WIDE = 104
"""Columns of a terminal from which on tables have room for more than the least."""
GOOD, BAD, UNSURE, FAINT = "green", "red", "yellow", "dim"
STYLES = {
    "pass": GOOD,
    "apply": GOOD,
    "applied": GOOD,
    "active": GOOD,
    "right": GOOD,
    "equal": GOOD,
    "ok": GOOD,
    "inconclusive": UNSURE,
    "hold": UNSURE,
    "held": UNSURE,
    "pending": UNSURE,
    "timeout": UNSURE,
    "note": UNSURE,
    "equal, other fingerprint": UNSURE,
    "given": FAINT,
    "not reached": FAINT,
    "fail": BAD,
    "reject": BAD,
    "rejected": BAD,
    "rolled_back": FAINT,
    "retired": FAINT,
    "wrong": BAD,
    "unparseable": BAD,
    "unreadable": BAD,
    "differs": BAD,
    "problem": BAD,
}
_FULL, _EMPTY, _BEYOND = "█", "·", "▶"


def emit(document: Mapping[str, object], *, line: bool = False) -> None:
    """Print one JSON object on stdout: indented, or with `line` on one line (JSON lines), and flush it."""
    text = json.dumps(document, allow_nan=False, indent=None if line else 2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write(text: str) -> None:
    """Print text as it is on stdout (signed notes, proofs)."""
    sys.stdout.write(text)
    sys.stdout.flush()


def say(message: str) -> None:
    """Print one line for a person on stderr."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


class _Console(Console):
    """A console that leaves exit statuses to `exits`, also when whoever reads it goes away."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def out() -> Console:
    """The console of stdout."""
    return _Console(file=sys.stdout, markup=False, emoji=False, highlight=False)


def err() -> Console:
    """The console of stderr: progress and notices."""
    return _Console(file=sys.stderr, markup=False, emoji=False, highlight=False)


def visible(text: str) -> str:
    """Return `text` with everything that a terminal would act on shown as an escape; line feeds stay."""
    return "".join(character if _harmless(character) else _escape(character) for character in text)


def one_line(text: str, limit: int = 10_000) -> str:
    """Return `text` visible, on one line, cut to `limit` characters."""
    flat = visible(text).replace("\n", "⏎")
    return flat if len(flat) <= limit else flat[: max(0, limit - 1)] + "…"


def styled(word: str) -> Text:
    """A verdict or status in its colour; the word itself says the same without one."""
    return Text(word.replace("_", " "), style=STYLES.get(word, ""))


def bar(value: float | None, limit: float, width: int = 16) -> Text:
    """How much of the limit a value takes, as a bar; past the limit it ends in an arrow."""
    if value is None:
        return Text("no value", style=BAD)
    share = value / limit if limit > 0 else (0.0 if value <= 0 else 2.0)
    filled = min(width, max(0, round(share * width)))
    if share > 0 and filled == 0:
        filled = 1
    if share > 1:
        return Text(_FULL * (width - 1) + _BEYOND, style=BAD)
    return Text.assemble((_FULL * filled, GOOD), (_EMPTY * (width - filled), FAINT))


def number(value: float | None) -> str:
    """A number for a table: whole ones as such, others with four significant digits."""
    if value is None:
        return "-"
    return f"{int(value)}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def grid(*columns: str) -> Table:
    """A table without lines: headers, then rows."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name)
    return table


def facts(rows: Mapping[str, RenderableType]) -> Table:
    """Two columns: what, and its value."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style=FAINT, no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(name), value if not isinstance(value, str) else Text(value))
    return table


def panel(title: str, body: RenderableType) -> Panel:
    """A titled box; the title is plain text."""
    return Panel(body, title=Text(title, style="bold"), title_align="left", box=box.ROUNDED)


def _harmless(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs", "Cf", "Co", "Cn", "Zl", "Zp")


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
