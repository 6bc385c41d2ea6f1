"""What the server counts, for Prometheus: one catalogue, which docs/reference/metrics.md is held to.

Rules: a label is a word of a fixed set (a route's template, a status, a verdict), never an id, a name of a person or a
text. What is read from the ledger is read when somebody asks, and left out where it cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mass_gov import __version__
from mass_gov.errors import MassGovError
from mass_gov.executors.pool import Pool
from mass_gov.ledger import Ledger
from mass_gov.records.asked import Given

PREFIX = "mass_gov_"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

GAUGES: dict[str, str] = {
    "queue_waiting": "Orders that wait for a learner.",
    "queue_running": "Orders that a learner is on.",
    "queue_limit": "Orders that may wait; the next one is answered 429.",
    "learner_ready": "1 where a learner is open and takes orders.",
    "ready": "1 where /readyz would say so.",
    "log_events": "Events in the log.",
    "changes_held": "Changes that wait for a person.",
    "frozen": "1 where learning is frozen for the deployment that is served.",
}
"""Read when /metrics is asked."""


class Metrics:
    """Counters of one server; it is the pool's watcher too."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("http_requests", "Requests by route and status.", "method", "route", "status")
        self.seconds = self._histogram("http_request_seconds", "How long requests took, by route.", "route")
        self.answers = self._counter("answers", "Answers by whose they are.", "served")
        self.changes = self._counter("changes", "Changes made over HTTP, by scope and verdict.", "scope", "verdict")
        self.restarts = self._counter("learner_restarts", "Learner processes that died and were started again.")
        self.given_up = self._counter("orders_given_up", "Orders whose caller went away undecided.", "where")
        self._counter("build", "Always 0; the label is the version.", "version").labels(__version__)

    def answered(self, given: Given) -> None:
        """Count an answer, and the change behind it where it is new."""
        self.answers.labels(given.served if given.recorded else "unrecorded").inc()
        if given.verdict is not None and not given.repeated:
            self.changes.labels(given.scope or "instance", given.verdict).inc()

    def restarted(self) -> None:
        """Count a learner that died."""
        self.restarts.inc()

    def cancelled(self, where: str) -> None:
        """Count an order that was given up."""
        self.given_up.labels(where).inc()

    def read(self, gauges: Callable[[], dict[str, float]]) -> None:
        """Say where the gauges are read."""
        self.registry.register(_Gauges(gauges))

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, means: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, means, labels, registry=self.registry)

    def _histogram(self, name: str, means: str, *labels: str) -> Histogram:
        return Histogram(PREFIX + name, means, labels, registry=self.registry, buckets=_SECONDS)


class _Gauges(Collector):
    """Asked anew each time."""

    def __init__(self, read: Callable[[], dict[str, float]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """The gauges that can be read."""
        for name, value in self._read().items():
            yield GaugeMetricFamily(PREFIX + name, GAUGES[name], value=value)

    def describe(self) -> Iterable[Metric]:
        """None beforehand: reading costs a query."""
        return ()


def gauges_of(ledger: Ledger, pool: Pool | None, place: tuple[str, str], ready: bool) -> dict[str, float]:
    """Read the gauges; what the ledger cannot say is left out."""
    found: dict[str, float] = {"ready": float(ready)}
    if pool is not None:
        found |= {
            "queue_waiting": pool.waiting,
            "queue_running": pool.running,
            "queue_limit": pool.limit,
            "learner_ready": float(pool.ready),
        }
    with suppress(MassGovError):
        found |= {
            "log_events": ledger.latest_checkpoint().size,
            "changes_held": ledger.count_changes("held"),
            "frozen": float(ledger.frozen(*place) is not None),
        }
    return found
