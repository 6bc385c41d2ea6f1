"""The process beside the HTTP server that holds the learner: what it opens, and what it does with an order.

Only `executors.worker` runs this, in a process of its own; the server imports it for its name alone. Torch is imported
when the process opens its model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mass_gov.config import Settings
from mass_gov.documents.replays import replay_document
from mass_gov.executors.worker import Work
from mass_gov.flows.expiry import Overdue
from mass_gov.ledger.ledger import SYSTEM
from mass_gov.records.asked import Asked, Given, Replay, Replayed
from mass_gov.tasks.shipped_suites import suite_bytes
from mass_gov.wiring import kept_of, open_workbench, recommended_spec

if TYPE_CHECKING:
    from mass_gov.flows.workbench import Workbench


@contextmanager
def learning(settings: Settings) -> Iterator[Work]:
    """Open model, ledger and policy once, and give what does one order after the other.

    Raises:
        MassGovError: as `wiring.open_workbench`.
    """
    bench = open_workbench(settings, recommended_spec(settings), actor=SYSTEM)
    from mass_gov.flows.asked import answer  # noqa: PLC0415 - after the bench, which says what to install

    with bench.ledger:
        bench.learner.fingerprint()  # computed once: the first request need not wait for it

        overdue = Overdue(bench.ledger)

        def work(asked: Asked, wanted: Callable[[], None]) -> Given | Replayed:
            overdue.reject()
            return _replay(asked, bench, settings) if isinstance(asked, Replay) else answer(asked, bench, wanted)

        yield work


def _replay(asked: Replay, bench: Workbench, settings: Settings) -> Replayed:
    """Replay on the same learner, with no remembered outcome taken on trust, and say in the log that it was done."""
    from mass_gov.flows.replay import record_replay, replay  # noqa: PLC0415 - torch stays off the server's side
    from mass_gov.flows.suite_runs import SuiteRunners  # noqa: PLC0415 - likewise

    fresh = SuiteRunners(bench.learner, suite_bytes, None)
    bench = dataclasses.replace(bench, actor=asked.actor, runners=fresh, kept=kept_of(settings))
    done = replay(asked.target, asked.start, bench)
    if done.compared:
        record_replay(done, bench.ledger, asked.actor)
    return Replayed(said=replay_document(done))
