"""What goes into an adaptation and what comes out of it, before anybody writes it down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mass_gov.flows.timing import Timed
from mass_gov.flows.workbench import Origin, Workbench
from mass_gov.ledger import ChangeView
from mass_gov.records.artifacts import AnswerContent, RegressionContent, SamplesContent
from mass_gov.records.change import Decision, GateResult, Measure, RegressionSummary, Scope, SynthesisSummary
from mass_gov.stages.synthesis import ForcedSample
from mass_gov.stages.update import Learned


@dataclass(frozen=True, slots=True)
class Request:
    """A problem that came in."""

    question: str
    task_id: str
    source: str = "command line"
    scope: Scope = "instance"
    seed: int | None = None
    forced: Sequence[ForcedSample] = ()
    """Samples supplied by the caller instead of the model; the change is marked for it."""
    subject: str | None = None
    """Handle of the person whose data this is; None makes a new one for this request alone."""


@dataclass(frozen=True, slots=True)
class Practised:
    """What was written for one request, judged, and learned from it."""

    samples: SamplesContent
    synthesis: SynthesisSummary
    learned: Learned
    measures: tuple[Measure, ...]
    """Of the samples, as the policy asks for them."""


@dataclass(frozen=True, slots=True)
class Worked:
    """Everything of a change that does not depend on what the log says when it is decided."""

    practised: Practised
    regression: tuple[RegressionContent, RegressionSummary] | None
    answer: AnswerContent


@dataclass(frozen=True, slots=True)
class Ahead:
    """What was computed for a request before its turn came, and from where."""

    worked: Worked
    seed: int
    requested_at: str
    timed: Timed
    origin: Origin
    policy: str

    def fits(self, origin: Origin, bench: Workbench) -> bool:
        """Whether a change that is made now starts from there, under the same policy."""
        place = (origin.state, origin.pointer_head, bench.policy.digest)
        return place == (self.origin.state, self.origin.pointer_head, self.policy)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that was computed for one request, before anybody wrote it down."""

    samples: SamplesContent
    synthesis: SynthesisSummary
    learned: Learned
    regression: tuple[RegressionContent, RegressionSummary] | None
    gates: tuple[GateResult, ...]
    decision: Decision
    answer: AnswerContent
    measures: tuple[Measure, ...] = ()
    """What the policy judges and no summary says, in the catalogue's order."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the requester gets: a recorded change and the answer behind it."""

    change: ChangeView
    answer: AnswerContent
    served: str | None
    """The text that was served; None when the policy serves nothing while a change waits."""
    served_from: str
    repeated: bool
    """True when the task had been adapted before and this is the recorded change."""
