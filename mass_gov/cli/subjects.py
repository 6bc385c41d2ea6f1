"""`mass-gov subjects`: whose data there is, legal holds, and erasure. No torch.

A subject is a random handle. Who it stands for is known to whoever handed it out, and to nothing in here; a change's
id, or that of an answer with no update behind it, finds the handle of the data that it was made from.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mass_gov.cli.options import AsOption, JsonFlag, ReasonOption, clean_reason, identifier, settings
from mass_gov.cli.output import emit, err, facts, grid, out, panel, say, styled
from mass_gov.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from rich.table import Table

    from mass_gov.flows.erase import Erased
    from mass_gov.flows.lineage import Lineage, Undoing
    from mass_gov.ledger import Ledger, SubjectView

app = typer.Typer(help="Whose data there is: list, show, hold, release and erase subjects.", no_args_is_help=True)
SubjectArgument = Annotated[
    str,
    typer.Argument(
        metavar="SUBJECT", help="A handle (`s-` and 32 hex digits), or the id of a change or answer made from its data."
    ),
]
StandingOption = Annotated[
    Literal["held", "erased"] | None, typer.Option("--standing", help="Only subjects that are held, or erased.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before erasing.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would happen, and do nothing.")]


@app.command("list")
def list_subjects(
    standing: StandingOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many, newest first.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List subjects by their last event, newest first, with where each stands."""
    from mass_gov.documents import subjects as documents
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        found = ledger.subjects(limit=limit, standing=standing)
    if as_json:
        emit({"subjects": [documents.subject_document(subject) for subject in found]})
        return
    if not found:
        say("no subject" + (f" is {standing}." if standing else " is recorded yet."))
        return
    table = grid("subject", "changes", "answers", "last event", "standing")
    table.columns[0].no_wrap = True
    for subject in found:
        row = (str(subject.changes), str(subject.answers), str(subject.last_index), _standing(subject))
        table.add_row(subject.subject, *row)
    out().print(table)


@app.command()
def show(handle: SubjectArgument, as_json: JsonFlag = False) -> None:
    """Show what was made from a subject's data, and what erasing it would undo."""
    from mass_gov.documents import subjects as documents
    from mass_gov.flows.erase import reason_of
    from mass_gov.flows.lineage import to_undo, trace
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        lineage = trace(ledger, _handle(ledger, handle))
        undoing = to_undo(ledger, lineage)
        event = lineage.subject.erased_index or lineage.subject.held_index
        why = reason_of(ledger, event) if event is not None else None
    if as_json:
        emit(documents.lineage_document(lineage, undoing) | {"reason": why})
        return
    _print_lineage(lineage, undoing, why)


@app.command()
def erase(
    handle: SubjectArgument,
    reason: ReasonOption,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Erase a subject: undo what stands on its data, destroy its key, record it. There is no way back.

    Everything that was recorded stays proven; what was sealed for the subject cannot be read by anybody any more. A
    legal hold refuses. After a crash, the same command finishes what was begun.
    """
    from mass_gov.documents import subjects as documents
    from mass_gov.flows.erase import erase as erase_subject
    from mass_gov.wiring import acting, open_ledger

    chosen, why = settings(principal=principal), clean_reason(reason)
    with open_ledger(chosen) as ledger:
        subject = _handle(ledger, handle)
        if dry_run or not yes:
            _preview(ledger, subject, ask=not dry_run, as_json=as_json)
        if dry_run:
            return
        done = erase_subject(ledger, subject, acting(chosen, ledger, "subjects").actor, why)
    if as_json:
        emit(documents.erased_document(done))
        return
    _print_erased(done)


@app.command()
def hold(handle: SubjectArgument, reason: ReasonOption, principal: AsOption = None, as_json: JsonFlag = False) -> None:
    """Place a legal hold: the subject cannot be erased until it is released."""
    _decide("hold", handle, reason, principal, as_json)


@app.command()
def release(
    handle: SubjectArgument, reason: ReasonOption, principal: AsOption = None, as_json: JsonFlag = False
) -> None:
    """End a legal hold."""
    _decide("release", handle, reason, principal, as_json)


def _decide(what: Literal["hold", "release"], handle: str, reason: str, principal: str | None, as_json: bool) -> None:
    from mass_gov.documents import subjects as documents
    from mass_gov.flows import erase as flow
    from mass_gov.wiring import acting, open_ledger

    chosen, why = settings(principal=principal), clean_reason(reason)
    with open_ledger(chosen) as ledger:
        decide = flow.hold if what == "hold" else flow.release
        subject = decide(ledger, _handle(ledger, handle), acting(chosen, ledger, "subjects").actor, why)
    if as_json:
        emit(documents.subject_document(subject))
    else:
        said = f"held by event {subject.held_index}: it cannot be erased" if what == "hold" else "not held any more"
        out().print(f"{subject.subject} is {said}.", soft_wrap=True)


def _handle(ledger: Ledger, text: str) -> str:
    """The handle that a person means: the handle itself, or whose data a change or an answer was made from."""
    given = text.strip().lower()
    if given.startswith("s-"):
        return given
    wanted = identifier(text, "subject")
    try:
        return ledger.change(wanted).body.identity.subject
    except NotFoundError:
        response = ledger.response(wanted)
    if response.change_id is not None:
        return ledger.change(response.change_id).body.identity.subject
    return response.subject or given


def _preview(ledger: Ledger, handle: str, *, ask: bool, as_json: bool) -> None:
    """Show what would happen, and with `ask` go on only after a yes."""
    from mass_gov.documents import subjects as documents
    from mass_gov.flows.erase import refuse_held
    from mass_gov.flows.lineage import to_undo, trace

    lineage = trace(ledger, handle)
    refuse_held(ledger, lineage.subject)
    undoing = to_undo(ledger, lineage)
    if not ask:
        if as_json:
            emit(documents.lineage_document(lineage, undoing) | {"dry_run": True})
        else:
            _print_lineage(lineage, undoing, None)
        return
    if as_json or not sys.stdin.isatty():
        raise InputError("erasing cannot be undone: say --yes, or look first with --dry-run.")
    err().print(_changes(lineage, undoing))
    if not typer.confirm(f"Erase {handle} for good?", err=True):
        raise InputError("nothing was erased.")


def _standing(subject: SubjectView) -> str:
    if subject.erased_index is not None:
        return f"erased by event {subject.erased_index}"
    return f"held by event {subject.held_index}" if subject.held_index is not None else "free"


def _changes(lineage: Lineage, undoing: Undoing) -> Table:
    from mass_gov.documents import subjects as documents

    fate, own = documents.fates(undoing), lineage.subject.subject
    table = grid("change", "whose", "stands", "delta", "erasing would")
    table.columns[0].no_wrap = True
    extra = [change for change, _ in undoing.rolled_back if change.change_id not in lineage.roots]
    for change in (*lineage.changes, *extra):
        table.add_row(
            change.change_id,
            "its own" if change.body.identity.subject == own else "another's, on top",
            styled(change.status),
            "yes" if change.body.update.delta is not None else "none",
            fate.get(change.change_id, "leave it so"),
        )
    return table


def _print_lineage(lineage: Lineage, undoing: Undoing, why: str | None) -> None:
    subject = lineage.subject
    pointers = ", ".join(f"{pointer.tenant}/{pointer.deployment}" for pointer in lineage.pointers)
    rows = {
        "standing": _standing(subject) + (f": {why}" if why else ""),
        "sealed for it": f"{lineage.artifacts} artifacts, of {subject.changes} changes and {subject.answers} answers",
        "made from it": f"{lineage.deltas} deltas, {len(lineage.later)} of {len(lineage.changes)} changes another's",
        "answered": f"{lineage.answers} answers came from a state made from it",
        "pointers": pointers or "none stands on it",
    }
    out().print(panel(f"subject {subject.subject}", facts(dict(rows))))
    if lineage.changes:
        out().print(_changes(lineage, undoing))


def _print_erased(done: Erased) -> None:
    handle = done.lineage.subject.subject
    if done.already:
        say(f"note: {handle} was erased before, by event {done.index}; nothing changed.")
    for change in done.rolled_back:
        out().print(f"{change.change_id} is rolled back.", soft_wrap=True)
    for change in done.rejected:
        out().print(f"{change.change_id} is rejected.", soft_wrap=True)
    if later := len(done.lineage.later):
        out().print(f"{later} of the changes are another's, made on top of it: undone too, and still readable.")
    out().print(
        f"{handle} is erased (event {done.index}): {done.lineage.artifacts} artifacts cannot be read any more. Every "
        "proof still holds.",
        soft_wrap=True,
    )
