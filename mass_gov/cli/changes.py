"""`mass-gov changes`: list, show and export changes; undo them, make them again. What decides about them: `approving`.

No torch but in `rebase`, which runs a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mass_gov.cli.options import (
    AsOption,
    ChangeArgument,
    JsonFlag,
    ModelOption,
    ReasonOption,
    clean_reason,
    identifier,
    settings,
)
from mass_gov.cli.output import WIDE, emit, grid, out, say, styled

app = typer.Typer(help="List, show, export, approve, reject, promote and roll back changes.", no_args_is_help=True)
StatusName = Literal["applied", "held", "pending", "rejected", "active", "rolled_back", "retired"]


@app.command("list")
def list_changes(
    status: Annotated[StatusName | None, typer.Option("--status", help="Only changes that stand so.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many, newest first.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List changes, newest first, with what was decided and where they stand."""
    from mass_gov.documents.changes import summary
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        found = ledger.changes(limit=limit, status=status)
    if as_json:
        emit({"changes": [summary(change) for change in found]})
        return
    if not found:
        say("no change is recorded" + (f" that is {status}." if status else " yet. `mass-gov solve` makes one."))
        return
    console = out()
    wide = console.width >= WIDE
    table = grid("change", "status", "scope", "recorded (UTC)", *(("decision",) if wide else ()))
    for column in table.columns:
        column.no_wrap = True
    for change in found:
        body = change.body
        when = body.identity.recorded_at[:16].replace("T", " ")
        decision = (f"{body.decision.verdict}: {body.decision.reason.replace('_', ' ')}",) if wide else ()
        table.add_row(change.change_id, styled(change.status), body.identity.scope, when, *decision)
    console.print(table)


@app.command()
def show(
    change_id: ChangeArgument,
    samples: Annotated[
        bool, typer.Option("--samples", help="Show every sample in full, with its working, not only its question.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show one change: the decision and why, gates, samples, norms, regression, answers and cost.

    Works without the keys to its contents: then it shows what stands in the log, and says what is sealed.
    """
    from mass_gov.cli.change_view import print_change
    from mass_gov.documents.changes import change_document
    from mass_gov.documents.contents import read_contents
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        change = ledger.change(identifier(change_id))
        contents = read_contents(ledger, change)
        responses = ledger.responses(change_id=change.change_id)
    if as_json:
        emit(change_document(change, contents, responses, full_samples=samples))
    else:
        print_change(out(), change, contents, responses, full_samples=samples)


@app.command()
def export(
    change_id: ChangeArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the bundle goes; a file there is replaced.")
    ],
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Leave every content sealed: proofs, digests and decisions only.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write one change with everything that proves it into a zip that `verify --bundle` checks anywhere, offline.

    It holds what the keys at hand open, in plain: whoever has the file can read it, also after an erasure.
    """
    from mass_gov.evidence.files import whole_file
    from mass_gov.flows.bundle_export import export_change
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        change = ledger.change(identifier(change_id))
        exported = export_change(ledger, change, sealed=sealed)
        key = ledger.key_ring.at(change.index)
    with whole_file(output) as stream:
        stream.write(exported.archive)
    if as_json:
        emit(
            {
                "change_id": change.change_id,
                "file": str(output),
                "bytes": len(exported.archive),
                "events": exported.events,
                "artifacts": {"opened": exported.opened, "erased": exported.erased, "closed": exported.closed},
                "log": {"origin": exported.head.origin, "size": exported.head.size, "root": exported.head.root},
                "log_key": key.keyid,
            }
        )
        return
    out().print(
        f"{output}: {exported.events} events under the head of {exported.head.size}; {exported.opened} contents "
        f"opened, {exported.erased} erased, {exported.closed} sealed.",
        soft_wrap=True,
    )
    out().print(
        f"`mass-gov verify --bundle {output} --pubkey KEY` verifies it; the log's key has the fingerprint {key.keyid}.",
        soft_wrap=True,
    )
    if exported.opened:
        say("note: whoever has this file can read what it holds in plain; an erasure does not reach it.")


@app.command()
def rollback(
    change_id: ChangeArgument,
    reason: ReasonOption,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Also undo every later change that stands on it, newest first.")
    ] = False,
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Undo a change: the pointer moves back, or the answer is withdrawn; says what was served under what is undone."""
    from mass_gov.cli.rollback_view import print_rolled_back
    from mass_gov.documents.pointers import rolled_back_document
    from mass_gov.flows.rollback import rollback as roll_back
    from mass_gov.wiring import acting, open_ledger

    chosen, why = settings(principal=principal), clean_reason(reason)
    with open_ledger(chosen) as ledger:
        asked = ledger.change(identifier(change_id))
        done = roll_back(ledger, asked.change_id, acting(chosen, ledger, "rollback").actor, why, cascade=cascade)
        identity = asked.body.identity
        state = ledger.pointer(identity.tenant, identity.deployment).state
    if as_json:
        emit({"change_id": asked.change_id, "already": done.already} | rolled_back_document(done, state))
        return
    if done.already:
        say(f"note: {asked.change_id} was rolled back before; nothing changed.")
    print_rolled_back(done, f"{identity.tenant}/{identity.deployment}", state)


@app.command()
def rebase(
    change_id: ChangeArgument,
    reason: ReasonOption,
    principal: AsOption = None,
    model: ModelOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a stale change again: its pointer moved since it was made, and nobody can approve it any more.

    The same request adapts from where the pointer stands now and is gated again, as a new change; the old one is
    rejected in the same append. Whoever asked stays the requester.
    """
    from mass_gov.cli.pointer_runs import run_rebase

    run_rebase(settings(principal=principal, model=model), identifier(change_id), clean_reason(reason), as_json)
