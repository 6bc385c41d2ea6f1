"""What routes take: times, log indices, and texts that people write, each checked once for all of them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, WithJsonSchema

from mass_gov.errors import TaskError
from mass_gov.records.base import MAX_SAFE_INTEGER, timestamp
from mass_gov.tasks.text import MAX_DESCRIPTION_CHARS, MAX_REASON_CHARS, MAX_TITLE_CHARS, refuse_unprintable

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _moment(moment: AwareDatetime) -> str:
    try:
        return timestamp(moment)
    except (OverflowError, ValueError):
        raise ValueError("no moment that UTC has a name for") from None


def _written(said: object) -> object:
    """A date alone is its first moment in UTC, as on the command line; a number is no time: nobody says of what."""
    if isinstance(said, str) and _DATE.match(said):
        return f"{said}T00:00:00Z" if len(said) == len("2026-11-28") else said
    if said is None or isinstance(said, datetime):
        return said
    raise ValueError("a time is written like 2026-11-28T09:30:00Z, or 2026-11-28 for its first moment in UTC")


def _printable(text: str) -> str:
    try:
        refuse_unprintable(text, "The text")
    except TaskError as error:
        raise ValueError(str(error)) from None
    return text


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("empty: say it in a sentence")
    return _printable(text)


Moment = Annotated[
    AwareDatetime,
    AfterValidator(_moment),
    BeforeValidator(_written),
    WithJsonSchema({"anyOf": [{"type": "string", "format": kind} for kind in ("date-time", "date")]}),
]
"""A time with its zone, or a date, as events say it once it is validated."""
Index = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]
Reason = Annotated[str, Field(min_length=1, max_length=MAX_REASON_CHARS), AfterValidator(_said)]
"""Why, or what is new, in somebody's own words; kept sealed."""
Title = Annotated[str, Field(min_length=1, max_length=MAX_TITLE_CHARS), AfterValidator(_said)]
Description = Annotated[str, Field(max_length=MAX_DESCRIPTION_CHARS), AfterValidator(_printable)]


def text_of(moment: object) -> str | None:
    """A `Moment` as the text that its validation left; its static type is still a time's."""
    return None if moment is None else str(moment)
