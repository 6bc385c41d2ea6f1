"""`mass-gov train base`: train the reference base model from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mass_gov.cli.options import JsonFlag
from mass_gov.cli.output import emit, err, facts, out, panel, visible

app = typer.Typer(help="Train the models of this project from scratch.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Train the models of this project from scratch."""


@app.command()
def base(
    folder: Annotated[
        Path, typer.Option("--out", metavar="RUN_DIR", help="Run folder; the weights go to RUN_DIR/weights.")
    ],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in RUN_DIR.")] = False,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimizer steps (default: the shipped recipe).")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the initial weights and the data.")] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=256, help="CPU threads; they decide bits.")
    ] = None,
    card_tasks: Annotated[
        int | None,
        typer.Option("--card-tasks", min=1, help="Tasks per domain and split behind each figure of the card."),
    ] = None,
    probe_tasks: Annotated[
        int | None, typer.Option("--probe-tasks", min=1, help="Tasks per domain for the practice probe of the card.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Train the reference base model on generated tasks, measure it, and write its folder with a model card.

    An interrupted run goes on with `--resume` and the same options, and ends in the same weights, bit for bit.
    """
    from mass_gov.cli.training_run import train

    given = {
        "steps": steps,
        "seed": seed,
        "threads": threads,
        "card_tasks": card_tasks,
        "probe_tasks": probe_tasks,
    }
    report = train(folder, {name: value for name, value in given.items() if value is not None}, resume, err())
    if as_json:
        emit(report)
        return
    rows = {name.replace("_", " "): visible(str(value)) for name, value in report.items() if name != "figures"}
    out().print(panel("trained", facts(dict(rows))))
