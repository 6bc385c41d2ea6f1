"""What a rollback did, for people: what it undid, what still stands, and what was served under it."""

from __future__ import annotations

from mass_gov.cli.output import grid, one_line, out
from mass_gov.flows.rollback import RolledBack
from mass_gov.ledger import ResponseView


def print_rolled_back(done: RolledBack, pointer: str, state: str | None) -> None:
    """What a rollback did, for people."""
    for change in done.changes:
        out().print(f"{change.change_id} is rolled back.", soft_wrap=True)
    out().print(f"The pointer {pointer} stands on {state or 'the base model'}.", soft_wrap=True)
    for change in done.standing:
        out().print(
            f"{change.change_id} was made from the undone state: its adapted answer is not served any more. "
            "--cascade withdraws it.",
            soft_wrap=True,
        )
    _print_served(done.responses)


def _print_served(responses: tuple[ResponseView, ...]) -> None:
    if not responses:
        out().print("Nothing was served under it.")
        return
    out().print(f"{len(responses)} answer(s) were served under what is now undone:")
    table = grid("log index", "served", "response")
    for response in responses:
        table.add_row(str(response.index), one_line(response.served), response.response_id)
    out().print(table)
