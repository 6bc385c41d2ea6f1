"""The rules of a policy: what no gate of the catalogue says, written in CEL over the change's own metrics.

Rules: each yields a gate result named `rule.<name>`: 1 where it holds, 0 where it does not, no value where that cannot
be told (a metric that is missing, not finite, an error of the library). Only 1 passes. Nothing but the leaf and the
policy is asked, so `verify` judges it again. What an expression may say is the business of `mass_gov.policy.cel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from mass_gov.policy.cel import MAX_CHARS, compile_program
from mass_gov.policy.gate_settings import Part, StopOnFail
from mass_gov.policy.metrics import Value
from mass_gov.policy.wider import Wider
from mass_gov.records.change import GateResult

PREFIX = "rule."


def _compiles(text: str) -> str:
    compile_program(text)
    return text


class Rule(Part):
    """One rule."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$"), Wider.NEITHER]
    require: Annotated[str, Field(min_length=1, max_length=10 * MAX_CHARS), AfterValidator(_compiles)]
    """A CEL expression over `mass_gov.policy.metrics`."""
    on_fail: StopOnFail
    why: Annotated[str, Field(min_length=1, max_length=500), Wider.NEITHER]
    """What a person is told when it does not hold."""


def judge_rules(rules: Sequence[Rule], metrics: Mapping[str, Value]) -> Iterator[GateResult]:
    """Judge every rule, in the order of the file; `n` is how many metrics it names."""
    for rule in rules:
        program = compile_program(rule.require)
        holds = program.holds(metrics)
        yield GateResult(
            name=f"{PREFIX}{rule.name}",
            level="update",
            statistic="rule_holds",
            value=None if holds is None else float(holds),
            limit=1.0,
            comparison=">=",
            n=len(program.names),
            verdict="pass" if holds is True else "fail",
            on_fail=rule.on_fail,
        )
