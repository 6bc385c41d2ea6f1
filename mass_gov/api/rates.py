"""How often somebody may ask: a token bucket for each principal, in memory, of this process alone."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST = 10_000
"""Buckets that are kept; the one that was not asked for longest goes first. By then it is full again, or nearly."""


class Rates:
    """Token buckets by name.

    Arguments:
        per_second: how fast a bucket fills.
        burst: how much it holds.
        clock: seconds, monotonic.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._burst, self._clock = per_second, float(burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, name: str) -> float:
        """Take one from the bucket of `name`. Returns 0, or the seconds until there is one again."""
        with self._lock:
            now = self._clock()
            left, at = self._buckets.pop(name, (self._burst, now))
            left = min(self._burst, left + (now - at) * self._per_second)
            allowed = left >= 1
            self._buckets[name] = (left - 1 if allowed else left, now)
            if len(self._buckets) > _MOST:
                self._buckets.popitem(last=False)
            return 0.0 if allowed else (1 - left) / self._per_second
