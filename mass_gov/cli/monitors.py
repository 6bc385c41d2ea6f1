"""`mass-gov monitors`: each window statistic over the last changes, and whether a deployment may learn. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from mass_gov.cli.options import DeploymentOption, JsonFlag, settings
from mass_gov.cli.output import BAD, emit, grid, number, out, say, styled

if TYPE_CHECKING:
    from mass_gov.ledger import ChangeView, FreezeView
    from mass_gov.records.change import GateResult

_STEPS = "▁▂▃▄▅▆▇█"
_WIDTH = 24
LastOption = Annotated[int, typer.Option("--last", min=1, max=1000, help="How many changes to look back over.")]

app = typer.Typer(help="Show what is watched over many changes.", no_args_is_help=True)


@app.command()
def show(deployment: DeploymentOption = None, last: LastOption = 100, as_json: JsonFlag = False) -> None:
    """Show each window statistic over the last changes against its limit, and whether learning is frozen."""
    from mass_gov.wiring import read_ledger

    chosen = settings(deployment=deployment)
    with read_ledger(chosen) as ledger:
        changes = ledger.learned(chosen.tenant, chosen.deployment, limit=last)
        freeze = ledger.frozen(chosen.tenant, chosen.deployment)
    document = _document(chosen.tenant, chosen.deployment, changes, freeze)
    if as_json:
        emit(document)
        return
    _print(document)


def _document(tenant: str, deployment: str, changes: Sequence[ChangeView], freeze: FreezeView | None) -> dict[str, Any]:
    monitors: dict[str, dict[str, Any]] = {}
    for change in changes:
        for gate in change.body.gates:
            if gate.level == "window":
                monitors[gate.name] = _monitor(gate, monitors.get(gate.name, {"values": []}), change)
    return {
        "tenant": tenant,
        "deployment": deployment,
        "changes": len(changes),
        "frozen": None if freeze is None else {"index": freeze.index, "cause": freeze.cause, "monitor": freeze.monitor},
        "monitors": monitors,
    }


def _monitor(gate: GateResult, before: dict[str, Any], change: ChangeView) -> dict[str, Any]:
    """As the newest change leaves it; every change's value in the order of the log."""
    return {
        "statistic": gate.statistic,
        "value": gate.value,
        "comparison": gate.comparison,
        "limit": gate.limit,
        "n": gate.n,
        "verdict": gate.verdict,
        "change_id": change.change_id,
        "values": [*before["values"], gate.value],
    }


def _print(document: dict[str, Any]) -> None:
    place, frozen = f"{document['tenant']}/{document['deployment']}", document["frozen"]
    if frozen is None:
        say(f"{place}: learning goes on.")
    else:
        why = frozen["monitor"] or f"an {frozen['cause']}" if frozen["cause"] != "regression" else "a regression test"
        say(f"{place}: learning is frozen since event {frozen['index']}, by {why}. `mass-gov unfreeze` lets it go on.")
    if not document["monitors"]:
        say(f"no window gate judged any of the last {document['changes']} changes with a new state.")
        return
    table = grid("monitor", "statistic", "now", "limit", "n", "verdict", f"last {document['changes']} changes")
    for name, one in document["monitors"].items():
        limit = f"{one['comparison']} {number(one['limit'])}"
        line = sparkline(one["values"], one["limit"])
        table.add_row(name, one["statistic"], number(one["value"]), limit, str(one["n"]), styled(one["verdict"]), line)
    out().print(table)


def sparkline(values: Sequence[float | None], limit: float, width: int = _WIDTH) -> Text:
    """The newest `width` values from 0 to the largest of them and the limit; what is no number is a cross."""
    shown = values[-width:]
    top = max([limit, *(value for value in shown if value is not None)]) or 1.0
    steps = len(_STEPS) - 1
    return Text.assemble(
        *(("x", BAD) if value is None else _STEPS[max(0, min(steps, round(value / top * steps)))] for value in shown)
    )
