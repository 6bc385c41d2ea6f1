"""What the routes of one server share: the open ledger, who is let in, the limits, and the ports to what learns."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from fastapi import Depends, Request

from mass_gov.api.access import Authenticator, LedgerTokens
from mass_gov.api.metrics import Metrics
from mass_gov.api.rates import Rates
from mass_gov.ledger import Ledger
from mass_gov.records.events import Actor

if TYPE_CHECKING:
    from mass_gov.api.answering import Answering
    from mass_gov.api.health import Verification


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller may ask for.

    Attributes:
        body_bytes: of a request's body.
        body_seconds: from a request's headers to the end of its body.
        per_second, burst: requests of one principal, and of one address that shows no good token.
    """

    body_bytes: int = 1024 * 1024
    body_seconds: float = 30.0
    per_second: float = 50.0
    burst: int = 200


class Replayer(Protocol):
    """The seam to whatever runs the learner: computes a recorded change or answer again, and records that it did."""

    def replay(self, target: str, start: str, actor: Actor) -> dict[str, Any]:
        """Replay a change or a response and return the document that `mass-gov replay --json` prints.

        Arguments:
            target: id of a change or a response that the caller may see.
            start: `delta`, `samples` or `scratch`.
            actor: who asked, in a role that may.

        Raises:
            MassGovError: as the flow does; a full queue is a `Problem("too-many-requests")` with `Retry-After`.
        """


@dataclass(frozen=True)
class Service:
    """Everything that a route may use. Make one with `Service.of`."""

    ledger: Ledger
    authenticator: Authenticator
    limits: Limits
    rates: Rates
    cursor_key: bytes = field(repr=False)
    replayer: Replayer | None = None
    answering: Answering | None = None
    """What answers problems; None where this server runs no learner."""
    verification: Verification | None = None
    """The log's verification at start."""
    probe: Callable[[], str] = lambda: "it is not looked at here"
    """Whether the ledger can be written: `ok`, or why not."""
    metrics: Metrics = field(default_factory=Metrics)
    retention_days: int | None = None
    """How long sealed logs are kept, as whoever runs the server set it; None where that is not known."""
    reporting: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Held while a report is made."""

    @classmethod
    def of(
        cls,
        ledger: Ledger,
        *,
        limits: Limits | None = None,
        authenticator: Authenticator | None = None,
        replayer: Replayer | None = None,
        **operations: Any,
    ) -> Service:
        """A service on an open ledger; who is let in is by default whoever shows a token of the ledger.

        Arguments:
            operations: further fields of the service.
        """
        chosen = limits or Limits()
        return cls(
            ledger,
            authenticator or LedgerTokens(ledger),
            chosen,
            Rates(chosen.per_second, chosen.burst),
            _cursor_key(ledger),
            replayer,
            **operations,
        )

    def close(self) -> None:
        """Let what is under way finish, then close the ledger."""
        if self.answering is not None:
            self.answering.pool.close()
        self.ledger.close()


def _cursor_key(ledger: Ledger) -> bytes:
    """The same in every process of a ledger and after a restart; of this process alone where no keys are at hand."""
    if ledger.keys is None:
        return secrets.token_bytes(32)
    return hashlib.sha256(ledger.keys.request_commitment(b"api cursor\0").encode()).digest()


async def service_of(request: Request) -> Service:  # async: FastAPI sends everything else to a thread
    """The service of the app that a request came to."""
    found: Service = request.app.state.service
    return found


Serving = Annotated[Service, Depends(service_of)]
"""For a route's arguments."""
