"""Whether the server lives, whether it is ready, and what it counts: `/healthz`, `/readyz`, `/metrics`.

Rules: `/healthz` asks nothing of anybody, so that it answers while everything else is busy. `/readyz` says no until the
log was verified at start, and whenever the ledger cannot be written, the keys are not at hand, or no learner takes
orders; it names which, and neither contents nor paths: what exactly is wrong stands in the server's log. Both are open
to whoever can reach the port; `/metrics` takes a role that reads. None of them is part of the OpenAPI document, which
describes `/v1`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from mass_gov.api.access import Caller, may
from mass_gov.api.service import Service, Serving
from mass_gov.errors import MassGovError
from mass_gov.evidence.keystore import SYSTEM_SUBJECT, KeyStore

router = APIRouter(tags=["operations"])
_FRESH = 1.0
"""Seconds for which a look at the ledger counts: a flood of probes does not compete with writers."""
_log = logging.getLogger("mass_gov.health")


class Checks(BaseModel):
    """What is ready: each true, or why not."""

    ledger: str
    keys: str
    log: str
    learner: str


class Ready(BaseModel):
    """Whether requests should come here."""

    ready: bool
    checks: Checks


class Verification:
    """The log's verification at start, in a thread of its own.

    Arguments:
        verify: returns what is wrong, None where nothing is.
    """

    def __init__(self, verify: Callable[[], str | None]) -> None:
        self.said = "it is being verified"
        self._verify = verify
        self._thread = threading.Thread(target=self._run, name="verification", daemon=True)
        self._thread.start()

    @property
    def holds(self) -> bool:
        """Whether it was found intact."""
        return self.said == OK

    def wait(self) -> None:
        """Wait until it is known."""
        self._thread.join()

    def _run(self) -> None:
        try:
            wrong = self._verify()
        except Exception as error:  # whatever keeps it from being verified keeps the server from being ready
            wrong = f"it cannot be verified ({type(error).__name__}): see the server's log"
            _log.error("log not verified: %s", error if isinstance(error, MassGovError) else type(error).__name__)
        _log.info("log verified" if wrong is None else "log not verified", extra={"holds": wrong is None})
        self.said = OK if wrong is None else wrong


OK = "ok"


class LedgerProbe:
    """Whether the ledger can be written just now, as last seen."""

    def __init__(self, probe: Callable[[], None]) -> None:
        self._probe, self._said, self._at, self._lock = probe, OK, -_FRESH, threading.Lock()

    def __call__(self) -> str:
        """`ok`, or why not."""
        with self._lock:
            if time.monotonic() - self._at >= _FRESH:
                try:
                    self._probe()
                    self._said = OK
                except MassGovError as error:
                    self._said = type(error).__name__
                self._at = time.monotonic()
            return self._said


def readiness(service: Service) -> Ready:
    """Look at everything that an adaptation needs."""
    keys = _keys(service.ledger.keys)
    log = service.verification.said if service.verification is not None else "it is not verified here"
    checks = Checks(ledger=service.probe(), keys=keys, log=log, learner=_learner(service))
    return Ready(ready=all(said == OK for said in checks.model_dump().values()), checks=checks)


def _keys(keys: KeyStore | None) -> str:
    """Whether reasons and policies could be sealed just now: the folder may have gone since the start."""
    if keys is None:
        return "none are at hand"
    try:
        keys.subject_key(SYSTEM_SUBJECT)
    except MassGovError as error:
        return type(error).__name__
    return OK


def _learner(service: Service) -> str:
    if service.answering is None:
        return OK  # a server of the audit API alone: it is ready for that
    pool = service.answering.pool
    if pool.ready:
        return OK
    return "it is being opened" if pool.open and pool.fault is None else pool.fault or "the server is about to stop"


@router.get("/healthz")
async def alive() -> dict[str, bool]:
    """That the process answers."""
    return {"alive": True}


@router.get("/readyz", response_model=Ready, responses={503: {"model": Ready}})
def ready(service: Serving) -> Response:
    """Whether requests should come here; 503 names what is not ready."""
    found = readiness(service)
    return JSONResponse(found.model_dump(), 200 if found.ready else 503, None if found.ready else {"Retry-After": "5"})


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(service: Serving, caller: Annotated[Caller, Depends(may("read"))]) -> Response:
    """Counters and gauges in Prometheus' text format; docs/reference/metrics.md lists them."""
    return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
