"""`mass-gov verify`: prove a ledger or an export, and say how far the proof goes.

No torch: whoever verifies needs the ledger or a file and, better, the public key and the witnesses from elsewhere.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mass_gov.cli.options import JsonFlag, settings
from mass_gov.cli.output import BAD, GOOD, emit, err, facts, grid, one_line, out, say, visible
from mass_gov.errors import InputError

if TYPE_CHECKING:
    from mass_gov.config import Settings
    from mass_gov.evidence.keystore import KeyStore
    from mass_gov.evidence.witness_policy import WitnessPolicy
    from mass_gov.flows.audit_report import Progress, VerificationReport, Witnessed
    from mass_gov.flows.bundle_verify import BundleReport

NAMED = 5
"""Things not checked that the last line names; the JSON report lists all."""
_SPAN = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

WitnessesOption = Annotated[
    Path | None,
    typer.Option(
        "--witnesses", metavar="FILE", help="Your witness policy, C2SP tlog-policy (default: MASS_GOV_WITNESSES)."
    ),
]


def verify(
    pubkey: Annotated[
        Path | None,
        typer.Option("--pubkey", metavar="FILE", help="Public key from outside: a PEM or a verifier key in a file."),
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Verify this export instead of the ledger.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", metavar="FILE", help="Verify this bundle of one change; needs no ledger at all."),
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option("--fingerprint", metavar="KEYID", help="With --bundle: the log key's keyid, instead of --pubkey."),
    ] = None,
    witnesses: WitnessesOption = None,
    max_age: Annotated[
        str | None,
        typer.Option("--max-age", metavar="SPAN", help="Refuse a head that a quorum saw longer ago: 90m, 24h, 7d."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", metavar="FILE", help="An export kept from before: names the first event that differs."
        ),
    ] = None,
    only: Annotated[
        Literal["tree", "signatures"] | None,
        typer.Option(
            "--only", help="A part, fast: hashes, order and tree; or every signature too. Says what it left out."
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, metavar="N", help="With --only signatures (default: all cores).")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Recompute everything from the stored bytes, and name the first thing that is wrong.

    Needs no model and no torch. Without `--pubkey` the key store's log key is the trust root. Exit status 0 if all
    holds, 1 if anything is wrong, 6 if it cannot be checked (a newer mass-gov wrote it).
    """
    from mass_gov.cli.exits import DONE, NO, OUTAGE
    from mass_gov.evidence.trust import read_trust_root

    chosen = settings(witnesses=witnesses)
    trusted: dict[str, Any] = {
        "keys": _keys(chosen),
        "public_key": read_trust_root(pubkey) if pubkey is not None else None,
        "witnesses": witness_policy(chosen),
        "max_age": _seconds(max_age, chosen),
    }
    if bundle is not None and any((export, against, only)):
        raise InputError("--bundle verifies one file as a whole. Give it without --export, --against and --only.")
    if fingerprint is not None and bundle is None:
        raise InputError("--fingerprint pins the key of a bundle. Give --pubkey for a ledger or an export.")
    if export is not None and against is not None:
        raise InputError("--against compares a ledger with an older export. Give it without --export.")
    if export is not None and only is not None:
        raise InputError("--only takes a part of a ledger's verification. An export is verified whole; leave it out.")
    part = {"against": against, "only": only, "processes": processes or os.cpu_count() or 1}
    with err().status("verifying…") as status:

        def progress(step: str, done: int, total: int) -> None:
            status.update(f"verifying {step}: {done}" + (f"/{total}" * (total > 0)))

        if bundle is not None:
            report: VerificationReport = _bundle(bundle, fingerprint, trusted)
        elif export is not None:
            report = _export(export, chosen, trusted, progress)
        else:
            report = _ledger(chosen, trusted | part, progress)
    if as_json:
        emit(report.document())
    else:
        _print(report)
    raise typer.Exit(NO if report.first_wrong else OUTAGE if report.cannot_check else DONE)


def witness_policy(chosen: Settings) -> WitnessPolicy | None:
    """The verifier's witness policy, where one was named."""
    from mass_gov.evidence.witness_policy import read_witness_policy

    return read_witness_policy(chosen.witnesses) if chosen.witnesses is not None else None


def _ledger(chosen: Settings, asked: dict[str, Any], progress: Progress) -> VerificationReport:
    from mass_gov.errors import NotFoundError
    from mass_gov.flows.audit import verify as verify_ledger
    from mass_gov.wiring import address, has_ledger, ledger_place

    if not has_ledger(chosen):
        raise NotFoundError(f"there is no ledger in {ledger_place(chosen)}. Set MASS_GOV_HOME to where it lies.")
    return verify_ledger(address(chosen), checkpoints=chosen.checkpoint_folder, progress=progress, **asked)


def _export(path: Path, chosen: Settings, trusted: dict[str, Any], progress: Progress) -> VerificationReport:
    from mass_gov.flows.export_audit import verify_export

    # Only a folder that was named: the one of a ledger that happens to live here says nothing about this file.
    return verify_export(path, checkpoints=chosen.checkpoints, progress=progress, **trusted)


def _bundle(path: Path, fingerprint: str | None, trusted: dict[str, Any]) -> BundleReport:
    from mass_gov.evidence.bundle import read_file
    from mass_gov.flows.bundle_verify import verify_bundle

    asked = {name: trusted[name] for name in ("public_key", "witnesses", "max_age")}
    return verify_bundle(read_file(path), fingerprint=fingerprint, **asked)  # no key that happens to lie here counts


def _keys(chosen: Settings) -> KeyStore | None:
    from mass_gov.wiring import open_keys

    return open_keys(chosen) if chosen.key_folder.exists() else None


def _seconds(text: str | None, chosen: Settings) -> int | None:
    if text is None:
        return None
    match = _SPAN.fullmatch(text)
    if match is None:
        raise InputError(f"{text[:20]!r} is no span of time. Give a number and s, m, h or d: --max-age 24h.")
    if chosen.witnesses is None:
        raise InputError("--max-age needs witnesses: only their clocks give a head its age. Give --witnesses FILE.")
    return int(match[1]) * _UNITS[match[2]]


def _print(report: VerificationReport) -> None:
    console = out()
    table = grid("#", "step", "", "checked", "what was found")
    table.columns[4].overflow = "fold"
    for step in report.steps:
        note = "; ".join(f"{fault.where}: {fault.what}" for fault in step.faults[:2]) or step.note
        style = {"ok": GOOD, "wrong": BAD}.get(step.verdict, "dim")
        table.add_row(str(step.number), step.title, _word(step.verdict, style), str(step.checked), one_line(note))
    console.print(table)
    rows: dict[str, Any] = _change(report) | {
        "log": f"{report.origin or 'unknown'}, {report.size} events, root {report.root}",
        "log key": report.log_key or "unknown",
        "trust": report.trust,
        "witnesses": visible(_witnesses(report.witnessed, report.size)),
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


def _change(report: VerificationReport) -> dict[str, Any]:
    """Of a bundle, what it is about."""
    from mass_gov.flows.bundle_verify import BundleReport

    if not isinstance(report, BundleReport) or report.change_id is None:
        return {}
    then = ", then ".join(report.became) or "nothing of it was heard later"
    return {"change": f"{report.change_id}, event {report.index}: {report.verdict}; {then}"}


def _witnesses(witnessed: Witnessed | None, size: int) -> str:
    """Who stands behind which head, in one line."""
    if witnessed is None:
        return "none: nobody but the log's owner is known to have seen this head"
    ago = "" if witnessed.age is None else f", {_ago(witnessed.age)}"
    which = "this head" if witnessed.size == size else f"the head of {witnessed.size} events"
    return f"{which}, by {', '.join(witnessed.by)}{ago}"


def _ago(seconds: int) -> str:
    unit = next((unit for unit in "dhm" if seconds >= 2 * _UNITS[unit]), "s")
    return f"{seconds // _UNITS[unit]} {unit} ago"


def _what_holds(report: VerificationReport) -> list[Any]:
    """The last line: a yes that says how far it goes."""
    if report.trusted_size is not None:
        agrees = f"a key of this log was compromised. What was checked of {report.size} events agrees with itself; "
        doubts = f"not believed or not checked: {visible('; '.join(report.not_checked[:NAMED]))}."
        return [_word(f"Trust ends at size {report.trusted_size}:", BAD), agrees + doubts]
    if not report.not_checked:
        return [_word("Everything holds.", GOOD)]
    named, more = report.not_checked[:NAMED], len(report.not_checked) - NAMED
    what = "; ".join(named) + (f"; and {more} more (--json lists them)" if more > 0 else "")
    return [_word("What was checked holds;", GOOD), f"not checked: {visible(what)}."]


def _word(text: str, style: str) -> Any:
    from rich.text import Text

    return Text(text, style=style)
