"""What a policy asks that nobody could ever give: found when its file is read, and not when a change is judged by it.

Rules: a rule names metrics that a change under this policy can have: what a gate counts or measures is there where the
gate is in use, in one scope at least. A suite that `regression.power` would take for large enough can exist.

This module does not know whether the policy's own suites are that large: that is judged, and is inconclusive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mass_gov.errors import PolicyError
from mass_gov.policy.cel import compile_program
from mass_gov.policy.metrics import gates_behind
from mass_gov.policy.power import check_power
from mass_gov.records.change import SCOPES

if TYPE_CHECKING:
    from mass_gov.policy.document import PolicyDocument

Fault = tuple[tuple[str, ...], str]
"""Path of the setting in the file, and what is wrong with it."""


def impossible(document: PolicyDocument) -> Iterator[Fault]:
    """Everything that this policy asks and that there cannot be, in the file's order."""
    yield from _power(document)
    yield from _rules(document)


def _power(document: PolicyDocument) -> Iterator[Fault]:
    for scope in SCOPES:
        gates = document.gates_for(scope)
        if gates.regression_power != "unused":
            asked = gates.regression_power
            try:
                check_power(gates.narrower_margin, asked.discordance, asked.power)
            except PolicyError as error:
                yield ("gates", "regression.power"), str(error)


def _rules(document: PolicyDocument) -> Iterator[Fault]:
    used = document.gates.used().keys()
    for place, rule in enumerate(document.rules):
        path = ("rules", str(place), "require")
        for name in compile_program(rule.require).names:
            if (gates := gates_behind(name)) and used.isdisjoint(gates):
                yield path, f"no change has {name} where {' or '.join(gates)} is unused; use it, or leave {name} out."
            elif name == "projected_norm" and document.update.projection == "never":
                yield path, f"no change has {name} where update.projection is never; name step_norm in its place."
