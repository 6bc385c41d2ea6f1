"""What one change takes: wall seconds by stage, and what its learner spends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mass_gov.mass.learner import Learner
from mass_gov.mass.metering import Meter


class Timed:
    """Wall seconds by stage, and the metered cost of the whole, which may come about in several parts.

    Arguments:
        wanted: asked before each stage; raises where nobody wants the rest any more.
    """

    def __init__(self, learner: Learner, wanted: Callable[[], None] | None = None) -> None:
        self._wanted = wanted
        self.seconds: dict[str, float] = {}
        self.cost = Meter()
        self._learner, self._since = learner, learner.flops

    def __enter__(self) -> Timed:
        self._since, self._meter = self._learner.flops, self._learner.meter()
        self._spent = self._meter.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._meter.__exit__(None, None, None)
        self.cost.add(self._spent)
        self._since = self._learner.flops

    @property
    def flops(self) -> int:
        """What was spent so far, up to this moment."""
        return self.cost.flops + self._learner.flops - self._since

    def took(self, name: str, seconds: float, cost: Meter) -> None:
        """Add this change's part of a stage that was computed for several at once."""
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 6)
        self.cost.add(cost)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage; what it took before is added to."""
        if self._wanted is not None:
            self._wanted()
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - started, 6)
