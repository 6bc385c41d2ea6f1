"""Runs an evaluation with a progress bar. Loads torch."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mass_gov.cli.options import settings
from mass_gov.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from mass_gov.flows.evaluation.problems import Evaluation
    from mass_gov.flows.evaluation.run import Request, Row
    from mass_gov.flows.evaluation.weights import Weights
    from mass_gov.flows.workbench import Workbench
    from mass_gov.mass.rivals.values import Surroundings

VALIDATION_SEED = 950_000
"""Tuning draws its tasks from here on; `--seed` ends below."""
DEFAULT_TASKS = 300
PLAIN_MARKER = "####"
"""Stands before the answer of a pool's solution, as in GSM8K and in the generic prompt template."""


@dataclass(frozen=True)
class Asked:
    """The options of `mass-gov evaluate` as given."""

    methods: str
    n: int | None
    seed: int
    domain: str | None
    weights: Path | None
    model: Path | None
    data: Path | None
    pool: Path | None
    allow_code_execution: bool
    samples: int | None
    answer_tokens: int
    batch: int
    tune: int
    threads: int
    save: Path | None
    figures: Path | None
    governed: str | None = None


def method_names() -> dict[str, str]:
    """Every method's name and what it does. Raises MissingExtraError without the learner."""
    _need_the_learner()
    from mass_gov.mass.rivals.catalogue import find, names

    return {name: find(name).about for name in names()}


def compare(asked: Asked, console: Console) -> dict[str, Any]:
    """Evaluate, write what was asked for, and return the report as JSON values.

    Raises:
        NotFoundError: unknown method or domain.
        ModelError: weights that a method needs are not there; the message says which command trains them.
        MissingExtraError: the learner is not installed.
    """
    _need_the_learner()
    from mass_gov.flows.evaluation.governed import evaluate_governed
    from mass_gov.flows.evaluation.report import document
    from mass_gov.flows.evaluation.run import evaluate

    _check_outputs(asked)
    with ExitStack() as stack:
        evaluation, surroundings = _problems(asked, stack)
        request, weights = _request(asked), _weights(asked)
        bench = _scratch(asked, asked.governed, weights, stack) if asked.governed is not None else None
        progress = stack.enter_context(_bar(console))
        tasks: dict[str, Any] = {}

        def show(method: str, done: int, total: int) -> None:
            if method not in tasks:
                tasks[method] = progress.add_task(method, total=total)
            progress.update(tasks[method], completed=done)

        rows = evaluate(request, evaluation, surroundings, weights, show)
        governed = evaluate_governed(bench, _served(weights).name, evaluation, asked.seed, show) if bench else None
        if governed is not None:
            rows[governed.row.name] = governed.row
        report = document(request, evaluation, rows)
        if governed is not None:
            report["governed"] = governed.decisions
        _write(asked, evaluation, rows)
        if asked.figures is not None:
            progress.add_task("figures", total=None)
            _draw(asked, asked.figures, request, rows, report, surroundings, weights)
    return report


def _scratch(asked: Asked, policy: str, weights: Weights, stack: ExitStack) -> Workbench:
    """What serves every task under the policy, in a home of its own that is gone afterwards."""
    from mass_gov.wiring import initialise, open_workbench, recommended_spec

    home = Path(stack.enter_context(TemporaryDirectory(prefix="mass-gov-governed-")))
    own = {"home": home, "checkpoints": home / "checkpoints", "keys": home / "keys", "database_url": None}
    rest = {"passphrase": None, "threads": asked.threads}
    chosen = settings(model=_served(weights)).model_copy(update=own | rest)
    ledger, _ = initialise(chosen, policy)
    ledger.close()
    spec = recommended_spec(chosen)
    sampling = spec.sampling.model_copy(update={"count": asked.samples} if asked.samples else {})
    answer = spec.answer.model_copy(update={"max_new_tokens": asked.answer_tokens})
    bench = open_workbench(chosen, spec.model_copy(update={"sampling": sampling, "answer": answer}))
    stack.callback(bench.ledger.close)
    return bench


def _served(weights: Weights) -> Path:
    """The folder of what is governed: the core that `mass-gold` is, or where there is none the base."""
    from mass_gov.mass.rivals.catalogue import BASE, GOLD

    return weights.of(GOLD if weights.has(GOLD) else BASE)


def _need_the_learner() -> None:
    try:
        import torch  # noqa: F401  (only whether it is there)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"evaluating needs the learner, and {error.name} is not installed. Run `pip install 'mass-gov[ml]'`."
        ) from None


def _check_outputs(asked: Asked) -> None:
    """Say before hours of work that the result would have nowhere to go."""
    if asked.save is not None and not asked.save.resolve().parent.is_dir():
        raise InputError(f"there is no folder {asked.save.resolve().parent} to write {asked.save.name} into. Make it.")
    if asked.figures is None:
        return
    if asked.figures.exists() and not asked.figures.is_dir():
        raise InputError(f"{asked.figures} is a file. Name a folder for the figures.")
    if asked.data is not None or "mass-gold" not in _methods(asked):
        raise InputError("--figures shows mass-gold on generated tasks. Add mass-gold to --methods, without --data.")


def _problems(asked: Asked, stack: ExitStack) -> tuple[Evaluation, Surroundings]:
    from mass_gov.flows.evaluation.problems import held_out
    from mass_gov.flows.evaluation.surroundings import DomainSurroundings
    from mass_gov.tasks.registry import DOMAINS

    if asked.data is not None:
        return _file_problems(asked, asked.data, stack)
    if asked.pool is not None:
        raise InputError("--pool belongs to --data: generated tasks have a pool of their own. Leave it out.")
    evaluation = held_out(asked.n or DEFAULT_TASKS, asked.seed, asked.domain)
    return evaluation, DomainSurroundings([asked.domain] if asked.domain else list(DOMAINS))


def _file_problems(asked: Asked, data: Path, stack: ExitStack) -> tuple[Evaluation, Surroundings]:
    from mass_gov.flows.evaluation.file_surroundings import FileSurroundings
    from mass_gov.flows.evaluation.problems import from_benchmark
    from mass_gov.mass.rivals.values import Setup
    from mass_gov.tasks.grading import BenchmarkGrader
    from mass_gov.tasks.readers import read_benchmark

    if asked.domain is not None:
        raise InputError("--domain belongs to generated tasks, and --data names a file. Give one of the two.")
    pool = read_benchmark(asked.pool) if asked.pool is not None else []
    tasks = read_benchmark(data, limit=asked.n)
    grader = stack.enter_context(BenchmarkGrader(allow_code_execution=asked.allow_code_execution))
    evaluation = from_benchmark(tasks, grader)
    solved = [(task.question, f"{PLAIN_MARKER} {task.gold}") for task in pool if task.gold is not None]
    world = FileSurroundings(data.name, evaluation.questions, solved)
    why = world.unavailable(_methods(asked), asked.samples or Setup.samples)
    if why is not None:
        raise InputError(why)
    return evaluation, world


def _methods(asked: Asked) -> tuple[str, ...]:
    """The names that were asked for, `core` spelled out. Raises InputError for none."""
    from mass_gov.mass.rivals.catalogue import CORE_ROWS

    names = [name.strip() for name in asked.methods.split(",") if name.strip()]
    if not names:
        raise InputError("no method is named. Give some: --methods base,mass-gold.")
    return tuple(name for given in names for name in (CORE_ROWS if given == "core" else (given,)))


def _request(asked: Asked) -> Request:
    from mass_gov.flows.evaluation.problems import found_in_text, held_out
    from mass_gov.flows.evaluation.run import Request
    from mass_gov.mass.rivals.values import Setup

    setup = Setup(answer_tokens=asked.answer_tokens, samples=asked.samples or Setup.samples)
    fixed = ("samples",) if asked.samples else ()
    if asked.data is not None:
        setup = replace(setup, read=found_in_text)
        return Request(_methods(asked), asked.seed, setup, fixed, asked.batch, None, asked.threads)
    validation = held_out(asked.tune, VALIDATION_SEED, asked.domain, "meta") if asked.tune else None
    return Request(_methods(asked), asked.seed, setup, fixed, asked.batch, validation, asked.threads)


def _weights(asked: Asked) -> Weights:
    from mass_gov.flows.evaluation.weights import Weights
    from mass_gov.mass.reference_model import reference_folder, trained_folders

    if asked.weights is not None and not asked.weights.is_dir():
        raise InputError(f"there is no folder {asked.weights}. Name the one that holds the trained folders.")
    given = asked.model if asked.model is not None else settings().model
    if given is not None:
        return Weights(asked.weights, given)
    return Weights(asked.weights or trained_folders(), reference_folder())


def _write(asked: Asked, evaluation: Evaluation, rows: dict[str, Row]) -> None:
    from mass_gov.flows.evaluation.report import task_rows

    if asked.save is not None:
        lines = [json.dumps(row, allow_nan=False) + "\n" for row in task_rows(evaluation, rows)]
        asked.save.write_text("".join(lines), encoding="utf-8")


def _draw(
    asked: Asked,
    folder: Path,
    request: Request,
    rows: dict[str, Row],
    report: dict[str, Any],
    surroundings: Surroundings,
    weights: Weights,
) -> None:
    from mass_gov.flows.evaluation.engines import Engines
    from mass_gov.flows.evaluation.figures import figures
    from mass_gov.flows.evaluation.plots import draw
    from mass_gov.tasks.registry import sample_tasks

    tasks = sample_tasks(asked.n or DEFAULT_TASKS, asked.seed, asked.domain)
    found = figures(request, tasks, rows, report, surroundings, Engines(weights, request.threads))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    draw(folder, report, found)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
