"""`mass-gov verify` and `mass-gov log`: prove the log, print its head and its proofs, rebuild what derives from it.

No torch: whoever verifies needs the ledger's file and, better, the public key from elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mass_gov.cli.options import JsonFlag, settings
from mass_gov.cli.output import BAD, GOOD, emit, err, facts, grid, one_line, out, say, visible, write

if TYPE_CHECKING:
    from mass_gov.config import Settings
    from mass_gov.evidence.keystore import KeyStore
    from mass_gov.flows.audit_report import VerificationReport
    from mass_gov.ledger import Address

NAMED = 5
"""Things not checked that the last line names; the JSON report lists all."""
NO_WITNESS = "No independent witness has signed this head."
"""This release asks no witness; whoever holds the log key can show another log to somebody else."""

app = typer.Typer(help="The signed log: its head, proofs of its events, and its projections.", no_args_is_help=True)


def verify(
    pubkey: Annotated[
        Path | None,
        typer.Option("--pubkey", metavar="FILE", help="Public key from outside: a PEM or a verifier key in a file."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Recompute everything from the stored bytes, and name the first thing that is wrong.

    Needs no model and no torch. Without `--pubkey` the key store's log key is the trust root. Exit status 0 if all
    holds, 1 if anything is wrong, 6 if it cannot be checked (a newer mass-gov wrote it).
    """
    from mass_gov.cli.exits import DONE, NO, OUTAGE
    from mass_gov.evidence.trust import read_trust_root
    from mass_gov.flows.audit import verify as verify_ledger

    chosen = settings()
    root = read_trust_root(pubkey) if pubkey is not None else None
    where = _address(chosen)
    with err().status("verifying…") as status:
        report = verify_ledger(
            where,
            keys=_keys(chosen),
            public_key=root,
            checkpoints=chosen.checkpoint_folder,
            progress=lambda step, done, total: status.update(f"verifying {step}: {done}" + (f"/{total}" * (total > 0))),
        )
    if as_json:
        emit(report.document())
    else:
        _print(report)
    raise typer.Exit(NO if report.first_wrong else OUTAGE if report.cannot_check else DONE)


@app.command()
def checkpoint(as_json: JsonFlag = False) -> None:
    """Print the newest signed head of the log, a C2SP signed note."""
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        head = ledger.latest_checkpoint()
    note = head.note.decode("utf-8")
    if as_json:
        emit({"origin": head.origin, "size": head.size, "root": head.root, "note": note})
    else:
        write(note)


@app.command()
def prove(
    index: Annotated[int, typer.Argument(min=0, metavar="INDEX", help="Log index of the event.")],
    as_json: JsonFlag = False,
) -> None:
    """Print the proof that an event stands in the log, a C2SP tlog-proof that anybody can check offline."""
    from mass_gov.errors import NotFoundError
    from mass_gov.evidence.tlog_proof import encode_proof
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        head = ledger.latest_checkpoint()
        if index >= head.size:
            raise NotFoundError(f"there is no event {index}: the log has {head.size}, counted from 0.")
        entry = ledger.entry(index)
        proof = encode_proof(index, ledger.inclusion_proof(index, head.size), head.note).decode("utf-8")
    if as_json:
        emit({"index": index, "leaf_hash": entry.leaf_hash, "leaf": entry.leaf.decode("utf-8"), "proof": proof})
    else:
        write(proof)


@app.command()
def rebuild(as_json: JsonFlag = False) -> None:
    """Derive every projection (what lists and pointers are read from) from the log again."""
    from mass_gov.ledger import Ledger
    from mass_gov.wiring import open_keys

    chosen = settings()
    with Ledger.open(  # not as everybody else opens it: what they insist on is what this mends
        _address(chosen),
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


def _address(chosen: Settings) -> Address:
    from mass_gov.errors import NotFoundError
    from mass_gov.wiring import address, has_ledger, ledger_place

    if not has_ledger(chosen):
        raise NotFoundError(f"there is no ledger in {ledger_place(chosen)}. Set MASS_GOV_HOME to where it lies.")
    return address(chosen)


def _keys(chosen: Settings) -> KeyStore | None:
    from mass_gov.wiring import open_keys

    return open_keys(chosen) if chosen.key_folder.exists() else None


def _print(report: VerificationReport) -> None:
    console = out()
    table = grid("#", "step", "", "checked", "what was found")
    table.columns[4].overflow = "fold"
    for step in report.steps:
        note = "; ".join(f"{fault.where}: {fault.what}" for fault in step.faults[:2]) or step.note
        style = {"ok": GOOD, "wrong": BAD}.get(step.verdict, "dim")
        table.add_row(str(step.number), step.title, _word(step.verdict, style), str(step.checked), one_line(note))
    console.print(table)
    rows: dict[str, Any] = {
        "log": f"{report.origin or 'unknown'}, {report.size} events, root {report.root}",
        "log key": report.log_key or "unknown",
        "trust": report.trust,
    }
    console.print(facts(rows))
    for warning in report.warnings:
        say(f"note: {visible(warning)}")
    if report.first_wrong is not None:
        console.print(_word("The first thing that is wrong:", BAD), visible(str(report.first_wrong)))
    elif report.cannot_check is not None:
        console.print(_word("Cannot check:", BAD), visible(report.cannot_check))
    else:
        console.print(*_what_holds(report))


def _what_holds(report: VerificationReport) -> list[Any]:
    """The last line: a yes that says how far it goes."""
    if report.trusted_size is not None:
        return [
            _word(f"Trust ends at size {report.trusted_size}:", BAD),
            f"a key of this log was compromised. What was checked of the {report.size} events agrees with itself; "
            f"not believed, or not checked: {visible('; '.join(report.not_checked[:NAMED]))}.",
        ]
    if not report.not_checked:
        return [_word("Everything holds.", GOOD), NO_WITNESS]
    named, more = report.not_checked[:NAMED], len(report.not_checked) - NAMED
    what = "; ".join(named) + (f"; and {more} more (--json lists them)" if more > 0 else "")
    return [_word("What was checked holds;", GOOD), f"not checked: {visible(what)}.", NO_WITNESS]


def _word(text: str, style: str) -> Any:
    from rich.text import Text

    return Text(text, style=style)
