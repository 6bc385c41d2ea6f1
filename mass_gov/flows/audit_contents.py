"""What the artifacts hold, and whether the leaf says the same: steps (7) and (9) of `mass_gov.flows.audit`.

Rules: every stored artifact is named by exactly one event and is the bytes that it names. With the key store it is
opened, and must be of its role's form, canonical, and in agreement with every count, norm and digest in the leaf. A
person's data may have been erased, which `audit_subjects` judges. What belongs to nobody (policies, suites, reasons) is
never erased: the key store knows no such mark. What a change's contents must agree on stands in `audit_change`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from mass_gov.evidence.canonical import sha256_hex
from mass_gov.evidence.keyring import KeyRing
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.model_signing import DELTA_FILES, delta_digest, verify_folder
from mass_gov.evidence.sealing import unseal
from mass_gov.flows.audit_change import Comparison, compare_change, compare_regression, compare_settings
from mass_gov.flows.audit_report import Findings
from mass_gov.flows.audit_subjects import SubjectCheck
from mass_gov.flows.audit_windows import compare_window
from mass_gov.flows.behaviour import behaviour_of, needed, shown_digest
from mass_gov.flows.handles import task_commitment
from mass_gov.ledger import Entry, RawLedger
from mass_gov.ledger.entries import read_entry
from mass_gov.ledger.notebook import Notebook
from mass_gov.ledger.schema import artifacts
from mass_gov.ledger.writing import binding_of
from mass_gov.policy import Policy, load_policy
from mass_gov.policy.clauses import load_clauses
from mass_gov.records.artifacts import (
    AnswerText,
    ArtifactRef,
    ArtifactRole,
    IncidentContent,
    ReasonContent,
    RequestContent,
)
from mass_gov.records.change import ChangeBody
from mass_gov.records.events import (
    ChangeApproved,
    ChangeRecorded,
    ChangeRejected,
    ChangeRolledBack,
    ControlFrozen,
    ControlUnfrozen,
    Grade,
    IncidentClosed,
    IncidentOpened,
    IncidentUpdated,
    KeyRevoked,
    PointerRebased,
    PolicyActivated,
    PolicyProposed,
    RegressionPerformed,
    ResponseServed,
    SubjectErased,
    SubjectHeld,
    SubjectReleased,
    SuiteRegistered,
)
from mass_gov.tasks.suites import Suite, parse_suite

_ALWAYS: tuple[ArtifactRole, ...] = ("request", "config", "fingerprint", "samples", "update", "answer")
_UNADAPTED: tuple[ArtifactRole, ...] = ("request", "config", "fingerprint", "answer")
_WITH_DELTA: tuple[ArtifactRole, ...] = ("delta.adapter_config", "delta.adapter_model", "delta.signature")
_REASONED = (
    ChangeApproved,
    ChangeRejected,
    ChangeRolledBack,
    ControlFrozen,
    ControlUnfrozen,
    IncidentClosed,
    IncidentUpdated,
    KeyRevoked,
    SubjectErased,
    SubjectHeld,
    SubjectReleased,
)
"""A person decided, or a monitor raised an alarm, and it is said why."""


@dataclass(frozen=True, slots=True)
class _Named:
    """An artifact that an event names."""

    where: str
    index: int
    size: int
    change_id: str | None

    def text(self) -> str:
        """For the notebook."""
        return json.dumps([self.where, self.index, self.size, self.change_id])

    @classmethod
    def read(cls, text: str) -> _Named:
        """From the notebook."""
        return cls(*json.loads(text))


@dataclass
class Contents:
    """Compares opened artifacts with the leaf that names them, and keeps the policies and suites that it met."""

    keys: KeyStore | None
    ring: KeyRing
    findings: Findings
    policies: dict[str, Policy] = field(default_factory=dict)
    _suites: dict[str, Suite] = field(default_factory=dict)

    def roles(self, entry: Entry, change_id: str | None) -> bool:
        """(7) An event has exactly the artifacts that it calls for, each once, as number 0 of its role."""
        body = entry.predicate.body
        roles = [(ref.role, ref.index) for ref in entry.predicate.artifacts]
        wanted: tuple[ArtifactRole, ...] = ()
        if isinstance(body, ChangeRecorded):
            wanted = _ALWAYS + (_WITH_DELTA if body.change.update.delta is not None else ())
            wanted += ("regression",) if body.change.regression is not None else ()
        elif isinstance(body, ResponseServed):
            wanted = _UNADAPTED if body.unadapted is not None else ()
        elif isinstance(body, PolicyActivated | PolicyProposed):
            wanted = ("policy",)
        elif isinstance(body, SuiteRegistered):
            wanted = ("suite",)
        elif isinstance(body, IncidentOpened):
            wanted = ("incident", "clauses")
        elif isinstance(body, IncidentUpdated) and body.grade is not None:
            wanted = ("reason", "clauses")
        elif isinstance(body, PointerRebased | RegressionPerformed):
            wanted = ("reason", "regression") if isinstance(body, PointerRebased) else ("regression",)
        elif isinstance(body, _REASONED):
            wanted = ("reason",)
        lacking = [role for role in wanted if (role, 0) not in roles]
        extra = [f"{role}[{index}]" for role, index in roles if index or role not in wanted]
        if not lacking and not extra and len(set(roles)) == len(roles):
            return True
        what = f"it lacks {', '.join(lacking)}" if lacking else f"it has {', '.join(extra)} too many" if extra else ""
        self.findings.wrong(
            7, f"event {entry.index}, artifacts", what or "it names one role twice", entry.index, change_id
        )
        return False

    def compare(self, entry: Entry, change_id: str | None, plain: Mapping[ArtifactRole, bytes]) -> None:
        """(9) What was opened says the same as the leaf."""
        body = entry.predicate.body
        check = Comparison(self.findings, entry.index, change_id, plain)
        match body:
            case ChangeRecorded():
                parents = body.change.parents
                policy = self.policies.get(parents.policy)
                compare_change(body.change, self._suites.get(parents.suite), policy, check)
                if policy is not None:
                    compare_window(body.change, policy, check)
                self._request(body.change, check)
                self._delta(entry.index, body.change, check)
            case PolicyActivated() | PolicyProposed() if "policy" in plain:
                with check.at("policy"):
                    policy = load_policy(plain["policy"])
                    document = policy.document
                    check.same("policy", "digest", body.policy, policy.digest)
                    check.same("policy", "name", (body.name, body.version), (document.name, document.version))
                    self.policies[policy.digest] = policy
            case SuiteRegistered() if "suite" in plain:
                with check.at("suite"):
                    suite = parse_suite(plain["suite"], body.name)
                    check.same("suite", "digest", body.suite, suite.digest)
                    check.same("suite", "cases", body.cases, len(suite.cases))
                    if suite.header is not None:
                        check.same("suite", "name", body.name, suite.header.label)
                    self._suites[suite.digest] = suite
            case ResponseServed():
                self._unadapted(body, check)
            case IncidentOpened():
                check.record("incident", IncidentContent)
                self._grade(body.grade, check)
            case IncidentUpdated():
                check.record("reason", ReasonContent)
                if body.grade is not None:
                    self._grade(body.grade, check)
            case PointerRebased() | RegressionPerformed():
                check.record("reason", ReasonContent)
                compare_regression(body.regression, body.suite, self._suites.get(body.suite), check)
            case _:
                check.record("reason", ReasonContent)

    def _grade(self, grade: Grade, check: Comparison) -> None:
        """(9) The deadline is the one that the mapping file gives for this severity."""
        if "clauses" in check.plain:
            with check.at("clauses"):
                clauses = load_clauses(check.plain["clauses"])
                check.same("clauses", "digest", grade.clauses, clauses.digest)
                days = clauses.severity(grade.severity).report_within_days
                check.same("clauses", "deadline", grade.report_within_days, days)

    def _unadapted(self, body: ResponseServed, check: Comparison) -> None:
        check.record("request", RequestContent)
        if (answer := check.record("answer", AnswerText)) is not None:
            check.same("answer", "state", body.state, answer.state)
        if body.unadapted is not None:
            compare_settings(body.unadapted.config, body.unadapted.fingerprint, check)

    def _request(self, change: ChangeBody, check: Comparison) -> None:
        if (request := check.record("request", RequestContent)) is not None and self.keys is not None:
            named = task_commitment(self.keys, request.task_id)
            check.same("request", "task id's commitment", change.identity.request_commitment, named)

    def _delta(self, index: int, change: ChangeBody, check: Comparison) -> None:
        """(9) The folder's digest and signature, under the delta key valid at the change's index."""
        roles = dict(zip(DELTA_FILES, _WITH_DELTA[:2], strict=True))
        if change.update.delta is None or any(role not in check.plain for role in _WITH_DELTA):
            return
        files = {name: check.plain[role] for name, role in roles.items()}
        check.same("delta.adapter_model", "delta digest", change.update.delta, delta_digest(files))
        with check.at("delta.signature"):
            key = self.ring.at(index, "delta")
            check.same("delta.signature", "signing key", change.update.delta_key, key.keyid)
            verify_folder(files, check.plain["delta.signature"], key)


class ContentCheck(Contents):
    """Collects the names of a ledger's artifacts, opens them, and compares what they hold."""

    def __init__(
        self, raw: RawLedger, keys: KeyStore | None, ring: KeyRing, findings: Findings, notes: Notebook
    ) -> None:
        super().__init__(keys, ring, findings)
        self.raw, self.notes = raw, notes
        self._subjects = SubjectCheck(keys, findings) if keys is not None else None

    def look(self, entry: Entry, change_id: str | None) -> None:
        """(7) Note what an event names; (9) with the keys, open it and compare it with the leaf."""
        for ref in entry.predicate.artifacts:
            where = f"event {entry.index}, artifact {ref.role}[{ref.index}]"
            named = _Named(where, entry.index, ref.size, change_id)
            if (earlier := self.notes.note("artifact", ref.digest, named.text())) is not None:
                what = f"{_Named.read(earlier).where} names it too"
                self.findings.wrong(7, where, what, entry.index, change_id)
        lawful = self.roles(entry, change_id)
        if self._subjects is None:
            self.findings.skipped(9, "without the key store artifacts stay sealed: their digests were checked")
            return
        self._subjects.look(entry)
        opened = [(ref.role, self._open(entry, ref)) for ref in entry.predicate.artifacts]
        if change_id is not None and isinstance(entry.predicate.body, ChangeRecorded):
            self.notes.note("index of change", change_id, str(entry.index))
        if lawful:  # else it is not known which of two is meant
            self.compare(entry, change_id, {role: content for role, content in opened if content is not None})
        if isinstance(entry.predicate.body, ChangeApproved) and entry.predicate.body.shown is not None:
            self._shown(entry, entry.predicate.body)

    def erased_subjects(self) -> None:
        """(9) Say whose contents could not be opened because they were erased, and whether the log says so."""
        if self._subjects is not None:
            self._subjects.end()

    def stored_rows(self) -> None:
        """(7) Every row is named, is the bytes that its name says, and none is missing."""
        total = self.raw.count(artifacts)
        for digest, stored in self.raw.artifacts():
            self.findings.checked(7, total)
            self.findings.count("artifacts")
            key = digest.hex() if isinstance(digest, bytes) else repr(digest)
            noted = self.notes.take("artifact", key)
            named = _Named.read(noted) if noted is not None else None
            place = f"artifacts row {key[:16]}"
            if named is None:
                self.findings.wrong(7, f"{place}, digest", "no event names it")
            elif not isinstance(stored, bytes) or sha256_hex(stored) != key:
                what = f"{named.where}: the stored bytes are not those that were signed for; restore them"
                self.findings.wrong(7, f"{place}, stored", what, named.index, named.change_id)
            elif len(stored) != named.size:
                self.findings.wrong(7, place, f"{named.where} states another size", named.index, named.change_id)
        for key, noted in self.notes.rest("artifact"):
            named = _Named.read(noted)
            what = f"{named.where}: it is missing; restore it"
            self.findings.wrong(7, f"artifacts row {key[:16]}", what, named.index, named.change_id)

    def _shown(self, entry: Entry, approval: ChangeApproved) -> None:
        """(9) What the approver was shown is what was recorded, as far as that can still be read."""
        index = self.notes.find("index of change", approval.change_id)
        leaf = next(self.raw.leaves(int(index), int(index) + 1), None) if index is not None else None
        if leaf is None or self.keys is None or not isinstance(leaf[1], bytes):
            return  # step (8) says that there is no such change
        where = f"event {entry.index}, shown"
        with self.findings.guard(9, where, entry.index, approval.change_id):
            recorded = read_entry(int(index or 0), leaf[1], self.ring)
            if not isinstance(recorded.predicate.body, ChangeRecorded):
                return
            change = recorded.predicate.body.change
            refs = {ref.role: ref for ref in recorded.predicate.artifacts}
            opened = {role: self._open(recorded, refs[role]) for role in needed(change) if role in refs}
            plain = {role: content for role, content in opened.items() if content is not None}
            suite = self._suites.get(change.parents.suite)
            if len(plain) < len(needed(change)) or (suite is None and change.regression is not None):
                self.findings.skipped(9, "what some approvers were shown cannot be read any more")
                return
            document = behaviour_of(change, recorded.leaf_hash, plain, suite)
            if shown_digest(self.keys, document) != approval.shown:
                what = "the approver was shown something else than what the change does; do not rely on the approval"
                self.findings.wrong(9, where, what, entry.index, approval.change_id)

    def _open(self, entry: Entry, ref: ArtifactRef) -> bytes | None:
        """(9) Unseal: key, commitment, binding. Rows that step (7) refuses are left to it."""
        stored = self.raw.artifact(ref.digest)
        if self._subjects is None or stored is None or sha256_hex(stored) != ref.digest:
            return None
        where = f"event {entry.index}, artifact {ref.role}[{ref.index}]"
        key = self._subjects.key_of(ref.subject, where, entry.index)
        if key is None:
            return None
        with self.findings.guard(9, where, entry.index):
            binding = binding_of(entry.predicate, ref)
            content = unseal(stored, key, binding, ref.commitment, fetch=lambda name: self.raw.artifact(name) or b"")
            self.findings.checked(9)
            return content
        return None
