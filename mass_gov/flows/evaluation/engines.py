"""The models of an evaluation, one open at a time: eight billion parameters twice would not fit.

Does not know methods.
"""

from __future__ import annotations

from mass_gov.flows.evaluation.weights import Weights
from mass_gov.mass.batched_learner import BatchedLearner
from mass_gov.mass.rivals.catalogue import BASE
from mass_gov.mass.values import LoraSettings


class Engines:
    """Opens model folders by name; opening another one lets the last go."""

    def __init__(self, weights: Weights, threads: int) -> None:
        self.weights = weights
        self._threads = threads
        self._open: tuple[str, BatchedLearner] | None = None

    def open(self, name: str) -> BatchedLearner:
        """The model of this name. Raises ModelError where it is missing or cannot be loaded."""
        if self._open is None or self._open[0] != name:
            self._open = None  # before the next one is loaded
            learner = BatchedLearner.open(self.weights.of(name), threads=self._threads)
            if name == BASE and learner.core is not None:  # the base is the model without what was learned beside it
                learner = BatchedLearner(learner.model, learner.text, None, LoraSettings())
            self._open = name, learner
        return self._open[1]
