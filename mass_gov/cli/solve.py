"""`mass-gov solve`: put a problem, or a file of them, to a model that practises before it answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mass_gov.cli.options import DeploymentOption, JsonFlag, ModelOption, settings
from mass_gov.errors import InputError, SettingsError

if TYPE_CHECKING:
    from mass_gov.records.settings import AdaptationSpec

LARGEST_SEED = 2**63 - 1
TextArgument = Annotated[str | None, typer.Argument(metavar="TEXT", help="The problem; `-` reads it from stdin.")]
FileOption = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="TASKS.jsonl", help='A file of tasks, one {"question": ...} a line, instead of TEXT.'
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="With --file: only the first so many tasks.")]
BatchOption = Annotated[
    int | None,
    typer.Option(
        "--batch",
        min=1,
        max=64,
        help="With --file: compute so many tasks at once (faster; each stays a change of its own, and replays alone).",
    ),
]
IdOption = Annotated[
    str | None,
    typer.Option("--id", metavar="NAME", help="Name this task: asked again under the same name, it is recalled."),
]
GoldOption = Annotated[
    str | None,
    typer.Option("--gold", metavar="ANSWER", help="Grade the answer with this; the model never gets to see it."),
]
ScopeOption = Annotated[
    Literal["instance", "deployment"],
    typer.Option("--scope", help="Learn for this answer only, or to move the deployment's pointer."),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of the samples (default: random).")
]
SamplesOption = Annotated[
    int | None,
    typer.Option(
        "--samples", min=1, max=64, help="Practice problems to write (default: as the model's folder recommends)."
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option("--steps", min=1, max=64, help="Update steps to take (default: as the model's folder recommends)."),
]
StepSizeOption = Annotated[
    float | None, typer.Option("--step-size", help="Step size of each update step (default: likewise).")
]
AdaptationOption = Annotated[
    Literal["mass", "none"],
    typer.Option("--adaptation", help="`none` answers from the pointer's state with no update, recorded all the same."),
]
SubjectOption = Annotated[
    str | None,
    typer.Option(
        "--subject",
        metavar="HANDLE",
        help="Whose data this is (`s-` and 32 hex digits): whatever stands under one handle is erased together.",
    ),
]
ForcedOption = Annotated[
    Path | None,
    typer.Option(
        "--forced-samples",
        metavar="FILE.jsonl",
        help='Practise on these {"question", "solution"} lines instead; the change is marked as forced.',
    ),
]


def solve(
    text: TextArgument = None,
    file: FileOption = None,
    limit: LimitOption = None,
    batch: BatchOption = None,
    task_id: IdOption = None,
    gold: GoldOption = None,
    scope: ScopeOption = "instance",
    seed: SeedOption = None,
    samples: SamplesOption = None,
    steps: StepsOption = None,
    step_size: StepSizeOption = None,
    forced: ForcedOption = None,
    subject: SubjectOption = None,
    deployment: DeploymentOption = None,
    model: ModelOption = None,
    adaptation: AdaptationOption = "mass",
    as_json: JsonFlag = False,
) -> None:
    """Solve a problem: the model writes practice problems, learns from them within the policy's limits, and answers.

    Every answer stands on a recorded change. On a fresh install no other step is needed. `--file` streams a result per
    task (with --json one object a line), survives Ctrl-C, and continues where it stopped when it is run again.
    """
    _check_usage(text, file, limit, task_id, gold)
    if file is None and batch is not None:
        raise InputError("--batch is about the tasks of a --file: leave it out.")
    _check_subject(subject)
    from mass_gov.wiring import recommended_spec

    chosen = settings(deployment=deployment, model=model)
    spec = _spec(recommended_spec(chosen), samples, steps, step_size)
    from mass_gov.cli.solve_run import Asked, answer_unadapted, solve_file, solve_one

    asked = Asked(chosen, spec, scope, seed, forced, as_json, subject)
    if adaptation == "none":
        if file is not None or forced is not None:
            raise InputError("--adaptation none answers one problem: leave --file and --forced-samples out.")
        answer_unadapted(asked, text or "", task_id, gold)
        return
    if file is not None:
        raise typer.Exit(solve_file(asked, file, limit, batch or 1))
    solve_one(asked, text or "", task_id, gold)


def _check_usage(text: str | None, file: Path | None, limit: int | None, task_id: str | None, gold: str | None) -> None:
    if (text is None) == (file is None):
        raise InputError(
            'give one problem, mass-gov solve "...", or a file of them, mass-gov solve --file TASKS.jsonl.'
        )
    if file is not None and (task_id is not None or gold is not None):
        raise InputError("with --file, ids and gold answers stand in the file: leave --id and --gold out.")
    if file is None and limit is not None:
        raise InputError("--limit is about the tasks of a --file: leave it out.")


def _check_subject(handle: str | None) -> None:
    from mass_gov.evidence.keystore import SYSTEM_SUBJECT, is_handle

    if handle is not None and (not is_handle(handle) or handle == SYSTEM_SUBJECT):
        raise InputError(
            f"--subject {handle[:60]!r} is no handle of a person: give `s-` and 32 random hex digits, or leave it out "
            "and the request gets a handle of its own."
        )


def _spec(spec: AdaptationSpec, samples: int | None, steps: int | None, step_size: float | None) -> AdaptationSpec:
    """The model's recommended settings with what the options change."""
    if step_size is not None and not (math.isfinite(step_size) and step_size > 0):
        raise SettingsError(f"--step-size is {step_size}: give a finite number above 0.")
    sampling = {} if samples is None else {"count": samples}
    update: dict[str, object] = {} if steps is None else {"steps": steps}
    if step_size is not None:
        update |= {"step_size": step_size, "step_sizes": None}  # for every module, also those that learned their own
    return spec.model_copy(
        update={
            "sampling": spec.sampling.model_copy(update=sampling),
            "update": spec.update.model_copy(update=update),
        }
    )
