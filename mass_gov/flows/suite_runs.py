"""Which runner tests a change: one per suite, each state asked once.

Rules: `named` gives the runner of a shipped suite, opened when a policy first names it, so that a policy that comes
into force later brings its own suite along. `again` gives one that knows nothing but what it computed itself: replay
tests with it, and takes no remembered outcome on trust.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mass_gov.flows.outcomes import OutcomeStore
from mass_gov.mass.learner import Learner
from mass_gov.records.settings import AnswerSpec
from mass_gov.stages.regression import RegressionRunner
from mass_gov.tasks.suites import Suite, parse_suite


@dataclass
class SuiteRunners:
    """Runners of one model by suite.

    Attributes:
        load: the file of a shipped suite by the name that policies use; raises InputError where there is none.
        outcomes: remembers recorded states across processes; None to compute everything here.
    """

    learner: Learner
    load: Callable[[str], bytes]
    outcomes: OutcomeStore | None = None
    _suites: dict[str, Suite] = field(default_factory=dict)
    _named: dict[tuple[str, AnswerSpec], RegressionRunner] = field(default_factory=dict)
    _again: dict[tuple[str, AnswerSpec], RegressionRunner] = field(default_factory=dict)

    def suite(self, name: str) -> Suite:
        """The suite of this name, read once."""
        if name not in self._suites:
            self._suites[name] = parse_suite(self.load(name), name)
        return self._suites[name]

    def named(self, name: str, spec: AnswerSpec) -> RegressionRunner:
        """The runner of a shipped suite."""
        if (name, spec) not in self._named:
            self._named[name, spec] = RegressionRunner(self.learner, self.suite(name), spec, self.outcomes)
        return self._named[name, spec]

    def again(self, suite: Suite, spec: AnswerSpec) -> RegressionRunner:
        """A runner of a recorded suite that takes nothing from memory but what it computed before."""
        if (suite.digest, spec) not in self._again:
            self._again[suite.digest, spec] = RegressionRunner(self.learner, suite, spec)
        return self._again[suite.digest, spec]
