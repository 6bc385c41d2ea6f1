"""Step 4, regression: the same suite before, after and on the frozen base, case by case.

Both comparisons are needed: against the previous state alone, small losses ratchet down. Outcomes are computed once per
state and suite. This step counts and bounds; `mass_gov.policy` judges.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mass_gov.mass.learner import Learner
from mass_gov.mass.prompting import parse_answer
from mass_gov.mass.values import Adapter
from mass_gov.policy.bounds import paired_lower_bound
from mass_gov.policy.gate_settings import Gates, MarginGate
from mass_gov.records.artifacts import CaseContent, RegressionContent
from mass_gov.records.change import PairedCounts, RegressionSummary
from mass_gov.records.settings import AnswerSpec
from mass_gov.tasks.suites import Suite

Answers = tuple[str | None, ...]
"""The parsed answer per case, in the suite's order; None where a text held no answer."""


@dataclass
class RegressionRunner:
    """Runs one suite on states of one model, each state once."""

    learner: Learner
    suite: Suite
    spec: AnswerSpec
    _known: dict[str, Answers] = field(default_factory=dict)

    def answers(self, state: str, adapter: Adapter | None) -> Answers:
        """Return the state's answers to every case of the suite."""
        if state not in self._known:
            generations = self.learner.answer(
                [case.question for case in self.suite.cases],
                adapter,
                max_new_tokens=self.spec.max_new_tokens,
                batch_size=self.spec.batch_size,
            )
            self._known[state] = tuple(parse_answer(g.text, self.learner.template) for g in generations)
        return self._known[state]

    def forget(self, state: str) -> None:
        """Drop a state that will not be asked about again (an instance-scope update)."""
        self._known.pop(state, None)


def compare(
    runner: RegressionRunner,
    states: tuple[tuple[str, Adapter | None], tuple[str, Adapter | None], tuple[str, Adapter | None]],
    gates: Gates,
) -> tuple[RegressionContent, RegressionSummary]:
    """Run the suite on the (base, previous, new) states and count paired outcomes.

    Arguments:
        runner: the suite and the model.
        states: digest and adapter of base, previous and new state; None as adapter is the frozen base.
        gates: those of the scope; their margins are recorded beside the bounds.
    """
    base, before, after = (runner.answers(state, adapter) for state, adapter in states)
    cases = tuple(
        CaseContent(
            case_id=case.case_id,
            domain=case.domain,
            critical=case.critical,
            before=before[i] == case.answer,
            after=after[i] == case.answer,
            base=base[i] == case.answer,
            before_answer=before[i],
            after_answer=after[i],
            base_answer=base[i],
        )
        for i, case in enumerate(runner.suite.cases)
    )
    content = RegressionContent(suite=runner.suite.digest, batch_size=runner.spec.batch_size, cases=cases)
    return content, summarise(content, gates)


def summarise(content: RegressionContent, gates: Gates) -> RegressionSummary:
    """Count the outcomes, for the leaf."""
    cases = content.cases
    critical = [case for case in cases if case.critical]
    return RegressionSummary(
        n=len(cases),
        against_previous=_paired([(c.before, c.after) for c in cases], gates.regression_previous),
        against_base=_paired([(c.base, c.after) for c in cases], gates.regression_base),
        critical_n=len(critical),
        # Against the base as well, or a critical case could be lost in one change and forgotten in the next.
        critical_lost=sum((case.before or case.base) and not case.after for case in critical),
    )


def _paired(pairs: list[tuple[bool, bool]], gate: MarginGate) -> PairedCounts:
    n = len(pairs)
    gained, lost = pairs.count((False, True)), pairs.count((True, False))
    return PairedCounts(
        both_right=pairs.count((True, True)),
        lost=lost,
        gained=gained,
        both_wrong=pairs.count((False, False)),
        difference=(gained - lost) / n if n else 0.0,
        lower_bound=paired_lower_bound(gained, lost, n, gate.bound),
        margin=gate.margin,
    )
