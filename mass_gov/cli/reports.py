"""`mass-gov report`: which events of the log answer which clauses, and what is missing. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mass_gov.cli.options import AsOption, ClausesOption, JsonFlag, moment, settings
from mass_gov.cli.output import emit, err, say, visible, write
from mass_gov.cli.verification import WitnessesOption, witness_policy
from mass_gov.config_data import DEFAULT_CLAUSES

if TYPE_CHECKING:
    from mass_gov.config import Settings
    from mass_gov.flows.reports import Report
    from mass_gov.ledger import Ledger

SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Events from this time on: a date, or a time with its zone."),
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Events before this time.")]


def report(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="`article-12` and so on, `incidents`, `retention`, or `all`.")
    ],
    since: SinceOption = None,
    until: UntilOption = None,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only this tenant's events.")] = None,
    deployment: Annotated[
        str | None, typer.Option("--deployment", metavar="NAME", help="Only this deployment's events.")
    ] = None,
    clauses: ClausesOption = DEFAULT_CLAUSES,
    form: Annotated[
        Literal["md", "html", "json"], typer.Option("--format", help="Markdown, one HTML file, or the JSON document.")
    ] = "md",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there instead of to stdout.")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=1, metavar="N", help="Read the first N events (default: all).")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Judge deadlines as of this time (default: now).")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Verify the ledger first, and say what was found.")] = False,
    witnesses: WitnessesOption = None,
    unrecorded: Annotated[
        bool, typer.Option("--unrecorded", help="Do not record that it was made: of a copy, or without keys.")
    ] = False,
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Report by clauses of a regulation: the records that answer each, what is missing, how to check it.

    Engineering guidance and no legal advice. The report names the signed head that it was made at, and is itself
    recorded in the log unless `--unrecorded`. Exit status 0 also where there are gaps.
    """
    from mass_gov.flows.clause_files import find_clauses
    from mass_gov.flows.reports import Asked
    from mass_gov.wiring import open_ledger, read_ledger

    chosen, mapping = settings(principal=principal, witnesses=witnesses), find_clauses(clauses)
    asked = Asked(
        name=name,
        since=moment(since, "--since") if since is not None else None,
        until=moment(until, "--until") if until is not None else None,
        tenant=tenant,
        deployment=deployment,
        size=size,
        at=moment(at, "--at") if at is not None else None,
    )
    with read_ledger(chosen) if unrecorded else open_ledger(chosen) as ledger:
        made = _made(ledger, chosen, mapping, asked, verify)
        # Before it is handed out: no report leaves whose event could still fail to be written.
        index = None if unrecorded else _recorded(ledger, chosen, made, tenant, deployment)
    _deliver(made, "json" if as_json else form, output, index)


def _made(ledger: Ledger, chosen: Settings, mapping: Any, asked: Any, verify: bool) -> Report:
    from mass_gov.flows.audit import verify as verify_ledger
    from mass_gov.flows.reports import make_report

    with err().status("reading…") as status:
        verified = verify_ledger(ledger, witnesses=witness_policy(chosen)) if verify else None
        return make_report(
            ledger,
            mapping,
            asked,
            retention_days=chosen.retention_days,
            verified=verified,
            progress=lambda done, total: status.update(f"reading events: {done}/{total}") if done % 256 == 0 else None,
        )


def _recorded(ledger: Ledger, chosen: Settings, made: Report, tenant: str | None, deployment: str | None) -> int:
    from mass_gov.flows.reports import record_report
    from mass_gov.wiring import acting

    place = (tenant or chosen.tenant, deployment or chosen.deployment)
    return record_report(ledger, acting(chosen, ledger, "export").actor, made, place).index


def _deliver(made: Report, form: str, output: Path | None, index: int | None) -> None:
    import json

    from mass_gov.documents.report_pages import html, markdown
    from mass_gov.evidence.files import whole_file

    whole = {"report": made.document, "content": made.content, "recorded_index": index}
    if form == "json" and output is None:
        emit(whole)
        return
    text = json.dumps(whole, indent=2) + "\n" if form == "json" else ""
    text = text or (html if form == "html" else markdown)(made.document, made.content)
    if output is None:
        write(visible(text))
    else:
        with whole_file(output) as stream:
            stream.write(text.encode("utf-8"))
        recorded = f"; recorded as event {index}" if index is not None else ""
        say(f"{made.gaps} gap(s); the report stands in {visible(str(output))}{recorded}.")
