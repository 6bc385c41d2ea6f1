"""`mass-gov replay`: reproduce recorded changes and responses, and compare stage by stage."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mass_gov.cli import counterfactuals, exits
from mass_gov.cli.options import JsonFlag, ModelOption, identifier, settings
from mass_gov.cli.output import emit, err, out, say
from mass_gov.errors import InputError, LedgerUnavailableError, NotFoundError

if TYPE_CHECKING:
    from mass_gov.config import Settings
    from mass_gov.flows.replay_targets import Target
    from mass_gov.ledger import Ledger
    from mass_gov.records.events import Actor

StartName = Literal["scratch", "samples", "delta"]
_LONGEST_INDEX = 15
_SEED_BITS = 32


def replay(
    target: Annotated[
        str | None, typer.Argument(metavar="ID", help="A change id or a response id, for one replay.")
    ] = None,
    start: Annotated[
        StartName, typer.Option("--from", help="Where to start: the seed, the recorded samples, or the recorded delta.")
    ] = "scratch",
    everything: Annotated[
        bool, typer.Option("--all", help="Replay every change and every answer without one, oldest first.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="INDEX|TIME", help="Those from this log index on, or recorded then or later."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", min=1, help="So many of them, drawn at random.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            help="Of --sample: repeats a draw (default: random, and printed). Of one change: what another seed would "
            "have given.",
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", min=1, max=256, help="Replay many in so many processes.")
    ] = 1,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Whether the log says that this replay was performed.")
    ] = True,
    drop_sample: Annotated[
        list[int] | None,
        typer.Option(
            "--drop-sample", metavar="I", min=0, help="What would have been without sample I (repeat for more)."
        ),
    ] = None,
    without_scorer: Annotated[
        bool, typer.Option("--without-scorer", help="What would have been had every kept sample weighed the same.")
    ] = False,
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="FILE|NAME", help="What would have been under another policy.")
    ] = None,
    attribute: Annotated[
        bool, typer.Option("--attribute", help="What each sample did to the recorded answer, instead of a replay.")
    ] = False,
    model: ModelOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Compute a recorded change again and say, stage by stage, whether every digest agrees.

    Exit status 0: equal (also under another fingerprint) · 1: differs · 3: differs, and the numeric environment is
    another one · 4: erased or not retained. A stage that was taken from the record is `given`, never `equal`.

    With --drop-sample, --without-scorer, --policy, --attribute, or --seed for one change, it is no replay: it says
    what would have been, beside a control with nothing changed (exit 1 where that is not what was recorded), and
    writes nothing.
    """
    from mass_gov.wiring import acting, read_ledger, unattended

    several = everything or since is not None or sample is not None
    if several == (target is not None):
        raise InputError("name one change or response, or several by --all, --since or --sample: `mass-gov replay ID`.")
    otherwise = bool(drop_sample) or without_scorer or policy is not None or (seed is not None and sample is None)
    if otherwise or attribute:
        if target is None or (otherwise and attribute):
            raise InputError("name one change, and ask one question of it: `mass-gov replay CHANGE --drop-sample 3`.")
        raise typer.Exit(
            counterfactuals.attribution(target, model=model, as_json=as_json)
            if attribute
            else counterfactuals.would_have_been(
                target,
                dropped=drop_sample or (),
                without_scorer=without_scorer,
                policy=policy,
                seed=seed,
                model=model,
                as_json=as_json,
            )
        )
    chosen = unattended(settings(model=model))
    with ExitStack() as stack:
        ledger = stack.enter_context(_to_record_in(chosen) if record else read_ledger(chosen))
        who = acting(chosen, ledger, "replay").actor if record else None
        if target is not None:
            status = _one(_known(ledger, target), start, chosen, ledger, who, as_json)
        else:
            drawn, targets = _chosen(ledger, since, sample, seed)
            status = _many(targets, drawn, start, processes, chosen, ledger, who, as_json)
    raise typer.Exit(status)


def _to_record_in(chosen: Settings) -> Ledger:
    from mass_gov.wiring import open_ledger

    try:
        return open_ledger(chosen)
    except LedgerUnavailableError as error:
        raise LedgerUnavailableError(f"{error} A replay that writes nothing: --no-record.") from error


def _one(target: str, start: StartName, chosen: Settings, ledger: Ledger, who: Actor | None, as_json: bool) -> int:
    from mass_gov.cli import replay_runs, replay_view
    from mass_gov.documents.replays import replay_document

    with ExitStack() as stack:
        with err().status("opening the model…"):
            replay_one = stack.enter_context(replay_runs.replaying(chosen, start))
        with err().status(f"replaying {target} from {start}…"):
            replayed = replay_one(target)
    if who is not None:
        replay_runs.record(replayed, ledger, who)
    if as_json:
        emit(replay_document(replayed))
    else:
        out().print(*replay_view.screen(replayed), sep="\n")
    return replay_runs.status_of(replayed)


def _many(
    targets: list[Target],
    drawn: tuple[int, int] | None,
    start: StartName,
    processes: int,
    chosen: Settings,
    ledger: Ledger,
    who: Actor | None,
    as_json: bool,
) -> int:
    from rich.progress import Progress

    from mass_gov.cli import replay_runs, replay_view

    rows: list[replay_runs.Row] = []
    with Progress(console=err(), disable=as_json, transient=True) as progress, suppress(KeyboardInterrupt):
        bar = progress.add_task(f"replaying from {start}", total=len(targets))
        for row in replay_runs.run_all(chosen, targets, start, processes, ledger, who):
            rows.append(row)
            progress.advance(bar)
    left = targets[len(rows) :]
    if as_json:
        emit(replay_view.summary(rows, drawn, len(left)))
    elif rows:
        out().print(*replay_view.overview(rows), sep="\n")
    if left:
        more = "" if drawn is not None else f" `mass-gov replay --since {left[0].index}` goes on with the rest."
        say(f"interrupted: {len(rows)} of {len(targets)} were replayed.{more}")
        return exits.INTERRUPTED
    return replay_runs.worst_of(rows)


def _chosen(
    ledger: Ledger, since: str | None, sample: int | None, seed: int | None
) -> tuple[tuple[int, int] | None, list[Target]]:
    """What to replay, and of a draw its seed and how many there were to draw from."""
    from mass_gov.cli.policy_view import moment
    from mass_gov.flows.replay_targets import draw, recorded_targets

    index = int(since) if since is not None and since.isdecimal() and len(since) <= _LONGEST_INDEX else None
    after = moment(since) or "" if index is None else ""
    targets = recorded_targets(ledger, start=index or 0, since=after)
    if not targets:
        say("nothing was recorded there: there is nothing to replay.")
    if sample is None:
        return None, targets
    seed = seed if seed is not None else secrets.randbits(_SEED_BITS)
    drawn = draw(targets, sample, seed)
    say(f"drew {len(drawn)} of {len(targets)} with --seed {seed}.")
    return (seed, len(targets)), drawn


def _known(ledger: Ledger, target: str) -> str:
    """The full id of a change or response, before a model is opened for it."""
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
