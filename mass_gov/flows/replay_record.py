"""Reading what a replay is held against: recorded artifacts, and what the record says it was made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from mass_gov.errors import IntegrityError, NotFoundError
from mass_gov.evidence.canonical import canonical_bytes, parse_canonical, sha256_hex
from mass_gov.flows.replay_report import MissingError, UnreadableError
from mass_gov.flows.replay_stages import Said
from mass_gov.flows.workbench import Workbench, delta_files
from mass_gov.ledger import ChangeView, Entry
from mass_gov.mass.reference_model import SHIPPED_DIGEST
from mass_gov.records.artifacts import (
    AnswerContent,
    ArtifactRole,
    RegressionContent,
    RequestContent,
    SamplesContent,
    UpdateContent,
)
from mass_gov.records.events import Stage
from mass_gov.records.settings import AdaptationSpec

_T = TypeVar("_T")

UNKNOWN_FORM = "This release does not know its form: replay it with the release that recorded it, or a newer one."
_STAGE_OF: dict[ArtifactRole, Stage] = {
    "samples": "samples",
    "update": "delta",
    "regression": "regression",
    "answer": "answer",
}


@dataclass(frozen=True, slots=True)
class Settled:
    """What a computation was started with, as recorded."""

    request: RequestContent
    spec: AdaptationSpec
    fingerprint: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """One recorded change: what it was started with, and what its stages said."""

    settled: Settled
    said: Said


def read_record(change: ChangeView, bench: Workbench) -> Record:
    """Read every artifact of a change.

    Raises:
        UnreadableError: one is missing, altered, of no lawful form, or another than the leaf names.
        NotRetainedError: they were erased.
    """
    entry, body = change.entry, change.body
    settled = read_settled(bench, entry, body.parents.config, body.parents.fingerprint)
    samples = read_content(bench, entry, "samples", SamplesContent.model_validate)
    content = read_content(bench, entry, "update", UpdateContent.model_validate)
    files = _stored_delta(change, bench)
    tested = body.regression is not None
    regression = read_content(bench, entry, "regression", RegressionContent.model_validate) if tested else None
    answer = read_content(bench, entry, "answer", AnswerContent.model_validate)
    said = Said(
        samples=samples,
        synthesis=body.synthesis,
        files=files,
        update=body.update,
        content=content,
        regression=(regression, body.regression) if regression is not None and body.regression is not None else None,
        measures=body.measures or (),
        gates=body.gates,
        decision=body.decision,
        answer=answer,
    )
    return Record(settled, said)


def read_settled(bench: Workbench, entry: Entry, config: str, fingerprint: str, first: Stage = "samples") -> Settled:
    """Read what a computation was started with, and insist that it is what the leaf names.

    Arguments:
        config, fingerprint: their digests, as they stand in the leaf.
        first: the stage that needs them first.
    """
    spec_of = partial(_known_spec, stage=first)
    settled = Settled(
        read_content(bench, entry, "request", RequestContent.model_validate, first),
        read_content(bench, entry, "config", spec_of, first),
        read_content(bench, entry, "fingerprint", dict, first),
    )
    for role, named, content in (
        ("config", config, settled.spec.as_read()),
        ("fingerprint", fingerprint, settled.fingerprint),
    ):
        if (found := sha256_hex(canonical_bytes(content))) != named:
            raise UnreadableError(first, f"artifact {role} is {found[:12]}, and the leaf names {named[:12]}")
    return settled


def _known_spec(content: Any, stage: Stage) -> AdaptationSpec:
    form = content.get("format") if isinstance(content, dict) else None
    if isinstance(form, int) and form > AdaptationSpec().format:
        raise MissingError(stage, f"artifact config is of format {form}. {UNKNOWN_FORM}")
    return AdaptationSpec.model_validate(content)


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
    except (IntegrityError, NotFoundError, ValueError) as error:
        raise UnreadableError(_STAGE_OF.get(role, first), f"artifact {role}: {error}") from error


def with_its_model(bench: Workbench, base_model: str) -> Workbench:
    """The bench with the model of this digest, where it is kept; otherwise as it is."""
    return bench.kept.lay(bench, base_model) if bench.kept is not None else bench


def check_made_from(bench: Workbench, base_model: str, prompt_template: str, first: Stage = "samples") -> None:
    """Insist on the recorded prompt template and base model, which contains it.

    Raises:
        MissingError: what is here is what somebody made changes with, or ships, and this one was made with another.
        UnreadableError: naming each that is another one here: it may have been altered.
    """
    here = bench.learner.base_digest
    if base_model != here and (here == SHIPPED_DIGEST or bench.ledger.has_model(here)):
        where = f" and is not in {bench.kept.folder}" if bench.kept is not None else ""
        raise MissingError(
            first,
            f"it was made with base model {base_model}, which is not the one at hand ({here[:12]}){where}. "
            "Put the folder of that model there, or name it: --model FOLDER.",
        )
    others = [
        f"{name} {recorded[:12]}, and here is {present[:12]}"
        for name, recorded, present in (
            ("prompt template", prompt_template, bench.template_digest),
            ("base model", base_model, bench.learner.base_digest),
        )
        if recorded != present
    ]
    if others:
        raise UnreadableError(
            first,
            f"it was made with {'; with '.join(others)}. "
            "Replay it with the model that it was made with: --model FOLDER.",
            compared=False,
        )


def _stored_delta(change: ChangeView, bench: Workbench) -> dict[str, bytes] | None:
    """Wherever the replay starts from: these are the bytes that later changes and answers are made from."""
    if change.body.update.delta is None:
        return None
    try:
        return delta_files(bench.ledger, change)
    except (IntegrityError, NotFoundError) as error:
        raise UnreadableError("delta", str(error)) from error
