"""`mass-gov witness`: vouch for somebody else's log, on a machine of one's own. No database and no torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mass_gov.cli.logs import read_input
from mass_gov.cli.options import JsonFlag, settings
from mass_gov.cli.output import emit, facts, grid, out, visible, write

if TYPE_CHECKING:
    from mass_gov.flows.witness import Witness

app = typer.Typer(help="An independent witness: remembers heads of logs, and cosigns what extends them.")
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", metavar="FOLDER", help="Where this witness lives (default: MASS_GOV_WITNESS_HOME)."),
]


@app.command()
def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The witness's name, a schema-less address: witness.example.org/w1.")
    ],
    folder: FolderOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a witness with a key of its own, and print the key that verifiers put into their policy."""
    from mass_gov.flows.witness import Witness

    chosen = settings(witness_home=folder)
    made = Witness.create(chosen.witness_folder, name, _passphrase())
    if as_json:
        emit({"name": made.name, "verifier_key": made.key.vkey, "folder": str(made.folder)})
    else:
        out().print(f"The witness's verifier key, for the policy of those who verify:\n{made.key.vkey}", soft_wrap=True)


@app.command()
def follow(
    key: Annotated[Path, typer.Argument(metavar="FILE", help="The log's verifier key, as `mass-gov init` prints it.")],
    folder: FolderOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Believe the heads of a log from now on. After a rotation of its key, give the new one as well."""
    from mass_gov.errors import InputError
    from mass_gov.evidence.trust import read_trust_root

    root = read_trust_root(key)
    if root.origin is None:
        raise InputError("A PEM names no log. Give the verifier key, one line: <origin>+<id>+<key>.")
    log = _open(folder).follow(root.origin, root.key)
    if as_json:
        emit({"origin": log.origin, "keys": len(log.keys), "size": log.size})
    else:
        out().print(visible(f"{log.origin} is followed, from size {log.size} on."))


@app.command()
def cosign(
    request: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="What `log prove --from` printed; `-` or nothing reads stdin.")
    ] = Path("-"),
    folder: FolderOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Check that a head extends what this witness saw before, remember it, and print the cosignature line.

    A fork, a head of another key and a log that shrank are refused, and nothing is signed.
    """
    line = _open(folder).add_checkpoint(read_input(request), int(time.time()))
    if as_json:
        emit({"cosignature": line})
    else:
        write(line)


@app.command()
def show(folder: FolderOption = None, as_json: JsonFlag = False) -> None:
    """Show this witness's key, and the logs that it follows with the size that it cosigned last."""
    witness = _open(folder)
    logs = witness.followed()
    if as_json:
        known = [{"origin": log.origin, "size": log.size, "root": log.root.hex()} for log in logs]
        emit({"name": witness.name, "verifier_key": witness.key.vkey, "logs": known})
        return
    out().print(facts({"name": visible(witness.name), "verifier key": witness.key.vkey}))
    table = grid("log", "size", "root")
    for log in logs:
        table.add_row(visible(log.origin), str(log.size), log.root.hex()[:16])
    out().print(table)


def _open(folder: Path | None) -> Witness:
    from mass_gov.flows.witness import Witness

    return Witness.open(settings(witness_home=folder).witness_folder, _passphrase())


def _passphrase() -> str | None:
    secret = settings().passphrase
    return secret.get_secret_value() if secret is not None else None
