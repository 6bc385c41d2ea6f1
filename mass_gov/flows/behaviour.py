"""What an approver sees of a change: its behaviour, before and after, in one canonical document with one digest.

Rules: the document is a function of what was recorded and of nothing else (the leaf, its artifacts, the suite), so that
an auditor makes it again and finds the digest that an approval says was shown. The digest is an HMAC under the key
store's commitment key: much of the document is short text, and a plain digest of that in a leaf could be guessed. A
change whose contents were erased cannot be shown, and so cannot be approved where the policy wants it seen.

Needs no model and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mass_gov.errors import KeyUnavailableError
from mass_gov.evidence.canonical import canonical_bytes, parse_canonical
from mass_gov.evidence.keystore import KeyStore
from mass_gov.ledger import ChangeView, Ledger
from mass_gov.records.artifacts import (
    AnswerContent,
    AnswerText,
    ArtifactRole,
    CaseContent,
    RegressionContent,
    RequestContent,
    SampleContent,
    SamplesContent,
)
from mass_gov.records.change import ChangeBody
from mass_gov.tasks.suites import Suite, parse_suite

SHOWN_FORMAT = 1
_IDENTITY = ("change_id", "scope", "tenant", "deployment", "requester")
_PARENTS = ("parent_state", "pointer_head", "policy", "suite")
NEEDED: tuple[ArtifactRole, ...] = ("request", "samples", "answer")
"""Contents without which nothing can be shown; `regression` too, where there was one."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The document, as plain JSON values, and its digest."""

    document: dict[str, Any]
    digest: str


def read_behaviour(ledger: Ledger, change: ChangeView) -> Behaviour:
    """Make the document of a recorded change.

    Raises:
        NotRetainedError: its contents were erased.
        KeyUnavailableError: the ledger was opened without its keys.
        IntegrityError: a content is not what was recorded.
    """
    if ledger.keys is None:
        raise KeyUnavailableError("What a change does is sealed. Open the ledger with its key store: MASS_GOV_KEYS.")
    roles = needed(change.body)
    plain = {role: ledger.artifact(change.entry, role) for role in roles}
    suite = parse_suite(ledger.suite_bytes(change.body.parents.suite)) if "regression" in roles else None
    document = behaviour_of(change.body, change.entry.leaf_hash, plain, suite)
    return Behaviour(document, shown_digest(ledger.keys, document))


def needed(change: ChangeBody) -> tuple[ArtifactRole, ...]:
    """The contents that the document is made of."""
    return (*NEEDED, "regression") if change.regression is not None else NEEDED


def shown_digest(keys: KeyStore, document: Mapping[str, object]) -> str:
    """The digest of a document, 64 hex digits: what `change.approved` says was shown."""
    return keys.request_commitment(b"shown\0" + canonical_bytes(document))


def behaviour_of(
    change: ChangeBody, recorded: str, plain: Mapping[ArtifactRole, bytes], suite: Suite | None
) -> dict[str, Any]:
    """The document.

    Arguments:
        recorded: leaf hash of the `change.recorded`.
        plain: the opened contents that `needed` names.
        suite: the regression suite, for the questions of its cases.
    """
    request = RequestContent.model_validate(parse_canonical(plain["request"]))
    samples = SamplesContent.model_validate(parse_canonical(plain["samples"]))
    answer = AnswerContent.model_validate(parse_canonical(plain["answer"]))
    cases: tuple[CaseContent, ...] = ()
    if "regression" in plain:
        cases = RegressionContent.model_validate(parse_canonical(plain["regression"])).cases
    leaf = change.as_read()
    return {
        "format": SHOWN_FORMAT,
        "recorded": recorded,
        "identity": {name: leaf["identity"][name] for name in _IDENTITY},
        "parents": {name: leaf["parents"][name] for name in _PARENTS},
        "decision": leaf["decision"],
        "gates": leaf["gates"],
        "measures": leaf.get("measures"),
        "update": leaf["update"],
        "regression": leaf["regression"],
        "flipped": _flipped(cases, suite),
        "task": {
            "question": request.question,
            "base": _answer(answer.base),
            "before": _answer(answer.parent),
            "after": _answer(answer.adapted) if answer.adapted is not None else None,
        },
        "forced": samples.forced,
        "samples": [_sample(sample) for sample in samples.samples],
    }


def _flipped(cases: tuple[CaseContent, ...], suite: Suite | None) -> list[dict[str, Any]]:
    """Cases that are right under one of the three states and wrong under another."""
    questions = {case.case_id: case.question for case in suite.cases} if suite is not None else {}
    flipped = [case for case in cases if len({case.before, case.after, case.base}) > 1]
    return [{**case.as_read(), "question": questions.get(case.case_id)} for case in flipped]


def _answer(answer: AnswerText) -> dict[str, Any]:
    return {"answer": answer.answer, "text": answer.text, "finished": answer.finished}


def _sample(sample: SampleContent) -> dict[str, Any]:
    said = {gate.gate: gate.detail for gate in sample.gates if gate.gate in sample.dropped_by}
    return {
        "index": sample.index,
        "question": sample.question,
        "text": sample.text,
        "answer": sample.answer,
        "weight": sample.weight,
        "dropped_by": [{"gate": gate, "detail": said.get(gate)} for gate in sample.dropped_by],
    }
