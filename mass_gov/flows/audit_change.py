"""One change's opened artifacts against its leaf: counts, norms, outcomes, answers. Part of step (9).

Rules: an artifact is of its role's form and canonical, and says what the leaf says wherever both speak. Samples are
judged and weighed again by the policy, and right and wrong in a regression by the suite's exact text, so that no
checker and no model is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from mass_gov.errors import IntegrityError
from mass_gov.evidence.canonical import canonical_bytes, parse_canonical, sha256_hex
from mass_gov.evidence.state import state_digest
from mass_gov.flows.audit_report import Findings
from mass_gov.policy import Policy
from mass_gov.policy.diversity import FROM_THE_SAMPLES, sample_measures
from mass_gov.policy.samples import dropped_later, judge_samples
from mass_gov.policy.update_measures import FROM_THE_UPDATE, asked_for, mean, update_measures
from mass_gov.records.artifacts import (
    AnswerContent,
    ArtifactRole,
    CaseContent,
    RegressionContent,
    RequestContent,
    SampleContent,
    SamplesContent,
    UpdateContent,
)
from mass_gov.records.base import Record
from mass_gov.records.change import ChangeBody, Measure, PairedCounts, RegressionSummary
from mass_gov.records.settings import AdaptationSpec
from mass_gov.tasks.suites import Suite

_R = TypeVar("_R", bound=Record)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One event's opened artifacts, and how a disagreement with its leaf is named."""

    findings: Findings
    index: int
    change_id: str | None
    plain: Mapping[ArtifactRole, bytes]

    def at(self, role: ArtifactRole) -> AbstractContextManager[None]:
        """A block in which whatever is raised is a fault of the artifact `role`."""
        return self.findings.guard(9, f"event {self.index}, artifact {role}", self.index, self.change_id)

    def wrong(self, role: ArtifactRole, what: str) -> None:
        """Note a fault of the artifact `role`."""
        self.findings.wrong(9, f"event {self.index}, artifact {role}", what, self.index, self.change_id)

    def same(self, role: ArtifactRole, name: str, leaf: object, artifact: object) -> None:
        """Leaf and artifact agree about `name`."""
        if leaf != artifact:
            self.wrong(role, f"{name}: the leaf says {_short(leaf)}, the artifact gives {_short(artifact)}")

    def record(self, role: ArtifactRole, kind: type[_R]) -> _R | None:
        """The artifact as a record of its kind; None when it is not at hand or not of its form."""
        if role not in self.plain:
            return None
        with self.at(role):
            try:
                record = kind.model_validate(parse_canonical(self.plain[role]))
            except ValidationError as error:
                raise IntegrityError(f"It is no {kind.__name__} ({error.error_count()} faults). Restore it.") from error
            if canonical_bytes(record.as_read()) != self.plain[role]:
                raise IntegrityError(f"It is not written as a {kind.__name__} is. Restore it.")
            return record
        return None


def compare_change(change: ChangeBody, suite: Suite | None, policy: Policy | None, check: Comparison) -> None:
    """Compare the contents of one change with its leaf.

    Without the suite outcomes, and without the policy samples, are not judged again: that they could not be read is a
    fault of its own.
    """
    settings = compare_settings(change.parents.config, change.parents.fingerprint, check)
    samples = _samples(change, settings, check)
    if samples is not None and policy is not None:
        _judged_again(samples, change, suite, policy, check)
        _measured_again(samples, change, policy, check)
    _update(change, settings, check)
    _regression(change, check, suite)
    _answer(change, check)


def compare_settings(config: str, fingerprint: str, check: Comparison) -> AdaptationSpec | None:
    """Compare the settings and the numeric environment with the digests in the leaf; returns the settings."""
    settings = check.record("config", AdaptationSpec)
    if "config" in check.plain:
        check.same("config", "digest", config, sha256_hex(check.plain["config"]))
    if "fingerprint" in check.plain:
        with check.at("fingerprint"):
            parse_canonical(check.plain["fingerprint"])
        check.same("fingerprint", "digest", fingerprint, sha256_hex(check.plain["fingerprint"]))
    return settings


def _samples(change: ChangeBody, settings: AdaptationSpec | None, check: Comparison) -> SamplesContent | None:
    content = check.record("samples", SamplesContent)
    if content is None:
        return None
    synthesis, own = change.synthesis, [s for s in content.samples if not s.real]
    check.same("samples", "forced", synthesis.forced, content.forced)
    check.same("samples", "generated", synthesis.generated, len(own))
    check.same("samples", "unparseable", synthesis.unparseable, _dropped(own, "sample.format"))
    check.same("samples", "near-duplicate", synthesis.near_duplicate, _dropped(own, "sample.near_duplicate"))
    check.same("samples", "target leakage", synthesis.target_leakage, _dropped(own, "sample.target_leakage"))
    check.same("samples", "kept", synthesis.kept, sum(not s.dropped_by for s in own))
    scored = [synthesis.scorer is not None and not sample.real for sample in content.samples]
    check.same("samples", "scored", scored, [sample.score is not None for sample in content.samples])
    check.same("samples", "anchors last", [s.index for s in own], list(range(len(own))))
    check.same("samples", "order", list(range(len(content.samples))), [sample.index for sample in content.samples])
    if settings is not None and not content.forced:
        check.same("samples", "the settings' number", synthesis.generated, settings.sampling.count)
    return content


def _judged_again(
    content: SamplesContent, change: ChangeBody, suite: Suite | None, policy: Policy, check: Comparison
) -> None:
    """(9) Gates, drops and weights are what the policy gives for these samples of this request and this suite."""
    request, scope = check.record("request", RequestContent), change.identity.scope
    if request is None:
        return
    cases = {case.case_id: case.question for case in suite.cases} if suite is not None else None
    if cases is None and policy.document.gates_for(scope).sample_contamination != "unused":
        return  # the suite that could not be read is a fault of its own
    with check.at("samples"):
        again = judge_samples(content.samples, request.question, policy, scope, cases)
        for sample, judged in zip(content.samples, again, strict=True):
            for name in ("gates", "dropped_by", "weight"):
                recorded, derived = getattr(sample, name), getattr(judged, name)
                if recorded != derived:
                    what = f"sample {sample.index}, {name}: {_short(recorded)} is recorded, {policy.label} gives "
                    check.wrong("samples", f"{what}{_short(derived)}")


def _measured_again(content: SamplesContent, change: ChangeBody, policy: Policy, check: Comparison) -> None:
    """(9) What later gates dropped, and the measures of diversity and real share, are those of the samples."""
    document, scope = policy.document, change.identity.scope
    gates = document.gates_for(scope)
    with check.at("samples"):
        check.same("samples", "dropped by later gates", change.synthesis.dropped, dropped_later(content.samples, gates))
        found = sample_measures(content.samples, asked_for(document, scope)) if change.synthesis.kept else ()
        recorded = [measure for measure in change.measures or () if measure.name in FROM_THE_SAMPLES]
        check.same("samples", "measures", _by_name(recorded), _by_name(found))


def _by_name(measures: Iterable[Measure]) -> list[Measure]:
    return sorted(measures, key=lambda measure: measure.name)


def _dropped(samples: Iterable[SampleContent], gate: str) -> int:
    return sum(sample.dropped_by.count(gate) for sample in samples)


def _update(change: ChangeBody, settings: AdaptationSpec | None, check: Comparison) -> None:
    content = check.record("update", UpdateContent)
    if content is None:
        return
    update = change.update
    losses = (content.losses[0], content.losses[-1]) if content.losses else (None, None)
    check.same("update", "first and last loss", (update.loss_first, update.loss_last), losses)
    check.same("update", "steps", update.steps, len(content.losses))
    check.same("update", "gradient norms", len(content.losses), len(content.gradient_norms))
    if settings is not None:
        if update.steps > settings.update.steps:
            check.wrong("update", f"steps: {update.steps} were taken, the settings allow {settings.update.steps}")
        sizes = [(module, settings.update.step_size_of(module.module)) for module in content.modules]
        if other := next(((module, size) for module, size in sizes if module.step_size != size), None):
            what = f"step size of {other[0].module}: {other[0].step_size} was used, the settings say {other[1]}"
            check.wrong("update", what)
    check.same("update", "modules", update.modules, len(content.modules))
    check.same("update", "largest norms", (update.step_norm, update.cumulative_norm), content.largest_norms())
    projected = content.largest_projected_norm()
    check.same(
        "update", "norm after projection", (update.projected, update.projected_norm), (projected is not None, projected)
    )
    check.same("update", "divergence on anchors", update.anchor_kl, mean(content.divergences or ()))
    measured = tuple(measure for measure in change.measures or () if measure.name in FROM_THE_UPDATE)
    derived = {measure.name: measure for measure in update_measures(content, {each.name for each in measured})}
    for leaf in measured:
        artifact = derived[leaf.name]
        check.same("update", leaf.name, (leaf.value, leaf.n), (artifact.value, artifact.n))
    not_finite = content.not_finite() + (update.outcome == "not_finite")
    check.same("update", "numbers that are not finite", update.not_finite, not_finite)
    digest = sha256_hex(canonical_bytes(content.step_sizes())) if content.modules else None
    check.same("update", "step sizes", update.step_sizes, digest)


def _regression(change: ChangeBody, check: Comparison, suite: Suite | None) -> None:
    if change.regression is not None:
        compare_regression(change.regression, change.parents.suite, suite, check)


def compare_regression(summary: RegressionSummary, named: str, suite: Suite | None, check: Comparison) -> None:
    """(9) The counts are those of the recorded cases, and the cases are those of the named suite."""
    content = check.record("regression", RegressionContent)
    if content is None:
        return
    cases = content.cases
    check.same("regression", "suite", named, content.suite)
    check.same("regression", "n", summary.n, len(cases))
    for name, counts, pairs in (
        ("against previous", summary.against_previous, [(case.before, case.after) for case in cases]),
        ("against base", summary.against_base, [(case.base, case.after) for case in cases]),
    ):
        check.same("regression", name, _paired(counts), tuple(pairs.count(outcome) for outcome in _OUTCOMES))
    critical = [case for case in cases if case.critical]
    lost = sum((case.before or case.base) and not case.after for case in critical)
    check.same("regression", "critical cases", (summary.critical_n, summary.critical_lost), (len(critical), lost))
    if suite is not None:
        _against_suite(cases, suite, check)


def _against_suite(cases: tuple[CaseContent, ...], suite: Suite, check: Comparison) -> None:
    """(9) The cases are the suite's, in its order, and right means the suite's exact answer."""
    wanted = [(case.case_id, case.domain, case.critical) for case in suite.cases]
    check.same("regression", "cases", wanted, [(case.case_id, case.domain, case.critical) for case in cases])
    for case, gold in zip(cases, suite.cases, strict=False):
        given = (case.before_answer, case.after_answer, case.base_answer)
        outcome = tuple(answer == gold.answer for answer in given)
        check.same("regression", f"case {case.case_id}", (case.before, case.after, case.base), outcome)


_OUTCOMES = ((True, True), (True, False), (False, True), (False, False))


def _paired(counts: PairedCounts) -> tuple[int, int, int, int]:
    return counts.both_right, counts.lost, counts.gained, counts.both_wrong


def _answer(change: ChangeBody, check: Comparison) -> None:
    content = check.record("answer", AnswerContent)
    if content is None:
        return
    adapted = content.adapted.state if content.adapted is not None else None
    check.same("answer", "adapted state", change.update.state if change.update.delta is not None else None, adapted)
    check.same("answer", "parent state", change.parents.parent_state, content.parent.state)
    check.same("answer", "base state", state_digest(change.parents.base_model, None), content.base.state)
    if content.parent.state == content.base.state and content.parent != content.base:
        check.wrong("answer", "the parent is the base, and the two are said to have answered differently")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
