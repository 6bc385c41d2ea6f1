"""`mass-gov policy calibrate`: what the gates would see on real tasks, and the limits that follow."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from mass_gov.cli.options import JsonFlag, ModelOption, settings
from mass_gov.cli.output import emit, err, grid, number, out, say
from mass_gov.errors import InputError

SEED = 900_000
"""`mass_gov.flows.calibrate.SEED`, which would load torch here."""


def calibrate(
    tasks: Annotated[int, typer.Option("--tasks", min=1, max=10_000, help="How many held-out tasks.")] = 120,
    seed: Annotated[int, typer.Option("--seed", min=0, max=999_999, help="Which tasks.")] = SEED,
    resolves: Annotated[
        int, typer.Option("--resolves", min=0, max=64, help="Fresh solutions a sample; 0 leaves agreement out.")
    ] = 8,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE.json", help="Write the whole document there.")
    ] = None,
    read: Annotated[
        Path | None,
        typer.Option("--read", metavar="FILE.json", help="Show what was calibrated before instead of calibrating."),
    ] = None,
    model: ModelOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Practise on held-out tasks, and show what every calibrated statistic was and which limits follow.

    Nothing is written to the ledger, and no policy is changed: the lines that it prints belong into a new version of a
    policy file.
    """
    document = _read(read) if read is not None else _measured(model, tasks, seed, resolves)
    if output is not None:
        output.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
        say(f"written to {output}")
    if as_json:
        emit(document)
        return
    from mass_gov.flows.calibrate import yaml_lines

    console = out()
    console.print(_table(document["statistics"]))
    console.print("\n# limits that follow, for the gates of a policy file", soft_wrap=True)
    for line in yaml_lines(document):
        console.print(line, soft_wrap=True)


def _measured(model: Path | None, tasks: int, seed: int, resolves: int) -> dict[str, Any]:
    from mass_gov.flows.calibrate import calibrate as measure
    from mass_gov.wiring import open_workbench, recommended_spec

    with tempfile.TemporaryDirectory(prefix="mass-gov-calibrate-") as folder:
        chosen = settings(model=model).model_copy(update={"home": Path(folder) / "home", "database_url": None})
        bench = open_workbench(chosen, recommended_spec(chosen))
        with bench.ledger, err().status("calibrating…") as status:

            def progress(what: str, done: int) -> None:
                status.update(f"calibrating: {what}, {done} of {tasks} tasks" if done else f"calibrating: {what}…")

            return measure(bench, tasks, seed, resolves, progress)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a calibration ({error}). Name a file of `--output`.") from None
    if not isinstance(document, dict) or document.get("format") != 1 or "limits" not in document:
        raise InputError(f"{path} is no calibration of this release. Name a file of `--output`.")
    return document


def _table(statistics: dict[str, dict[str, float]]) -> Any:
    columns = ("n", "min", "p1", "p5", "p50", "p95", "p99", "max")
    table = grid("statistic", *columns)
    for name, figures in statistics.items():
        table.add_row(name, *(number(figures[column]) for column in columns))
    return table
