"""`mass-gov evaluate`: methods side by side on the same tasks, with intervals and costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mass_gov.cli.options import JsonFlag, ModelOption
from mass_gov.cli.output import emit, err, out


def evaluate(
    methods: Annotated[
        str,
        typer.Option(
            "--methods",
            metavar="A,B,...",
            help="Methods to compare, by name; `core` stands for the core rows, `list` lists all names and ends.",
        ),
    ] = "base,mass-gold",
    n: Annotated[
        int | None, typer.Option("--n", min=1, max=100_000, help="How many tasks (default: 300; with --data, all).")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=899_999, help="Seed of the tasks, the samples and the intervals.")
    ] = 0,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="NAME", help="One domain only (default: all in turn).")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="DIR", help="Folder of trained model folders, each called after its method."),
    ] = None,
    model: ModelOption = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="A benchmark file instead: GSM8K, MATH-500, MMLU or HumanEval."),
    ] = None,
    pool: Annotated[
        Path | None,
        typer.Option("--pool", metavar="FILE", help="With --data: solved problems that ttt-random and -nearest use."),
    ] = None,
    allow_code_execution: Annotated[
        bool, typer.Option("--allow-code-execution", help="Let generated code run, isolated, to check HumanEval.")
    ] = False,
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, max=64, help="Practice samples per task (default: the core's).")
    ] = None,
    answer_tokens: Annotated[
        int, typer.Option("--answer-tokens", min=1, max=8192, help="Most tokens of one solution.")
    ] = 120,
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=1024, help="Tasks at a time; part of the result, as it decides bits.")
    ] = 60,
    tune: Annotated[
        int,
        typer.Option("--tune", min=0, max=1000, help="Validation tasks that rivals' settings are tuned on; 0: none."),
    ] = 40,
    threads: Annotated[int, typer.Option("--threads", min=1, max=256, help="CPU threads; they decide bits.")] = 1,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE.jsonl", help="Write one line per task and method.")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="DIR", help="Write figures.json and plots into DIR; needs mass-gold."),
    ] = None,
    governed: Annotated[
        str | None,
        typer.Option(
            "--governed",
            metavar="POLICY",
            help="Add a row `governed`: the trained core as it is served under this policy, gates and regression on.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare methods on held-out tasks, all on the same ones; base is always among them.

    Rivals "at equal FLOPs" get as many votes as fit into what MASS was metered to spend. Accuracies and differences to
    base carry 95% paired bootstrap intervals. Gold answers are looked at only after all answers are in.
    """
    from mass_gov.cli.evaluation_run import Asked, compare, method_names
    from mass_gov.cli.evaluation_view import listing, table

    if methods == "list":
        names = method_names()
        if as_json:
            emit({"methods": names})
        else:
            out().print(listing(names))
        return
    asked = Asked(
        methods=methods,
        n=n,
        seed=seed,
        domain=domain,
        weights=weights,
        model=model,
        data=data,
        pool=pool,
        allow_code_execution=allow_code_execution,
        samples=samples,
        answer_tokens=answer_tokens,
        batch=batch,
        tune=tune,
        threads=threads,
        save=save,
        figures=figures,
        governed=governed,
    )
    report = compare(asked, err())
    if as_json:
        emit(report)
    else:
        out().print(table(report))
