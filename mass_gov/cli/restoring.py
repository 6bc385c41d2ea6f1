"""`mass-gov log backup|import|succeed|discard`: copy a ledger, bring an older one up to date, or end it and begin anew.

No torch. These stand under `log`, and in a module of their own because all else there only reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mass_gov.cli.options import JsonFlag, settings
from mass_gov.cli.output import emit, err, out
from mass_gov.errors import InputError

if TYPE_CHECKING:
    from mass_gov.flows.succession import Succeeded

OutputOption = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The copy; nothing is overwritten.")]
ExportArgument = Annotated[
    Path, typer.Argument(metavar="EXPORT", help="An export of the whole log, made with `log export --artifacts`.")
]
WithoutOption = Annotated[
    bool,
    typer.Option("--without-artifacts", help="Take events whose sealed artifacts did not come along: they stay lost."),
]
SealedArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A sealed log, as `log succeed` named it.")]
DiscardOption = Annotated[bool, typer.Option("--yes", help="Remove it for good.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Seal the log for good.")]


def backup(output: OutputOption, as_json: JsonFlag = False) -> None:
    """Copy the embedded ledger as it stands at one moment, while others may go on writing.

    Keys and checkpoints are no part of the copy and do not belong beside it: a thief of both could read everything, and
    a careless restore of both could forget an erasure.
    """
    from mass_gov.flows.restore import back_up
    from mass_gov.wiring import address, ledger_place

    where = address(settings())
    if where.path is None:
        raise InputError(
            f"the ledger is {ledger_place(settings())}: back it up with pg_dump or point-in-time recovery "
            "(docs/how-to/back-up-and-restore.md)."
        )
    back_up(where.path, output)
    size = output.stat().st_size
    if as_json:
        emit({"file": str(output), "bytes": size})
    else:
        out().print(f"{output} holds the ledger as it stood ({size:,} bytes). Keys and checkpoints are not in it.")


def import_log(export: ExportArgument, without_artifacts: WithoutOption = False, as_json: JsonFlag = False) -> None:
    """Bring a restored database up to its checkpoints outside: replay the events that it lacks, all or none.

    Every leaf is verified under the log's keys, and in the end the log holds every checkpoint outside.
    """
    from mass_gov.flows.restore import bring_up_to_date
    from mass_gov.wiring import address, open_keys

    chosen = settings()
    if not export.is_file():
        raise InputError(f"there is no file {export}. Name an export: `mass-gov log export --artifacts -o FILE`.")
    with err().status("replaying…"):
        done = bring_up_to_date(
            address(chosen),
            open_keys(chosen),
            chosen.checkpoint_folder,
            export,
            without_artifacts=without_artifacts,
            timeout=chosen.busy_timeout,
        )
    if as_json:
        emit({"before": done.before, "after": done.after})
    else:
        out().print(f"The log had {done.before} events and has {done.after}, up to every checkpoint outside.")


def succeed(yes: YesOption = False, as_json: JsonFlag = False) -> None:
    """Seal the log at its last signed head, and begin a new one whose first event names that head.

    For a log whose missing events cannot be brought back. The old database and checkpoints are kept, read-only. Stop
    every other process first.
    """
    from mass_gov.flows.succession import succeed as succeed_log
    from mass_gov.wiring import address, open_keys, owner_address

    chosen = settings()
    if not yes:
        raise InputError("a sealed log is never continued: stop every other process, and say --yes.")
    done = succeed_log(address(chosen), open_keys(chosen), chosen.checkpoint_folder, owner=owner_address(chosen))
    if as_json:
        emit(_document(done))
        return
    console = out()
    console.print(f"{done.predecessor.origin} is sealed at {done.predecessor.size} events.", soft_wrap=True)
    if done.sealed_file is not None:
        console.print(f"Its database is kept as {done.sealed_file}.", soft_wrap=True)
    console.print(f"{done.origin} succeeds it. Run `mass-gov init` to put a policy in force.", soft_wrap=True)


def discard(sealed: SealedArgument, yes: DiscardOption = False, as_json: JsonFlag = False) -> None:
    """Remove the file of a sealed log whose retention is over. No other events are ever dropped."""
    from mass_gov.flows.retention import discard as discard_log
    from mass_gov.wiring import now

    chosen = settings()
    if not yes:
        raise InputError("what is removed cannot be brought back: say --yes.")
    until = discard_log(sealed, chosen.retention_days, now())
    if as_json:
        emit({"file": str(sealed), "kept_until": until.isoformat()})
    else:
        out().print(f"{sealed} is removed; it had to be kept until {until:%Y-%m-%d}.", soft_wrap=True)


def _document(done: Succeeded) -> dict[str, object]:
    return {
        "origin": done.origin,
        "predecessor": done.predecessor.document(),
        "sealed_file": str(done.sealed_file) if done.sealed_file is not None else None,
    }
