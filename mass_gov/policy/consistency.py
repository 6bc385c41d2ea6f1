"""Whether a recorded change agrees with itself, whatever the policy and the artifacts say.

A leaf that leaves out what would stand in the way (a regression, say) must not pass because nothing was there to be
judged. Rules:

  1. an update was taken <=> there is a delta <=> it names its key <=> the new state was tested
  2. no sample was kept <=> the outcome is `no_valid_samples`; then no step was taken
  3. every sample was either dropped for one reason, by a gate of the catalogue, or kept, and was written by the parent
     state; what the requester supplied was scored by nobody
  4. a measure is in the catalogue and stands there once
  5. each comparison's outcomes add up to the suite, and both comparisons have the same new state

Times are no part of this: clocks jump. What this does not know: whether the counts are those of the artifacts
(`mass_gov.flows.audit_change`), and whether they are true (`replay`).
"""

from __future__ import annotations

from collections.abc import Iterator

from mass_gov.errors import IntegrityError
from mass_gov.policy.gate_settings import LATER_GATES
from mass_gov.policy.measures import RECORDED
from mass_gov.records.change import ChangeBody, PairedCounts, RegressionSummary, SynthesisSummary


def consistent(change: ChangeBody) -> None:
    """Check the rules above.

    Raises:
        IntegrityError: it contradicts itself; the message names the first rule that is broken.
    """
    fault = next(_faults(change), None)
    if fault is not None:
        raise IntegrityError(f"Change {change.identity.change_id} contradicts itself: {fault}. Make it again.")


def consistent_regression(regression: RegressionSummary, what: str) -> None:
    """Check rule 5 for a test that no change stands behind.

    Raises:
        IntegrityError: it contradicts itself.
    """
    fault = next(_regression(regression), None)
    if fault is not None:
        raise IntegrityError(f"{what} contradicts itself: {fault}. Make it again.")


def _faults(change: ChangeBody) -> Iterator[str]:
    yield from _outcome(change)
    yield from _samples(change.synthesis)
    if change.synthesis.generator != change.parents.parent_state:
        yield "its samples were written by another state than its parent"
    yield from _measures(change)
    if change.regression is not None:
        yield from _regression(change.regression)


def _measures(change: ChangeBody) -> Iterator[str]:
    names = [measure.name for measure in change.measures or ()]
    if unknown := sorted(set(names) - set(RECORDED)):
        yield f"it has a measure {unknown[0]} that no gate of this release judges"
    if len(set(names)) != len(names):
        yield "it has two measures of one name"


def _outcome(change: ChangeBody) -> Iterator[str]:
    update = change.update
    stepped = update.outcome == "stepped"
    for name, there in (
        ("delta", update.delta is not None),
        ("delta key", update.delta_key is not None),
        ("regression", change.regression is not None),
    ):
        if there != stepped:
            yield f"its outcome is {update.outcome}, and it has {'a' if there else 'no'} {name}"
    if stepped and not (update.steps and update.modules and update.step_sizes):
        yield "it has a delta, and no step that made it"
    nothing = update.outcome == "no_valid_samples"
    if nothing != (change.synthesis.kept == 0):
        yield f"its outcome is {update.outcome}, and {change.synthesis.kept} samples were kept"
    if nothing and (update.steps or update.modules or update.loss_first is not None):
        yield "no sample was valid, and a step was taken"


def _samples(synthesis: SynthesisSummary) -> Iterator[str]:
    counted, later = synthesis.dropped or {}, sum((synthesis.dropped or {}).values())
    if unknown := sorted(counted.keys() - {gate for gate in LATER_GATES if gate.startswith("sample.")}):
        yield f"it counts samples that {unknown[0]} dropped, which is no gate with a count of its own"
    dropped = synthesis.unparseable + synthesis.near_duplicate + synthesis.target_leakage + later
    if synthesis.forced and synthesis.scorer is not None:
        yield "its samples were supplied by the requester, and it names a scorer of them"
    if dropped + synthesis.kept != synthesis.generated:
        yield f"{dropped} samples dropped and {synthesis.kept} kept are not the {synthesis.generated} generated"


def _regression(regression: RegressionSummary) -> Iterator[str]:
    previous, base = regression.against_previous, regression.against_base
    for name, counts in (("previous", previous), ("base", base)):
        if _total(counts) != regression.n:
            yield f"regression against {name}: {_total(counts)} outcomes of {regression.n} cases"
    if previous.both_right + previous.gained != base.both_right + base.gained:
        yield "its two comparisons do not have the same number right after the update"
    if not regression.critical_lost <= regression.critical_n <= regression.n:
        yield "its critical cases do not fit into its suite"


def _total(counts: PairedCounts) -> int:
    return counts.both_right + counts.lost + counts.gained + counts.both_wrong
