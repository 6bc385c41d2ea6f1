"""Rules of a policy (CEL)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from mass_gov.policy.gate_settings import Part
from mass_gov.policy.wider import Wider


class Rule(Part):
    """One rule of a policy."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    require: Annotated[str, Field(max_length=1000)]
    """A CEL expression over the change's metrics; it holds only where it is a boolean true."""
    on_fail: Annotated[Literal["hold", "reject"], Wider.EARLIER]
    why: Annotated[str, Field(max_length=500), Wider.NEITHER]
    """What a person is told when it does not hold."""
