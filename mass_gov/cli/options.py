"""Options and arguments that several commands share, and how their values become settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mass_gov.cli.output import one_line
from mass_gov.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from mass_gov.config import Settings

MAX_REASON_CHARS = 2_000
_ID = re.compile(r"[0-9a-f-]{8,36}")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="FOLDER",
        help="Folder of a Hugging Face causal language model (default: MASS_GOV_MODEL, or the one that ships).",
    ),
]
DeploymentOption = Annotated[
    str | None,
    typer.Option("--deployment", metavar="NAME", help="Deployment to work on (default: MASS_GOV_DEPLOYMENT)."),
]
AsOption = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Who acts (default: MASS_GOV_PRINCIPAL, or `local`).")
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, in your own words; kept sealed.")]
ChangeArgument = Annotated[str, typer.Argument(metavar="ID", help="Change id, or enough of its first characters.")]


def settings(**overrides: object) -> Settings:
    """Read the settings; options that were given win over the environment."""
    from mass_gov.config import load_settings

    return load_settings(**overrides)


def identifier(text: str, what: str = "change") -> str:
    """Return an id, or the first characters of one, in its one form.

    Raises:
        NotFoundError: it has another form, so nothing is called so.
    """
    lowered = text.strip().lower()
    if not _ID.fullmatch(lowered):
        raise NotFoundError(
            f"there is no {what} {one_line(text, 60)!r}: an id is 36 hex digits and dashes, or at least the first 8 "
            "of them. `mass-gov changes list` shows them."
        )
    return lowered


def clean_reason(text: str) -> str:
    """Return a reason that can be kept, or say why it cannot.

    Raises:
        InputError: empty, too long, or with control characters.
    """
    from mass_gov.tasks.text import refuse_unprintable

    if not text.strip():
        raise InputError("the reason is empty. Say in a sentence why you decide so: --reason TEXT.")
    if len(text) > MAX_REASON_CHARS:
        raise InputError(
            f"the reason is {len(text):,} characters long and the limit is {MAX_REASON_CHARS:,}. Shorten it."
        )
    refuse_unprintable(text, "The reason")
    return text
