"""`mass-gov keys`: which key signs what and since when; hand over to a new one; revoke a former one. No torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mass_gov.cli.options import AsOption, JsonFlag, ReasonOption, clean_reason, settings
from mass_gov.cli.output import emit, err, grid, out, say, write
from mass_gov.cli.verification import WitnessesOption, witness_policy
from mass_gov.errors import InputError

if TYPE_CHECKING:
    from mass_gov.evidence.keyring import Tenure
    from mass_gov.evidence.witness_policy import WitnessPolicy
    from mass_gov.ledger import Ledger

app = typer.Typer(help="The keys that sign the log and the deltas: list, rotate, revoke, export.", no_args_is_help=True)
Purpose = Literal["log", "delta"]
KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="Key id, or at least the first 8 digits of it: `mass-gov keys list`.")
]


@app.command("list")
def list_keys(as_json: JsonFlag = False) -> None:
    """List every key that the log ever named: what it signs, where it is valid, and where it stands."""
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        documents = [_document(ledger, tenure) for tenure in ledger.key_ring]
        tenures = tuple(ledger.key_ring)
    if as_json:
        emit({"keys": documents})
        return
    table = grid("purpose", "key", "signs events", "stands")
    table.columns[1].no_wrap = True
    table.columns[3].overflow = "fold"
    for tenure in tenures:
        table.add_row(tenure.purpose, tenure.key.keyid[:16], _range(tenure), _standing(tenure))
    out().print(table)


@app.command()
def export(
    key: Annotated[
        str | None,
        typer.Argument(metavar="KEY", help="Key id, or its first digits (default: the log's first key)."),
    ] = None,
    pem: Annotated[bool, typer.Option("--pem", help="Print PEM instead of a C2SP verifier key.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Print a public key, for `verify --pubkey` and for other people's programs.

    A log key is printed as a C2SP verifier key, which names the log too; a delta key as PEM. Keep it elsewhere.
    """
    from mass_gov.flows.keys import find_key
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        tenure = ledger.key_ring.tenure_at(0) if key is None else find_key(ledger, key)
        document = _document(ledger, tenure)
    if as_json:
        emit(document)
    elif pem or document["verifier_key"] is None:
        write(tenure.key.pem.decode("ascii"))
    else:
        write(f"{document['verifier_key']}\n")


@app.command()
def rotate(
    purpose: Annotated[Purpose, typer.Option("--purpose", help="Which key: the log's, or that of the deltas.")],
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Hand over to a new key and destroy the old private key. Both sign the event that says so.

    A public key that an auditor has pinned stays good. Back the key folder up afterwards: an older back-up of it cannot
    continue the log.
    """
    from mass_gov.flows.keys import rotate as rotate_key
    from mass_gov.wiring import acting, open_ledger

    chosen = settings(principal=principal)
    with open_ledger(chosen) as ledger:
        done = rotate_key(ledger, purpose, acting(chosen, ledger, "keys").actor)
        document = _document(ledger, ledger.key_ring.tenure_at(done.index + 1, purpose))
    if as_json:
        emit({"rotated_index": done.index, "old_key": done.old.keyid, "new_key": document})
        return
    out().print(
        f"The {purpose} key {done.old.keyid[:16]} handed over to {done.new.keyid[:16]} (event {done.index}).",
        soft_wrap=True,
    )
    say("note: back the key folder up now; a back-up from before cannot continue this log.")


@app.command()
def revoke(
    key: KeyArgument,
    reason: ReasonOption,
    compromised: Annotated[
        bool,
        typer.Option("--compromised", help="Somebody else may have had it: believe it up to the trusted size only."),
    ] = False,
    trusted_size: Annotated[
        int | None,
        typer.Option(
            "--trusted-size",
            min=0,
            metavar="N",
            help="With --compromised: size of the newest head that is known to be honest (default: the newest that a "
            "quorum of --witnesses cosigned, else 0).",
        ),
    ] = None,
    witnesses: WitnessesOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Revoke a key that is not in use any more; rotate it first.

    After a compromise trust in what the key signed ends at the trusted size, for good, and `verify` says so.
    """
    from mass_gov.flows.keys import revoke as revoke_key
    from mass_gov.wiring import acting, open_ledger

    chosen, why = settings(principal=principal, witnesses=witnesses), clean_reason(reason)
    if trusted_size is not None and not compromised:
        raise InputError("--trusted-size says how far a stolen key is believed. Give it with --compromised.")
    with open_ledger(chosen) as ledger:
        if compromised and trusted_size is None:
            trusted_size = _witnessed(ledger, witness_policy(chosen))
        what = f"believed up to size {trusted_size} only" if compromised else "revoked, and believed as before"
        _ask(yes, as_json, f"The key {key} will be {what}, for good. Go on?")
        tenure = revoke_key(
            ledger, key, acting(chosen, ledger, "keys").actor, why, compromised=compromised, trusted_size=trusted_size
        )
        document = _document(ledger, tenure)
    if as_json:
        emit(document)
        return
    out().print(f"The {tenure.purpose} key {tenure.key.keyid[:16]} is {_standing(tenure)}.", soft_wrap=True)


def _witnessed(ledger: Ledger, policy: WitnessPolicy | None) -> int:
    """How far a quorum of witnesses vouches for the log."""
    import time

    from mass_gov.flows.keys import witnessed_size

    return witnessed_size(ledger, policy, int(time.time())) if policy is not None else 0


def _ask(yes: bool, as_json: bool, question: str) -> None:
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise InputError("a decision about keys cannot be undone: say --yes.")
    err().print(question)
    if not typer.confirm("Yes?", err=True):
        raise InputError("nothing was changed.")


def _range(tenure: Tenure) -> str:
    return f"{tenure.first} to {tenure.last}" if tenure.last is not None else f"from {tenure.first}"


def _standing(tenure: Tenure) -> str:
    if tenure.last is None:
        return "in use"
    if tenure.revoked is None:
        return "handed over"
    if not tenure.revoked.compromised:
        return f"revoked by event {tenure.revoked.index}"
    return f"compromised (event {tenure.revoked.index}): believed up to size {tenure.revoked.trusted_size}"


def _document(ledger: Ledger, tenure: Tenure) -> dict[str, object]:
    from mass_gov.evidence.checkpoint import vkey

    revoked = tenure.revoked
    return {
        "purpose": tenure.purpose,
        "key": tenure.key.keyid,
        "algorithm": tenure.key.algorithm,
        "verifier_key": vkey(ledger.origin, tenure.key) if tenure.purpose == "log" else None,
        "pem": tenure.key.pem.decode("ascii"),
        "first_index": tenure.first,
        "last_index": tenure.last,
        "in_use": tenure.last is None,
        "revoked_index": revoked.index if revoked else None,
        "compromised": revoked.compromised if revoked else None,
        "trusted_size": revoked.trusted_size if revoked else None,
    }
