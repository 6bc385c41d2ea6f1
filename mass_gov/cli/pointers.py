"""`mass-gov pointers`: where deployments stand, and how they got there. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from mass_gov.cli.options import DeploymentOption, JsonFlag, settings
from mass_gov.cli.output import emit, facts, grid, out, panel, say

if TYPE_CHECKING:
    from mass_gov.ledger import PointerMove, PointerView

app = typer.Typer(help="Show where deployments stand, and how they got there.", no_args_is_help=True)


@app.command()
def show(deployment: DeploymentOption = None, as_json: JsonFlag = False) -> None:
    """Show a deployment's pointer: its state, the change behind it, and the event that last moved it."""
    from mass_gov.wiring import read_ledger

    chosen = settings(deployment=deployment)
    with read_ledger(chosen) as ledger:
        pointer = ledger.pointer(chosen.tenant, chosen.deployment)
    if as_json:
        emit(_pointer(pointer))
        return
    rows = {
        "state": pointer.state or "the base model (it never moved)",
        "change": pointer.change_id or "none: the base model itself",
        "moved by": "nothing yet" if pointer.head_index is None else f"event {pointer.head_index}",
    }
    out().print(panel(f"pointer {pointer.tenant}/{pointer.deployment}", facts(dict(rows))))


@app.command()
def history(deployment: DeploymentOption = None, as_json: JsonFlag = False) -> None:
    """List every movement of a deployment's pointer, oldest first."""
    from mass_gov.wiring import read_ledger

    chosen = settings(deployment=deployment)
    with read_ledger(chosen) as ledger:
        moves = ledger.pointer_history(chosen.tenant, chosen.deployment)
    if as_json:
        emit({"tenant": chosen.tenant, "deployment": chosen.deployment, "moves": [_move(move) for move in moves]})
        return
    if not moves:
        say(f"the pointer {chosen.tenant}/{chosen.deployment} never moved: it stands on the base model.")
        return
    table = grid("event", "cause", "by change", "from", "to")
    for move in moves:
        table.add_row(str(move.index), move.cause, move.moved_by, _state(move.from_state), _state(move.to_state))
    table.columns[2].no_wrap = True
    out().print(table)


def _state(digest: str) -> str:
    return digest[:8]


def _pointer(pointer: PointerView) -> dict[str, object]:
    return {
        "tenant": pointer.tenant,
        "deployment": pointer.deployment,
        "state_digest": pointer.state,
        "change_id": pointer.change_id,
        "head_index": pointer.head_index,
    }


def _move(move: PointerMove) -> dict[str, object]:
    return {
        "index": move.index,
        "cause": move.cause,
        "moved_by": move.moved_by,
        "from_state": move.from_state,
        "from_change": move.from_change,
        "to_state": move.to_state,
        "to_change": move.to_change,
    }
