"""`mass-gov policy`: check a policy file, and show what a policy says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mass_gov.cli.calibration import calibrate
from mass_gov.cli.options import JsonFlag, settings
from mass_gov.cli.output import emit, facts, grid, number, one_line, out, panel

if TYPE_CHECKING:
    from mass_gov.policy import Policy

app = typer.Typer(help="Check a policy file, and show what a policy says.", no_args_is_help=True)


app.command()(calibrate)


@app.command()
def check(
    policy: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A policy file, or the name of a shipped policy.")],
    as_json: JsonFlag = False,
) -> None:
    """Validate a policy file: every key known, every limit a finite number of the right type.

    Exit status 0 if it validates, 2 with the line and the remedy if it does not. Nothing is activated.
    """
    from mass_gov.records.change import SCOPES
    from mass_gov.wiring import find_policy, suite_bytes

    found = find_policy(policy)
    for scope in SCOPES:
        suite_bytes(found.document.suite_for(scope))
    if as_json:
        emit({"valid": True, "policy": found.label, "digest": found.digest})
    else:
        out().print(f"{found.label} is a valid policy.\ndigest {found.digest}", soft_wrap=True)


@app.command()
def show(
    policy: Annotated[
        str | None, typer.Argument(metavar="FILE|NAME", help="A file or a shipped policy (default: the one in force).")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a policy: its envelope, its gates with their limits, and who has to approve."""
    found, in_force = _chosen(policy)
    document: dict[str, Any] = found.document.model_dump(mode="json", by_alias=True)
    if as_json:
        emit({"policy": found.label, "digest": found.digest, "in_force": in_force, "document": document})
        return
    console = out()
    console.print(panel(f"policy {found.label}", _summary(found, in_force)))
    console.print(_gates(document["gates"]))


def _chosen(name: str | None) -> tuple[Policy, bool | None]:
    """The policy and whether it is known to be in force (None: not looked up)."""
    from mass_gov.errors import NotFoundError
    from mass_gov.flows.initialise import policy_in_force
    from mass_gov.wiring import find_policy, read_ledger

    if name is not None:
        return find_policy(name), None
    with read_ledger(settings()) as ledger:
        current = policy_in_force(ledger)
    if current is None:
        raise NotFoundError("no policy is in force yet. Run `mass-gov init`, or name a policy: solo, default.")
    return current, True


def _summary(policy: Policy, in_force: bool | None) -> Any:
    document = policy.document
    approvals = document.approvals
    own = "counts, and is marked" if approvals.self_approval else "does not count"
    rows = {
        "says": one_line(document.description),
        "in force": {True: "yes", False: "no", None: "not looked up (a file or a name was given)"}[in_force],
        "digest": policy.digest,
        "suites": f"{document.suites.instance} for one answer, {document.suites.deployment} for a pointer",
        "applies by itself": f"scope {', '.join(document.envelope.scopes) or 'none'}; step norm up to "
        f"{number(document.envelope.step_norm)}, cumulative norm up to {number(document.envelope.cumulative_norm)}",
        "approvals": f"{approvals.required}; the requester's own approval {own}",
        "while pending": f"serves the {document.while_pending} answer"
        if document.while_pending != "none"
        else "serves no answer",
    }
    return facts(rows)


def _gates(gates: dict[str, Any]) -> Any:
    table = grid("gate", "limit", "if it fails")
    for name, gate in gates.items():
        if gate == "unused":
            table.add_row(name, "unused", "-")
            continue
        limits = [f"{key} {number(value)}" for key, value in gate.items() if key != "on_fail"]
        table.add_row(name, ", ".join(limits) or "-", gate["on_fail"])
    return table
