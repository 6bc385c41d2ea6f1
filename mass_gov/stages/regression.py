"""Step 4, regression: the same suite before, after and on the frozen base, case by case.

Both comparisons are needed: against the previous state alone, small losses ratchet down. Outcomes are computed once per
state and suite. This step counts and bounds; `mass_gov.policy` judges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mass_gov.mass.learner import Learner
from mass_gov.mass.metering import Meter
from mass_gov.mass.prompting import parse_answer
from mass_gov.mass.together import LEAST
from mass_gov.mass.values import Adapter
from mass_gov.policy.gate_settings import Gates, MarginGate
from mass_gov.policy.paired import paired_counts
from mass_gov.records.artifacts import CaseContent, RegressionContent
from mass_gov.records.change import PairedCounts, RegressionSummary
from mass_gov.records.settings import AnswerSpec
from mass_gov.tasks.suites import Suite, SuiteCase

Answers = tuple[str | None, ...]
"""The parsed answer per case, in the suite's order; None where a text held no answer."""


class Remembered(Protocol):
    """Where the answers of recorded states outlive the process."""

    def read(self, state: str, suite: str, spec: AnswerSpec, count: int) -> Answers | None:
        """The answers to `count` cases; None where they are not known."""

    def write(self, state: str, suite: str, spec: AnswerSpec, answers: Answers) -> None:
        """Remember them, where the state is recorded."""


@dataclass
class RegressionRunner:
    """Runs one suite on states of one model, each state once."""

    learner: Learner
    suite: Suite
    spec: AnswerSpec
    remembered: Remembered | None = None
    _known: dict[str, Answers] = field(default_factory=dict)

    def answers(self, state: str, adapter: Adapter | None) -> Answers:
        """Return the state's answers to every case of the suite."""
        if state not in self._known:
            self._known[state] = self._recalled(state) or self._asked(state, adapter)
        return self._known[state]

    def _recalled(self, state: str) -> Answers | None:
        if self.remembered is None:
            return None
        return self.remembered.read(state, self.suite.digest, self.spec, len(self.suite.cases))

    def _asked(self, state: str, adapter: Adapter | None) -> Answers:
        answers = ask(self.learner, self.suite.cases, adapter, self.spec)
        if self.remembered is not None:
            self.remembered.write(state, self.suite.digest, self.spec, answers)
        return answers

    def ask_together(self, states: Mapping[str, Adapter]) -> dict[str, Meter]:
        """Ask every case of several states at once, to the bits of asking each; returns what each costs alone.

        Nothing is asked where a batch has fewer cases than keep their bits in company.
        """
        cases, size = self.suite.cases, self.spec.batch_size
        if size < LEAST or 0 < len(cases) % size < LEAST:
            return {}
        unknown = [state for state in states if state not in self._known]
        costs, found = {state: Meter() for state in unknown}, {state: list[str | None]() for state in unknown}
        for start in range(0, len(cases) if unknown else 0, size):
            questions = [case.question for case in cases[start : start + size]]
            written = self.learner.answer_together(
                [questions] * len(unknown),
                [states[state] for state in unknown],
                max_new_tokens=self.spec.max_new_tokens,
            )
            for state, one in zip(unknown, written, strict=True):
                costs[state].add(one.cost)
                found[state] += [parse_answer(generation.text, self.learner.template) for generation in one.generations]
        self._known |= {state: tuple(answers) for state, answers in found.items()}
        return costs

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
    cases = outcomes(runner.suite.cases, base, before, after)
    content = RegressionContent(suite=runner.suite.digest, batch_size=runner.spec.batch_size, cases=cases)
    return content, summarise(content, gates)


def ask(learner: Learner, cases: Sequence[SuiteCase], adapter: Adapter | None, spec: AnswerSpec) -> Answers:
    """Answer every case greedily with one state's weights, in batches of the settings."""
    generations = learner.answer(
        [case.question for case in cases], adapter, max_new_tokens=spec.max_new_tokens, batch_size=spec.batch_size
    )
    return tuple(parse_answer(generation.text, learner.template) for generation in generations)


def outcomes(cases: Sequence[SuiteCase], base: Answers, before: Answers, after: Answers) -> tuple[CaseContent, ...]:
    """Per case, right or not on base, previous and new state, with the answers given."""
    return tuple(
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
        for i, case in enumerate(cases)
    )


def summarise(content: RegressionContent, gates: Gates) -> RegressionSummary:
    """Count the outcomes, for the leaf."""
    cases = content.cases
    critical = [case for case in cases if case.critical]
    return RegressionSummary(
        n=len(cases),
        against_previous=paired([(c.before, c.after) for c in cases], gates.regression_previous),
        against_base=paired([(c.base, c.after) for c in cases], gates.regression_base),
        critical_n=len(critical),
        # Against the base as well, or a critical case could be lost in one change and forgotten in the next.
        critical_lost=sum((case.before or case.base) and not case.after for case in critical),
    )


def paired(pairs: Sequence[tuple[bool, bool]], gate: MarginGate) -> PairedCounts:
    """Count (right before, right after), and bound the difference as the gate wants it."""
    counts = Counter(pairs)
    return paired_counts(
        both_right=counts[True, True],
        lost=counts[True, False],
        gained=counts[False, True],
        both_wrong=counts[False, False],
        gate=gate,
    )
