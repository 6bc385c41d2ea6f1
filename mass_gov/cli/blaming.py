"""`mass-gov blame`: which change broke a case."""

from __future__ import annotations

from typing import Annotated

import typer

from mass_gov.cli.options import DeploymentOption, JsonFlag, ModelOption, settings
from mass_gov.errors import InputError


def blame(
    case: Annotated[
        str | None, typer.Argument(metavar="CASE", help="Id of a case of the deployment's suite (not with --question).")
    ] = None,
    question: Annotated[
        str | None, typer.Option("--question", metavar="TEXT", help="Ask this instead of a case; needs --answer.")
    ] = None,
    answer: Annotated[
        str | None, typer.Option("--answer", metavar="TEXT", help="The right answer to --question.")
    ] = None,
    every: Annotated[bool, typer.Option("--every", help="Look at each state instead of bisecting.")] = False,
    deployment: DeploymentOption = None,
    model: ModelOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Find the change that broke a case, by bisecting the states that a deployment's pointer stands on.

    It finds a change with the case right before it and wrong after it; --every finds each of them. Exit status 0:
    found · 1: there is none (it is right now, was never right, or the base has it wrong already).
    """
    if (case is None) == (question is None) or (question is None) != (answer is None):
        raise InputError("name one case, `mass-gov blame CASE`, or give both --question TEXT and --answer TEXT.")
    from mass_gov.cli.pointer_runs import run_blame

    asked = (question, answer) if question is not None and answer is not None else None
    raise typer.Exit(run_blame(settings(deployment=deployment, model=model), case, asked, every, as_json))
