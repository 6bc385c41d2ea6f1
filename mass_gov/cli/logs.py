"""`mass-gov log`: its signed head and proofs, the log as a file, cosignatures kept, and what derives from it rebuilt.

No torch, and no key but to rebuild.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mass_gov.cli.options import JsonFlag, settings
from mass_gov.cli.output import emit, err, out, visible, write
from mass_gov.cli.verification import WitnessesOption, witness_policy
from mass_gov.errors import InputError, NotFoundError

MAX_ANSWER_BYTES = 256 * 1024
"""A witness's answer, or a cosigned note: 64 signature lines take less."""

app = typer.Typer(help="The signed log: its head, proofs, export, cosignatures and projections.", no_args_is_help=True)
SizeOption = Annotated[
    int | None, typer.Option("--size", min=0, metavar="N", help="The signed head of N events (default: the newest).")
]


@app.command()
def checkpoint(size: SizeOption = None, as_json: JsonFlag = False) -> None:
    """Print a signed head of the log with the cosignatures that are kept, a C2SP signed note."""
    from mass_gov.flows.heads import cosigned_head
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        head = cosigned_head(ledger, size)
    note = head.note.decode("utf-8")
    if as_json:
        emit({"origin": head.origin, "size": head.size, "root": head.root, "note": note})
    else:
        write(note)


@app.command()
def prove(
    index: Annotated[
        int | None, typer.Argument(min=0, metavar="[INDEX]", help="Log index of the event that stands in the log.")
    ] = None,
    start: Annotated[
        int | None,
        typer.Option("--from", min=0, metavar="N", help="Prove instead that the log of N events only grew since."),
    ] = None,
    size: SizeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Print the proof that an event stands in the log, or that the log only grew, for anybody to check offline.

    With INDEX a C2SP tlog-proof. With `--from` the request that a C2SP witness takes: the consistency proof, and the
    signed head that it leads to.
    """
    if (index is None) == (start is None):
        raise InputError("Give one of them: INDEX of an event, or --from N.")
    if start is not None:
        _prove_growth(start, size, as_json)
    elif index is not None:
        _prove_event(index, size, as_json)


def _prove_event(index: int, size: int | None, as_json: bool) -> None:
    from mass_gov.flows.heads import prove_event
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        proof = prove_event(ledger, index, size).decode("utf-8")
        entry = ledger.entry(index)
    if as_json:
        emit({"index": index, "leaf_hash": entry.leaf_hash, "leaf": entry.leaf.decode("utf-8"), "proof": proof})
    else:
        write(proof)


def _prove_growth(start: int, size: int | None, as_json: bool) -> None:
    from mass_gov.flows.heads import cosigned_head, prove_growth
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        head = cosigned_head(ledger, size)
        proof = prove_growth(ledger, start, head.size).decode("utf-8")
        old_root = ledger.root_at(start).hex()
    if as_json:
        emit({"from": start, "from_root": old_root, "size": head.size, "root": head.root, "proof": proof})
    else:
        write(proof)


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write; replaced whole.")],
    artifacts: Annotated[
        bool, typer.Option("--artifacts", help="With the sealed artifacts; they stay sealed, and make the file large.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write the whole log to one file, NDJSON: for auditors, back-ups and `verify --export`."""
    from mass_gov.flows.log_export import export_log
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger, err().status("exporting…") as status:
        closing = export_log(
            ledger,
            output,
            artifacts=artifacts,
            progress=lambda done, total: status.update(f"exporting events: {done}/{total}"),
        )
    if as_json:
        emit({"file": str(output), "origin": closing.origin, "events": closing.count, "root": closing.root})
    else:
        out().print(visible(f"{closing.count} events of {closing.origin} stand in {output}."))


@app.command()
def cosign(
    answer: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="What the witness answered; `-` or nothing reads it from stdin.")
    ] = Path("-"),
    size: SizeOption = None,
    witnesses: WitnessesOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Verify the cosignature lines that a witness answered with, and keep them outside the database.

    Only witnesses that your policy names are taken, over heads that this log signed.
    """
    from mass_gov.flows.heads import keep_cosignatures
    from mass_gov.wiring import read_ledger

    chosen = settings(witnesses=witnesses)
    policy = witness_policy(chosen)
    if policy is None:
        raise InputError("Whose cosignatures count is yours to say. Give --witnesses FILE, or set MASS_GOV_WITNESSES.")
    with read_ledger(chosen) as ledger:
        kept = keep_cosignatures(ledger, read_input(answer), policy, size)
    by = [{"witness": c.witness.name, "time": c.time} for c in kept.cosignatures]
    if as_json:
        emit({"size": kept.head.size, "root": kept.head.root, "cosignatures": by})
    else:
        names = ", ".join(str(one["witness"]) for one in by)
        out().print(visible(f"The head of {kept.head.size} events is cosigned by {names}."))


@app.command()
def rebuild(as_json: JsonFlag = False) -> None:
    """Derive every projection (what lists and pointers are read from) from the log again."""
    from mass_gov.ledger import Ledger
    from mass_gov.wiring import address, has_ledger, ledger_place, open_keys

    chosen = settings()
    if not has_ledger(chosen):
        raise NotFoundError(f"there is no ledger in {ledger_place(chosen)}. Set MASS_GOV_HOME to where it lies.")
    with Ledger.open(  # not as everybody else opens it: what they insist on is what this mends
        address(chosen),
        keys=open_keys(chosen),
        checkpoints=chosen.checkpoint_folder,
        timeout=chosen.busy_timeout,
        rebuild_first=True,
    ) as ledger:
        events = ledger.size
    if as_json:
        emit({"events": events})
    else:
        out().print(f"The projections were derived again from {events} events.")


def read_input(path: Path) -> bytes:
    """A small file, or stdin for `-`.

    Raises:
        InputError: it cannot be read, or is too long for what it should be.
    """
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(MAX_ANSWER_BYTES + 1)
        else:
            with path.open("rb") as stream:
                data = stream.read(MAX_ANSWER_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    if len(data) > MAX_ANSWER_BYTES:
        raise InputError(f"{path} is too long for a signed note. Check the path.")
    return data
