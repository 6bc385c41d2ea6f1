"""`mass-gov pointers`: where deployments stand and stood, and what moves them back or on.

No torch but where a model is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mass_gov.cli.options import (
    AsOption,
    DeploymentOption,
    JsonFlag,
    ModelOption,
    ReasonOption,
    clean_reason,
    moment,
    settings,
)
from mass_gov.cli.output import emit, facts, grid, out, panel, say

if TYPE_CHECKING:
    from mass_gov.ledger import Ledger, PointerAsOf

app = typer.Typer(
    help="Show where deployments stand and stood; roll back, test, and move to another model.", no_args_is_help=True
)
_LONGEST_INDEX = 40
AtOption = Annotated[
    str | None,
    typer.Option("--at", metavar="INDEX|TIME", help="As of a log index, or of a time (2026-11-28T10:00:00Z, UTC)."),
]


@app.command()
def show(deployment: DeploymentOption = None, at: AtOption = None, as_json: JsonFlag = False) -> None:
    """Show a deployment's pointer, now or at another moment: its state, what that stands on, and what moved it.

    As of an index means right after that event. As of a time means the newest movement, by index, whose event says a
    time that is not later; where the clock ran backwards there are two readings of a time, and the answer says so.
    """
    from mass_gov.documents.pointers import freeze_document, pointer_document, stack_document
    from mass_gov.wiring import read_ledger

    chosen = settings(deployment=deployment)
    with read_ledger(chosen) as ledger:
        seen = _seen(ledger, chosen.tenant, chosen.deployment, at)
        stack = ledger.pointer_stack(chosen.tenant, chosen.deployment) if at is None else None
        frozen = ledger.frozen(chosen.tenant, chosen.deployment) if at is None else None
    pointer = seen.pointer
    if as_json:
        past = {"moved_at": seen.moved_at, "twofold": seen.twofold}
        now = {"stack": stack_document(stack) if stack is not None else None, "freeze": freeze_document(frozen)}
        emit(pointer_document(pointer) | past | now)
        return
    rows = {
        "state": pointer.state or "the base model (it never moved)",
        "change": pointer.change_id or "none: the base model itself",
        "moved by": "nothing yet" if pointer.head_index is None else f"event {pointer.head_index}, {seen.moved_at}",
    }
    if pointer.base_model is not None:
        rows["base model"] = pointer.base_model
    if stack:
        rows["stands on"] = " < ".join(_state(one.state) for one in stack)
    if frozen is not None:
        rows["learning"] = f"frozen since event {frozen.index}"
    if seen.twofold:
        rows["note"] = "the clock ran backwards around that time: ask by index"
    when = f" at {at}" if at is not None else ""
    out().print(panel(f"pointer {pointer.tenant}/{pointer.deployment}{when}", facts(dict(rows))))


@app.command()
def history(deployment: DeploymentOption = None, as_json: JsonFlag = False) -> None:
    """List every movement of a deployment's pointer, oldest first."""
    from mass_gov.documents.pointers import move_document
    from mass_gov.wiring import read_ledger

    chosen = settings(deployment=deployment)
    with read_ledger(chosen) as ledger:
        moves = ledger.pointer_history(chosen.tenant, chosen.deployment)
        times = {move.index: ledger.entry(move.index).predicate.time for move in moves}
    if as_json:
        listed = [move_document(move) | {"time": times[move.index]} for move in moves]
        emit({"tenant": chosen.tenant, "deployment": chosen.deployment, "moves": listed})
        return
    if not moves:
        say(f"the pointer {chosen.tenant}/{chosen.deployment} never moved: it stands on the base model.")
        return
    table = grid("event", "cause", "by change", "from", "to")
    for move in moves:
        by = move.moved_by or "another base model"
        table.add_row(str(move.index), move.cause, by, _state(move.from_state), _state(move.to_state))
    table.columns[2].no_wrap = True
    out().print(table)


@app.command()
def rollback(
    to: Annotated[
        str, typer.Option("--to", metavar="STATE|base", help="First 8 or more digits of a state, or `base`.")
    ],
    reason: ReasonOption,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Undo several changes where several stand on that state, newest first.")
    ] = False,
    deployment: DeploymentOption = None,
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Move a deployment's pointer back to a state that it stands on; says what was served under what is undone."""
    from mass_gov.cli.rollback_view import print_rolled_back
    from mass_gov.documents.pointers import rolled_back_document
    from mass_gov.flows.rollback import rollback_to
    from mass_gov.wiring import acting, open_ledger

    chosen, why = settings(deployment=deployment, principal=principal), clean_reason(reason)
    with open_ledger(chosen) as ledger:
        place = (chosen.tenant, chosen.deployment)
        who = acting(chosen, ledger, "rollback").actor
        done = rollback_to(ledger, *place, to.strip().lower(), who, why, cascade=cascade)
        state = ledger.pointer(*place).state
    if as_json:
        emit({"to": to, "already": done.already} | rolled_back_document(done, state))
        return
    if done.already:
        say(f"note: {'/'.join(place)} stands there already; nothing changed.")
    print_rolled_back(done, "/".join(place), state)


@app.command()
def test(
    freeze: Annotated[bool, typer.Option("--freeze", help="Also freeze learning where the test fails.")] = False,
    deployment: DeploymentOption = None,
    principal: AsOption = None,
    model: ModelOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the deployment's suite on what its pointer stands on; where that fails, undo the newest change.

    Meant for after a promotion or an approval, and for a timer. Exit status 0: passed · 1: failed, and undone.
    """
    from mass_gov.cli.pointer_runs import run_test

    raise typer.Exit(run_test(settings(deployment=deployment, principal=principal, model=model), freeze, as_json))


@app.command()
def rebase(
    model: Annotated[Path, typer.Option("--model", metavar="FOLDER", help="Folder of the new base model.")],
    reason: ReasonOption,
    deployment: DeploymentOption = None,
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Move a deployment's pointer to another base model, if that passes the regression suite.

    The present model is the one of MASS_GOV_MODEL, or the one that ships. No delta carries over. Exit status 5 where
    the new model is not shown to be as good; nothing is moved then.
    """
    from mass_gov.cli.pointer_runs import run_base_move

    run_base_move(settings(deployment=deployment, principal=principal), model, clean_reason(reason), as_json)


def _seen(ledger: Ledger, tenant: str, deployment: str, at: str | None) -> PointerAsOf:
    if at is not None and at.strip().isdecimal() and len(at) <= _LONGEST_INDEX:
        return ledger.pointer_as_of(tenant, deployment, index=int(at))
    return ledger.pointer_as_of(tenant, deployment, time=_time(at) if at is not None else None)


def _time(text: str) -> str:
    return moment(text, "--at", otherwise="neither a log index nor a time")


def _state(digest: str) -> str:
    return digest[:8]
