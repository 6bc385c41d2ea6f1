"""`mass-gov train`: the reference base model from scratch, and meta-training on top of a base."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mass_gov.cli.options import JsonFlag
from mass_gov.cli.output import emit, err, facts, out, panel, visible

app = typer.Typer(help="Train the models of this project.", no_args_is_help=True)


class Device(StrEnum):
    """Where to compute."""

    CPU = "cpu"
    CUDA = "cuda"


class Numbers(StrEnum):
    """What the model computes in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class MetaWeightsKind(StrEnum):
    """What of the model is trained."""

    FULL = "full"
    LORA = "lora"


class Kept(StrEnum):
    """Which weights are written."""

    LAST = "last"
    BEST = "best"


@app.callback()
def group() -> None:
    """Train the models of this project."""


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


@app.command()
def meta(
    base: Annotated[Path, typer.Option("--base", metavar="FOLDER", help="Model folder that training starts from.")],
    folder: Annotated[
        Path, typer.Option("--out", metavar="RUN_DIR", help="Run folder; the weights go to RUN_DIR/weights.")
    ],
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="NAME", help="What to train: mass-gold, mass-verifier, or a rival.")
    ] = "mass-gold",
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the tasks, the samples, the core.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Outer steps (default: the recipe's).")] = None,
    flops: Annotated[
        int | None,
        typer.Option("--flops", min=1, help="Stop at so many metered FLOPs instead; --steps is then the schedule."),
    ] = None,
    tasks: Annotated[int | None, typer.Option("--tasks", min=1, help="Tasks per outer step.")] = None,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Practice samples per task (m).")] = None,
    inner_steps: Annotated[
        int | None, typer.Option("--inner-steps", min=1, help="Steps of the inner loop (K).")
    ] = None,
    meta_parameters: Annotated[
        MetaWeightsKind | None, typer.Option("--meta-parameters", help="Train the whole model, or LoRA tensors.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting, as in rates.model=2e-4; repeatable."),
    ] = None,
    validate_every: Annotated[int | None, typer.Option("--validate-every", min=1, help="Steps between them.")] = None,
    validation_tasks: Annotated[
        int | None, typer.Option("--validation-tasks", min=1, max=100_000, help="Tasks of one validation.")
    ] = None,
    answer_tokens: Annotated[
        int | None, typer.Option("--answer-tokens", min=1, max=8192, help="Most tokens of one solution in validation.")
    ] = None,
    keep: Annotated[
        Kept | None, typer.Option("--keep", help="Weights to write: the last, or the best on validation.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", min=1, help="Stop after so many validations without a new best.")
    ] = None,
    snapshot_every: Annotated[int | None, typer.Option("--snapshot-every", min=1, help="Steps between them.")] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=256, help="CPU threads; they decide bits.")
    ] = None,
    device: Annotated[Device | None, typer.Option("--device", help="Where to compute.")] = None,
    dtype: Annotated[Numbers | None, typer.Option("--dtype", help="What the model computes in.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in RUN_DIR.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Meta-train a base model: to write practice, to weigh it and to learn from it; or a rival on the same data.

    An interrupted run goes on with `--resume` and the same options, and ends in the same weights, bit for bit.
    """
    from mass_gov.cli.meta_training_run import AskedMeta, train_meta

    of_meta = {
        "seed": seed,
        "steps": steps,
        "tasks": tasks,
        "samples": samples,
        "inner_steps": inner_steps,
        "meta_parameters": meta_parameters.value if meta_parameters else None,
    }
    of_run = {
        "flops": flops,
        "plan_steps": flops is not None and steps is None,
        "validate_every": validate_every,
        "validation_tasks": validation_tasks,
        "answer_tokens": answer_tokens,
        "keep": keep.value if keep else None,
        "patience": patience,
        "snapshot_every": snapshot_every,
        "threads": threads,
        "device": device.value if device else None,
        "dtype": dtype.value if dtype else None,
    }
    asked = AskedMeta(base, folder, recipe, _given(of_meta), _given(of_run), changes or [], resume)
    report = train_meta(asked, err())
    if report is None:
        return  # not the process that writes
    if as_json:
        emit(report)
        return
    rows = {name.replace("_", " "): visible(str(value)) for name, value in report.items() if name != "validations"}
    out().print(panel("meta-trained", facts(dict(rows))))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
