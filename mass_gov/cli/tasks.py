"""`mass-gov tasks`: fresh tasks with their gold answers, and which domains there are."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from mass_gov.cli.options import JsonFlag
from mass_gov.cli.output import emit, grid, one_line, out

app = typer.Typer(help="Sample fresh tasks with gold answers, and list the domains.", no_args_is_help=True)


@app.command()
def sample(
    n: Annotated[int, typer.Option("--n", min=1, max=100_000, help="How many tasks.")] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, max=999_999, help="Other seeds, other tasks.")] = 0,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="NAME", help="One domain only (default: all in turn).")
    ] = None,
    split: Annotated[
        Literal["hard", "meta", "easy"],
        typer.Option("--split", help="Held-out hard tasks, those of meta-training, or easy ones as in training."),
    ] = "hard",
    as_json: JsonFlag = False,
    as_lines: Annotated[
        bool, typer.Option("--jsonl", help="Print one JSON object a line, as `solve --file` reads.")
    ] = False,
) -> None:
    """Print fresh tasks; the same seed gives the same tasks, and no question repeats.

    `mass-gov tasks sample --n 20 --seed 1 --jsonl > tasks.jsonl` makes a file for `mass-gov solve --file tasks.jsonl`.
    """
    from mass_gov.tasks.registry import sample_tasks

    tasks = sample_tasks(n, seed, domain, split)
    documents = [
        {
            "id": task.task_id,
            "domain": task.domain,
            "kind": task.kind,
            "level": task.level,
            "question": task.question,
            "answer": task.answer,
        }
        for task in tasks
    ]
    if as_lines:
        for document in documents:
            emit(document, line=True)
    elif as_json:
        emit({"seed": seed, "split": split, "tasks": documents})
    else:
        table = grid("domain", "level", "question", "answer")
        table.columns[2].overflow = "fold"
        for task in tasks:
            table.add_row(task.domain, str(task.level), one_line(task.question), one_line(task.answer))
        out().print(table)


@app.command()
def domains(as_json: JsonFlag = False) -> None:
    """List the task domains: what kind each is, and how often a blind guess is right."""
    from mass_gov.tasks.registry import DOMAINS

    rows = [(name, one.kind, one.chance, one.sample(0, "hard").question) for name, one in DOMAINS.items()]
    if as_json:
        keys = ("domain", "kind", "chance", "example")
        emit({"domains": [dict(zip(keys, row, strict=True)) for row in rows]})
        return
    table = grid("domain", "kind", "chance", "example of a hard task")
    table.columns[3].overflow = "fold"
    for name, kind, chance, example in rows:
        table.add_row(name, kind, f"{chance:.1%}", one_line(example))
    out().print(table)
