"""The settings that each method runs with: from the core, tuned for rivals, and votes at equal cost.

Rules
1. Sampling (m, temperature, length) is that of the core beside the method's own weights. A method whose weights have
   none writes as many samples, as long, as the reference's core, at the given setup's temperature: no scorer would
   tell what a hotter draw gets wrong. What the request fixes stays; without any core, all is the given setup's.
2. A method with a tuned setting gets the value that is best on the validation tasks; of equals the first.
3. A method with votes gets as many as fit into what MASS was metered to spend per task (FLOPs, or tokens for
   revisions). A line through the cost of 1 and 3 votes on the first batch says about how many; the number is then
   halved in between what fits and what does not, to within a sixteenth. At least one, at most 1,024.
4. MASS here is `mass-gold`, without it `mass-verifier`, and where neither is trained `tt-ss`, which writes as many
   samples and takes the same step. The report says which.

Does not know outcomes on the evaluation's own tasks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from mass_gov.flows.evaluation.engines import Engines
from mass_gov.flows.evaluation.problems import Evaluation
from mass_gov.mass.core_settings import CoreSettings, read_core_settings
from mass_gov.mass.rivals.answering import posable
from mass_gov.mass.rivals.catalogue import BASE, Budget, Spec, find
from mass_gov.mass.rivals.values import Setup, Surroundings

_FEW, _MORE = 1, 3
MOST_VOTES = 1024
_EXACTNESS = 16


@dataclass(frozen=True)
class Fitted:
    """A setup, the field that was tuned ('' for none) and, where votes were fitted, what they are equal to."""

    setup: Setup
    tuned: str = ""
    equal_to: str = ""


class Fitting:
    """Finds settings; remembers what MASS spends."""

    def __init__(
        self,
        given: Setup,
        fixed: Collection[str],
        seed: int,
        validation: Evaluation | None,
        surroundings: Surroundings,
        engines: Engines,
    ) -> None:
        self._seed, self._validation = seed, validation
        self._surroundings, self._engines = surroundings, engines
        self.reference = next((name for name in ("mass-gold", "mass-verifier") if engines.weights.has(name)), "tt-ss")
        self._setup, self._fixed = given, fixed
        self._spent: dict[Budget, float] | None = None

    def spent(self, flops: float, tokens: float) -> None:
        """Take note of what the reference spent per task."""
        self._spent = {"flops": flops, "tokens": tokens}

    def fit(self, spec: Spec, first_batch: Sequence[str]) -> Fitted:
        """The settings for one method."""
        fitted = Fitted(spec.setup(self._given(spec)))
        if spec.budget is not None:
            votes = self._votes(spec, spec.budget, fitted.setup, first_batch)
            fitted = Fitted(replace(fitted.setup, votes=votes), equal_to=f"{spec.budget} of {self.reference}")
        if spec.tuned is not None and self._validation is not None:
            fitted = self._tune(spec, fitted, self._validation, *spec.tuned)
        return fitted

    def _given(self, spec: Spec) -> Setup:
        """The setup with the sampling of the method's own core, or with as much of it as the reference's."""
        own = self._core(spec.weights) if spec.weights != BASE else None
        if own is not None:
            return _like_the_core(self._setup, self._fixed, own)
        other = self._core(find(self.reference).weights)
        return self._setup if other is None else _like_the_core(self._setup, {*self._fixed, "temperature"}, other)

    def _core(self, name: str) -> CoreSettings | None:
        weights = self._engines.weights
        return read_core_settings(weights.of(name)) if weights.has(name) else None

    def _tune(self, spec: Spec, fitted: Fitted, validation: Evaluation, field: str, values: Sequence[float]) -> Fitted:
        engine = self._engines.open(spec.weights)
        best, found = -1, fitted.setup
        for value in values:
            setup = replace(fitted.setup, **{field: value})  # type: ignore[arg-type]  # a number field, by catalogue
            replies = spec.run(engine, validation.questions, setup, self._seed, self._surroundings)
            right = validation.grade(replies.answers).count("right")
            if right > best:
                best, found = right, setup
        return replace(fitted, setup=found, tuned=field)

    def _votes(self, spec: Spec, budget: Budget, setup: Setup, questions: Sequence[str]) -> int:
        if self._spent is None:
            reference = find(self.reference)
            self._spent = self._cost(reference, reference.setup(self._given(reference)), questions)
        few, more = (self._cost(spec, replace(setup, votes=k), questions)[budget] for k in (_FEW, _MORE))
        each = (more - few) / (_MORE - _FEW)
        fixed = few - _FEW * each
        votes = max(1, min(MOST_VOTES, int((self._spent[budget] - fixed) / each))) if each > 0 else 1
        return self._within(spec, budget, setup, questions, votes)

    def _within(self, spec: Spec, budget: Budget, setup: Setup, questions: Sequence[str], votes: int) -> int:
        """As many votes as really fit: a batch waits for its longest row, so cost is no line."""
        allowed = (self._spent or {})[budget]
        fits, exceeds = 1, MOST_VOTES + 1
        while exceeds - fits > max(1, fits // _EXACTNESS):
            if self._cost(spec, replace(setup, votes=votes), questions)[budget] <= allowed:
                fits = max(fits, votes)
            else:
                exceeds = votes
            votes = (fits + exceeds) // 2
        return fits

    def _cost(self, spec: Spec, setup: Setup, questions: Sequence[str]) -> dict[Budget, float]:
        """Per task, on these questions."""
        engine = self._engines.open(spec.weights)
        questions = [question for question in questions if posable(engine, question, setup)]
        if not questions:
            return {"flops": 0.0, "tokens": 0.0}
        with engine.meter() as cost:
            spec.run(engine, questions, setup, self._seed, self._surroundings)
        return {"flops": cost.flops / len(questions), "tokens": cost.generated_tokens / len(questions)}


def _like_the_core(given: Setup, fixed: Collection[str], core: CoreSettings) -> Setup:
    learned = {
        "samples": core.samples,
        "temperature": core.sampling.temperature,
        "practice_tokens": core.sampling.max_new_tokens,
    }
    wanted = {name: value for name, value in learned.items() if name not in fixed}
    return replace(given, **wanted)  # type: ignore[arg-type]  # names and types are those of Setup
