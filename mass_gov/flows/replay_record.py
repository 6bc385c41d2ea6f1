"""Reading what a replay is held against: recorded artifacts, and what the record says it was made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from mass_gov.errors import IntegrityError
from mass_gov.evidence.canonical import canonical_bytes, parse_canonical, sha256_hex
from mass_gov.flows.replay_report import UnreadableError
from mass_gov.flows.workbench import Workbench
from mass_gov.ledger import Entry
from mass_gov.records.artifacts import ArtifactRole
from mass_gov.records.events import Stage
from mass_gov.records.settings import AdaptationSpec

_T = TypeVar("_T")

_STAGE_OF: dict[ArtifactRole, Stage] = {
    "samples": "samples",
    "update": "delta",
    "regression": "regression",
    "answer": "answer",
}


def read_content(
    bench: Workbench, entry: Entry, role: ArtifactRole, parse: Callable[[Any], _T], first: Stage = "samples"
) -> _T:
    """Read one recorded artifact.

    Raises:
        UnreadableError: it is missing, altered or not of its form; its stage is the role's, or `first` for what
            every stage needs.
        NotRetainedError: it was erased.
    """
    try:
        return parse(parse_canonical(bench.ledger.artifact(entry, role)))
    except (IntegrityError, ValueError) as error:
        raise UnreadableError(_STAGE_OF.get(role, first), f"artifact {role}: {error}") from error


def check_made_from(
    bench: Workbench, base_model: str, prompt_template: str, config: str, spec: AdaptationSpec, first: Stage = "samples"
) -> None:
    """Insist on the recorded base model, prompt template and configuration.

    Raises:
        UnreadableError: naming the first that is another one here.
    """
    for name, recorded, present in (
        ("base model", base_model, bench.learner.base_digest),
        ("prompt template", prompt_template, bench.template_digest),
        ("configuration", config, sha256_hex(canonical_bytes(spec.as_read()))),
    ):
        if recorded != present:
            raise UnreadableError(
                first,
                f"it was made with {name} {recorded[:12]}, and here is {present[:12]}. "
                "Replay it with the model that it was made with: --model FOLDER.",
                compared=False,
            )
