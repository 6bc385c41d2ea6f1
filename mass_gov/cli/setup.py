"""`mass-gov init` and `mass-gov doctor`: make a ledger, and find out what is wrong with an installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mass_gov.cli import exits
from mass_gov.cli.environment import print_comparison, saved, show
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


def doctor(
    model: ModelOption = None,
    compare: Annotated[
        Path | None,
        typer.Option("--compare", metavar="FILE", help="Compare the numeric environment with a saved `doctor --json`."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check home, ledger, keys, policy, model and learner, and say for each problem what to do.

    Exit status 0 without a problem, 6 when something is out of reach (home, disk, ledger, keys), 1 for other problems.
    With --compare: 0 where nothing differs, 3 where something does.
    """
    from mass_gov.cli.examination import examine

    if compare is not None:
        raise typer.Exit(_compare(compare, model, as_json))
    findings = examine(settings(model=model))
    status = max((finding.status for finding in findings), default=0)
    environment = next((finding.environment for finding in findings if finding.environment is not None), None)
    if as_json:
        checks = [finding.document() for finding in findings]
        shown = environment.document() if environment is not None else None
        emit({"ok": status == 0, "checks": checks, "environment": shown})
    else:
        table = grid("check", "", "what was found")
        table.columns[2].overflow = "fold"
        for finding in findings:
            table.add_row(finding.name, styled(finding.verdict), visible(finding.detail))
        out().print(table)
        if environment is not None:
            show(environment)
    raise typer.Exit(status)


def _compare(path: Path, model: Path | None, as_json: bool) -> int:
    from mass_gov.cli.examination import environment_of
    from mass_gov.wiring import open_model

    there = saved(path)
    here = environment_of(open_model(settings(model=model)))
    return exits.DONE if print_comparison(there, here, as_json) else exits.OTHER_ENVIRONMENT
