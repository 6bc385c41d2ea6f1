"""The command line's root: the groups, `--version`, and the way from arguments to an exit status."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import typer
from typer.main import get_command

from mass_gov import __version__
from mass_gov.cli import (
    approving,
    blaming,
    changes,
    control,
    evaluation,
    incidents,
    keys,
    logs,
    monitors,
    notifications,
    pointers,
    policies,
    principals,
    replays,
    reports,
    restoring,
    serve,
    setup,
    solve,
    subjects,
    tasks,
    tokens,
    training,
    verification,
    witness,
)
from mass_gov.cli.exits import guarded
from mass_gov.cli.output import write

_COMPLETION = "_MASS_GOV_COMPLETE"
app = typer.Typer(
    name="mass-gov",
    help="Test-time model updates as change events: gated, decided, signed, reversible and replayable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    solve.solve,
    setup.init,
    setup.doctor,
    replays.replay,
    verification.verify,
    evaluation.evaluate,
    control.freeze,
    control.unfreeze,
    blaming.blame,
    serve.serve,
    reports.report,
):
    app.command()(command)
app.command()(notifications.notify)
for decision in (approving.diff, approving.approve, approving.promote, approving.reject, approving.expire):
    changes.app.command()(decision)
for name, part in (
    ("backup", restoring.backup),
    ("import", restoring.import_log),
    ("succeed", restoring.succeed),
    ("discard", restoring.discard),
):
    logs.app.command(name)(part)
for name, group in (
    ("changes", changes.app),
    ("pointers", pointers.app),
    ("incidents", incidents.app),
    ("keys", keys.app),
    ("log", logs.app),
    ("monitors", monitors.app),
    ("witness", witness.app),
    ("policy", policies.app),
    ("principals", principals.app),
    ("tokens", tokens.app),
    ("subjects", subjects.app),
    ("tasks", tasks.app),
    ("train", training.app),
):
    app.add_typer(group, name=name)


def _version(wanted: bool) -> None:
    if wanted:
        write(f"mass-gov {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Test-time model updates as change events: gated, decided, signed, reversible and replayable.

    Start with `mass-gov solve "..."`: it needs no other step. Data live in MASS_GOV_HOME.
    """


def run(argv: Sequence[str]) -> int:
    """Run one command line in this process and return its exit status."""
    return guarded(lambda: _invoke(list(argv)), argv)


@cache
def command_tree() -> Any:
    """Every group, command and option; Typer takes a good part of a second's tenth to make it, each time."""
    return get_command(app)


def _invoke(argv: list[str]) -> object:
    """Parse and run, with every exception left to `exits`: Typer's own handling knows other statuses."""
    command = command_tree()
    with command.make_context("mass-gov", argv) as context:
        return command.invoke(context)


def _begin() -> None:
    """Before anything that computes is loaded: start again where portable numerics is asked for."""
    if "MASS_GOV_NUMERICS" in os.environ:  # settings take a while to load, and `--help` needs none
        from mass_gov.config import load_settings
        from mass_gov.mass.numerics import begin

        if load_settings().numerics == "portable":
            begin()


def main() -> None:
    """Entry point of the `mass-gov` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character gets its escape instead of an exception.
            stream.reconfigure(errors="backslashreplace")
    if _COMPLETION in os.environ:
        app(prog_name="mass-gov")  # a shell asks for completions; Typer answers and exits
    sys.exit(guarded(_begin, sys.argv[1:]) or run(sys.argv[1:]))


if __name__ == "__main__":
    main()
