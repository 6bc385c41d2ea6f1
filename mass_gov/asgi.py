"""The HTTP server's app from the settings, with the learner's processes behind it.

`mass-gov serve` runs it; `uvicorn --factory mass_gov.asgi:make_app` does too, without draining at the first signal.
"""

from __future__ import annotations

import gc
from functools import partial
from importlib.util import find_spec

from fastapi import FastAPI

from mass_gov.api import Service, create_app
from mass_gov.api.answering import Answering
from mass_gov.api.health import LedgerProbe, Verification, readiness
from mass_gov.api.metrics import Metrics, gauges_of
from mass_gov.config import Settings, load_settings
from mass_gov.executors.pool import Pool
from mass_gov.flows.audit import verify
from mass_gov.ledger import Ledger
from mass_gov.wiring import open_ledger
from mass_gov.worker import learning


def make_app(settings: Settings | None = None) -> FastAPI:
    """Open the ledger that the settings name, and return the app on it; the app closes it when it stops.

    Raises:
        MassGovError: there is no ledger, or it cannot be written.
    """
    return create_app(make_service(settings or load_settings()))


def make_service(settings: Settings) -> Service:
    """Open everything that the app stands on: the ledger, its verification, the learner's processes.

    Raises:
        MassGovError: as `make_app`.
    """
    ledger, metrics = open_ledger(settings), Metrics()
    verification = Verification(partial(_wrong, ledger, settings))
    pool, place = _pool(settings, metrics), (settings.tenant, settings.deployment)
    unrecorded = settings.serve_outage == "unrecorded"
    answering = Answering(pool, *place, unrecorded, lambda: verification.holds) if pool is not None else None
    service = Service.of(
        ledger,
        replayer=answering,
        answering=answering,
        verification=verification,
        probe=LedgerProbe(ledger.insist_writable),
        metrics=metrics,
        retention_days=settings.retention_days,
    )
    metrics.read(lambda: gauges_of(ledger, pool, place, readiness(service).ready))
    return service


def keep_out_of_collections() -> None:
    """Take what stands by now, the program itself above all, out of what the garbage collector looks through.

    To look through all of it takes some 70 ms, in which nobody is answered (docs/explanation/what-the-api-costs.md).
    """
    gc.collect()
    gc.freeze()


def _pool(settings: Settings, metrics: Metrics) -> Pool | None:
    """The learner's processes; None where the settings want none, or its packages are not installed."""
    if settings.serve_learners == 0 or find_spec("torch") is None:
        return None
    opening = partial(learning, settings)
    return Pool(opening, processes=settings.serve_learners, waiting=settings.serve_queue, watcher=metrics)


def _wrong(ledger: Ledger, settings: Settings) -> str | None:
    """The first wrong thing of the log; None where what was asked for was checked and holds."""
    part = None if settings.serve_verify == "all" else settings.serve_verify
    report = verify(ledger, only=part)
    if report.first_wrong is not None:
        return "it does not verify: run `mass-gov verify`"
    return "it cannot be checked by this release" if report.cannot_check else None
