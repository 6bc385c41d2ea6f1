"""The sealed contents of one change: read as far as the keys at hand open them.

Rules: a content that is sealed or erased is named as such and never guessed; one that is not what was recorded is an
error, because a damaged record must not look like an incomplete one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mass_gov.errors import IntegrityError, KeyUnavailableError, NotRetainedError
from mass_gov.evidence.canonical import parse_canonical
from mass_gov.ledger import ChangeView, Entry, Ledger
from mass_gov.policy import Policy, load_policy
from mass_gov.records.artifacts import (
    AnswerContent,
    ArtifactRole,
    ReasonContent,
    RegressionContent,
    RequestContent,
    SamplesContent,
    UpdateContent,
)
from mass_gov.records.settings import AdaptationSpec

_T = TypeVar("_T")


@dataclass
class Contents:
    """What could be opened; `sealed` says, by role, why something could not."""

    request: RequestContent | None = None
    config: AdaptationSpec | None = None
    samples: SamplesContent | None = None
    update: UpdateContent | None = None
    regression: RegressionContent | None = None
    answer: AnswerContent | None = None
    fingerprint: dict[str, Any] | None = None
    policy: Policy | None = None
    """The policy that decided, with the envelope's limits."""
    sealed: dict[str, str] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    """Why people decided as they did, by log index of their decision."""


def read_contents(ledger: Ledger, change: ChangeView) -> Contents:
    """Open every artifact of a change.

    Raises:
        IntegrityError: one is not what was recorded.
    """
    contents = Contents()
    contents.request = _open(ledger, change.entry, "request", RequestContent.model_validate, contents)
    contents.config = _open(ledger, change.entry, "config", AdaptationSpec.model_validate, contents)
    contents.samples = _open(ledger, change.entry, "samples", SamplesContent.model_validate, contents)
    contents.update = _open(ledger, change.entry, "update", UpdateContent.model_validate, contents)
    contents.regression = _open(ledger, change.entry, "regression", RegressionContent.model_validate, contents)
    contents.answer = _open(ledger, change.entry, "answer", AnswerContent.model_validate, contents)
    contents.fingerprint = _open(ledger, change.entry, "fingerprint", dict, contents)
    contents.policy = _policy(ledger, change, contents)
    for index in _decisions(change):
        reason = _open(ledger, ledger.entry(index), "reason", ReasonContent.model_validate, contents)
        if reason is not None:
            contents.reasons[index] = reason.text
    return contents


def _policy(ledger: Ledger, change: ChangeView, contents: Contents) -> Policy | None:
    try:
        return load_policy(ledger.policy_bytes(change.body.parents.policy))
    except KeyUnavailableError:
        contents.sealed["policy"] = "sealed: the key is not here"
        return None


def _decisions(change: ChangeView) -> list[int]:
    later = (change.rejection_index, change.rollback_index)
    return [approval.index for approval in change.approvals] + [index for index in later if index is not None]


def _open(
    ledger: Ledger, entry: Entry, role: ArtifactRole, parse: Callable[[Any], _T], contents: Contents
) -> _T | None:
    if role not in {ref.role for ref in entry.predicate.artifacts}:
        return None  # never recorded: no regression where nothing was learned
    try:
        return parse(parse_canonical(ledger.artifact(entry, role)))
    except NotRetainedError:
        contents.sealed[role] = "erased"
    except KeyUnavailableError:
        contents.sealed[role] = "sealed: the key is not here"
    except ValueError as error:
        raise IntegrityError(
            f"artifact {role} of event {entry.index} has no lawful form. Run `mass-gov verify`."
        ) from error
    return None
