"""Whoever asked to learn and was answered un-adapted is told why: a freeze, a spent budget, a cooldown."""

from io import StringIO

from rich.console import Console

from mass_gov.cli.solve_view import unadapted_panel


def _shown(note: str | None) -> str:
    document = {
        "answer": "2",
        "response_id": "r",
        "log": {"index": 14, "size": 15},
        "frozen": None,
        "note": note,
        "outcome": None,
        "task": {"question": "1+1"},
    }
    console = Console(file=StringIO(), width=80)
    console.print(unadapted_panel(document))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_cooldown_is_said_where_nothing_was_learned_for_it() -> None:
    assert "local/default cools down after a rollback" in _shown("local/default cools down after a rollback")


def test_who_did_not_ask_to_learn_is_told_nothing_of_it() -> None:
    assert "note" not in _shown(None)
