"""`mass-gov replay`: reproduce a recorded change or response, and compare stage by stage."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mass_gov.cli import exits
from mass_gov.cli.options import JsonFlag, ModelOption, identifier, settings
from mass_gov.cli.output import emit, err, facts, grid, one_line, out, say, styled, visible
from mass_gov.errors import InputError, MassGovError, NotRetainedError

if TYPE_CHECKING:
    from mass_gov.flows.replay_report import Replayed
    from mass_gov.flows.workbench import Workbench
    from mass_gov.ledger import Ledger

StartName = Literal["scratch", "samples", "delta"]
_WORST_FIRST = (exits.NO, exits.OTHER_ENVIRONMENT, exits.NOT_RETAINED)


def replay(
    target: Annotated[
        str | None, typer.Argument(metavar="ID", help="A change id or a response id (not with --all).")
    ] = None,
    start: Annotated[
        StartName, typer.Option("--from", help="Where to start: the seed, the recorded samples, or the recorded delta.")
    ] = "scratch",
    everything: Annotated[bool, typer.Option("--all", help="Replay every change, oldest first.")] = False,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Whether the log says that this replay was performed.")
    ] = True,
    model: ModelOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Compute a recorded change again and say, stage by stage, whether every digest agrees.

    Exit status 0: equal (also under another fingerprint) · 1: differs · 3: differs, and the numeric environment is
    another one · 4: erased or not retained. A stage that was taken from the record is `given`, never `equal`.
    """
    from mass_gov.records.settings import AdaptationSpec
    from mass_gov.wiring import open_ledger, open_workbench, read_ledger

    if everything == (target is not None):
        raise InputError("name one change or response, or give --all: `mass-gov replay ID`.")
    chosen = settings(model=model)
    with ExitStack() as stack:
        ledger = stack.enter_context(open_ledger(chosen) if record else read_ledger(chosen))
        targets = [_known(ledger, target)] if target is not None else _all(ledger)
        with err().status("opening the model…"):
            bench = open_workbench(chosen, AdaptationSpec(), existing=ledger)
        results = [_replay(one, start, bench, record, as_json, everything) for one in targets]
    if everything:
        _conclude(results, as_json)
    statuses = [status for _, status in results]
    raise typer.Exit(next((status for status in _WORST_FIRST if status in statuses), exits.DONE))


def status_of(replayed: Replayed) -> int:
    """The exit status of one replay."""
    if replayed.verdict == "not replayable":
        return exits.NOT_RETAINED
    if replayed.verdict != "differs":
        return exits.DONE
    return exits.OTHER_ENVIRONMENT if replayed.fingerprint_differs else exits.NO


def document(replayed: Replayed) -> dict[str, Any]:
    """One replay as JSON."""
    return {
        "target": replayed.target,
        "change_id": replayed.change_id,
        "from": replayed.start,
        "verdict": replayed.verdict,
        "first_difference": replayed.first_difference,
        "detail": replayed.detail,
        "compared": replayed.compared,
        "stages": [
            {
                "stage": one.stage,
                "recorded": one.recorded,
                "recomputed": one.recomputed,
                "verdict": one.verdict,
                "detail": one.detail,
            }
            for one in replayed.stages
        ],
        "fingerprint": replayed.fingerprint,
        "fingerprint_differs": {
            name: {"recorded": was, "present": now} for name, (was, now) in replayed.fingerprint_differs.items()
        },
    }


def _known(ledger: Ledger, target: str) -> str:
    """The full id of a change or response, before a model is opened for it."""
    from mass_gov.errors import NotFoundError

    wanted = identifier(target, "change or response")
    try:
        return ledger.change(wanted).change_id
    except NotFoundError:
        try:
            return ledger.response(wanted).response_id
        except NotFoundError:
            raise NotFoundError(
                f"there is no change or response {wanted} in this ledger. `mass-gov changes list` shows the changes."
            ) from None


def _all(ledger: Ledger) -> list[str]:
    found, cursor = [], None
    while page := ledger.changes(limit=200, cursor=cursor, newest_first=False):
        found += [change.change_id for change in page]
        cursor = page[-1].index
    if not found:
        say("no change is recorded yet: there is nothing to replay.")
    return found


def _replay(
    target: str, start: StartName, bench: Workbench, record: bool, as_json: bool, several: bool
) -> tuple[dict[str, Any], int]:
    from mass_gov.flows.replay import replay as replay_change

    with err().status(f"replaying {target} from {start}…"):
        try:
            replayed = replay_change(target, start, bench)
        except NotRetainedError as gone:
            if not several:
                raise
            say(f"{target}: not replayable: {visible(str(gone))}")
            return {"target": target, "verdict": "not replayable", "detail": str(gone)}, exits.NOT_RETAINED
    if not replayed.compared:
        say(f"note: {target} was not compared, so the log says nothing of this replay. {visible(replayed.detail)}")
    elif record:
        _record(replayed, bench)
    if several and not as_json:
        say(f"{target}: {_verdict(document(replayed))}")
    elif not several:
        emit(document(replayed)) if as_json else _print(replayed)
    return document(replayed), status_of(replayed)


def _record(replayed: Replayed, bench: Workbench) -> None:
    """Say in the log that it was done; the report stands also where that fails."""
    from mass_gov.flows.replay import record_replay

    try:
        record_replay(replayed, bench)
    except (MassGovError, OSError) as error:
        say(f"warning: this replay is not in the log: {visible(exits.message_of(error))} The report below stands.")


def _conclude(results: list[tuple[dict[str, Any], int]], as_json: bool) -> None:
    if as_json:
        emit({"replays": [one for one, _ in results]})
        return
    table = grid("change", "from", "verdict", "first difference")
    table.columns[0].no_wrap = True
    for one, _ in results:
        table.add_row(one["target"], one.get("from", ""), styled(_verdict(one)), one.get("first_difference") or "-")
    out().print(table)
    equal = sum(status == exits.DONE for _, status in results)
    out().print(f"{equal} of {len(results)} replays are equal.")


def _verdict(one: dict[str, Any]) -> str:
    return str(one["verdict"]) if one.get("compared", True) else "not compared"


def _print(replayed: Replayed) -> None:
    console = out()
    table = grid("stage", "recorded", "recomputed", "verdict")
    for one in replayed.stages:
        table.add_row(one.stage, _short(one.recorded), _short(one.recomputed), styled(one.verdict))
    console.print(table)
    console.print(facts({"verdict": styled(replayed.verdict), "detail": one_line(replayed.detail, 400)}))
    if replayed.fingerprint_differs:
        other = grid("fingerprint", "recorded", "here")
        for name, (was, now) in replayed.fingerprint_differs.items():
            other.add_row(name, one_line(str(was), 60), one_line(str(now), 60))
        console.print(other)


def _short(digest: str | None) -> str:
    return digest[:16] if digest else "-"
