"""`mass-gov init` and `mass-gov doctor`: make a ledger, and find out what is wrong with an installation."""

from __future__ import annotations

from typing import Annotated

import typer

from mass_gov.cli.options import JsonFlag, ModelOption, settings
from mass_gov.cli.output import emit, facts, grid, out, panel, styled, visible


def init(
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            metavar="NAME|FILE",
            help="Policy to start with: solo (default), default, strict, research, or a file.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make the ledger, its keys and a policy in force. `solve` does the same on first use, with policy solo.

    Prints the log's verifier key: keep it outside this machine, and give it to `verify --pubkey` later.
    """
    from mass_gov.evidence.checkpoint import vkey
    from mass_gov.wiring import has_ledger, initialise

    chosen = settings()
    existed = has_ledger(chosen)
    ledger, in_force = initialise(chosen, policy)
    with ledger:
        head, key = ledger.latest_checkpoint(), vkey(ledger.origin, ledger.log_key)
    if as_json:
        emit(
            {
                "home": str(chosen.home),
                "created": not existed,
                "policy": {"name": in_force.label, "digest": in_force.digest},
                "log": {"origin": head.origin, "size": head.size, "root": head.root},
                "verifier_key": key,
            }
        )
        return
    rows = {
        "home": visible(str(chosen.home)),
        "keys": visible(str(chosen.key_folder)),
        "policy": in_force.label,
        "log": f"{head.origin}, {head.size} events",
    }
    out().print(panel("this ledger is there already" if existed else "a new ledger", facts(dict(rows))))
    # On a line of its own, unwrapped and outside the panel: it is there to be copied.
    out().print(f"The log's verifier key; keep it elsewhere, for `mass-gov verify --pubkey`:\n{key}", soft_wrap=True)
    out().print('Next: mass-gov solve "...", or mass-gov tasks sample.', soft_wrap=True)


def doctor(model: ModelOption = None, as_json: JsonFlag = False) -> None:
    """Check home, ledger, keys, policy, model and learner, and say for each problem what to do.

    Exit status 0 without a problem, 6 when something is out of reach (home, disk, ledger, keys), 1 for other problems.
    """
    from mass_gov.cli.examination import examine

    findings = examine(settings(model=model))
    status = max((finding.status for finding in findings), default=0)
    if as_json:
        emit({"ok": status == 0, "checks": [finding.document() for finding in findings]})
    else:
        table = grid("check", "", "what was found")
        table.columns[2].overflow = "fold"
        for finding in findings:
            table.add_row(finding.name, styled(finding.verdict), visible(finding.detail))
        out().print(table)
    raise typer.Exit(status)
