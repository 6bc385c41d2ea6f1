"""The value types that every record is made of.

Rules: records are frozen, refuse unknown keys, and refuse non-finite numbers at the boundary, because RFC 8785 has no
NaN and a limit compared with NaN is always false. Integers that may pass 2^53 (seeds, FLOPs) are decimal strings. A
record may get further optional fields in a later release, so what is stored is always written again from the fields
that it had (`as_read`), never from the fields of the day.
This module does not know what a change is.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

MAX_SAFE_INTEGER = 2**53 - 1
"""Largest integer that every JSON reader keeps exactly (RFC 8785 section 3.2.2.3, RFC 7493 section 2.2)."""

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256, lower-case hexadecimal."""

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""A name chosen by configuration (tenant, deployment, policy, principal), never free text."""

SubjectHandle = Annotated[str, StringConstraints(pattern=r"^s-[0-9a-f]{32}$")]
"""A random handle for the person whose data a record holds; it says nothing about them."""

Uuid = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"),
]
"""UUIDv7 (RFC 9562 section 5.7), lower case."""

BigInteger = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,38})$")]
"""A non-negative integer as a decimal string."""

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def _real_moment(text: str) -> str:
    # The form was checked before; `strptime` would check it again and take as long as everything else in an event.
    dt.datetime(int(text[:4]), int(text[5:7]), int(text[8:10]), int(text[11:13]), int(text[14:16]), int(text[17:19]))
    return text


Timestamp = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"),
    AfterValidator(_real_moment),
]
"""RFC 3339, UTC, microseconds."""

Count = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER, strict=True)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def not_said(value: object) -> bool:
    """For `exclude_if`: a field of a later release is left out where it says nothing (ADR 0009)."""
    return value is None


def not_so(value: object) -> bool:
    """The same for a mark: left out where it is not set."""
    return value is False


class Record(BaseModel):
    """Base of every record: frozen, closed, finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="strings")

    def document(self) -> dict[str, Any]:
        """Return the record as plain JSON values, every field present, ready for RFC 8785."""
        return self.model_dump(mode="json")

    def as_read(self) -> dict[str, Any]:
        """Return only the fields that were given: what a stored record said, without fields that came later."""
        return self.model_dump(mode="json", exclude_unset=True)


def timestamp(moment: dt.datetime) -> str:
    """Format an aware `moment` as a `Timestamp`."""
    return moment.astimezone(dt.UTC).strftime(TIME_FORMAT)
