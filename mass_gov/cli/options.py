"""Options and arguments that several commands share, and how their values become settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mass_gov.cli.output import one_line
from mass_gov.errors import InputError, NotFoundError
from mass_gov.tasks.text import MAX_REASON_CHARS, refuse_unprintable

if TYPE_CHECKING:
    from mass_gov.config import Settings

_ID = re.compile(r"[0-9a-f-]{8,36}")

ClausesOption = Annotated[
    str, typer.Option("--clauses", metavar="NAME|FILE", help="The mapping of clauses: one that ships, or a file.")
]
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


def moment(text: str, option: str, *, otherwise: str = "no time") -> str:
    """Return a time as events say it: UTC, with six digits of a second; a date alone is its first moment in UTC.

    Raises:
        InputError: it is `otherwise`, or has no time zone.
    """
    import datetime as dt

    from mass_gov.records.base import timestamp

    try:
        found = dt.datetime.fromisoformat(text.strip())
        if found.tzinfo is None and len(text.strip()) == len("2026-11-28"):
            found = found.replace(tzinfo=dt.UTC)
        if found.tzinfo is not None:
            return timestamp(found)
    except (ValueError, OverflowError):  # no time at all, or one that UTC puts before the year 1 or after 9999
        raise InputError(f"{option} {text[:60]!r} is {otherwise}. Write 2026-11-28T10:00:00Z, or 2026-11-28.") from None
    raise InputError(f"{option} {text[:60]!r} does not say its time zone. Write a Z for UTC, or +02:00.")


def clean_reason(text: str, what: str = "reason", limit: int = MAX_REASON_CHARS, option: str = "--reason") -> str:
    """Return a reason, or another text that a person wrote, that can be kept, or say why it cannot.

    Raises:
        InputError: empty, too long, or with control characters.
    """
    if not text.strip():
        why = "why you decide so" if what == "reason" else "what happened"
        raise InputError(f"the {what} is empty. Say in a sentence {why}: {option} TEXT.")
    if len(text) > limit:
        raise InputError(f"the {what} is {len(text):,} characters long and the limit is {limit:,}. Shorten it.")
    refuse_unprintable(text, f"The {what}")
    return text
