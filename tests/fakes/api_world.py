"""A small real ledger behind the real API: a client for each kind of caller, and one who shows nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from mass_gov.api import Limits, Service, create_app
from mass_gov.flows.principals import issue, register
from mass_gov.policy import Policy
from mass_gov.records.events import Actor
from tests.fakes.ledger_world import LedgerWorld, shipped_policy

NOBODY = Actor(principal="local", role="admin")
CARL = Actor(principal="carl", role="admin")
ROLES = {"ada": "requester", "bob": "operator", "dora": "auditor", "zoe": "operator"}
"""Who else is registered, as what; Carl is an admin, and Zoe is let into another tenant alone."""
PLENTY = Limits(per_second=1e6, burst=1_000_000)


@dataclass
class ApiWorld:
    """A ledger with principals, and the app on it."""

    world: LedgerWorld
    app: FastAPI
    tokens: dict[str, str] = field(repr=False)

    def client(self, name: str | None = "carl", **options: Any) -> TestClient:
        """A client that shows the token of a principal; of None, none."""
        headers = {"Authorization": f"Bearer {self.tokens[name]}"} if name is not None else {}
        return TestClient(self.app, headers=headers, **options)


@contextmanager
def api_world(
    folder: Path, policy: Policy | None = None, limits: Limits = PLENTY, **options: Any
) -> Iterator[ApiWorld]:
    """Make a home, register everybody, and put the app on it; closed with the ledger."""
    world = LedgerWorld.make(folder / "home", policy or shipped_policy("default"), **options)
    try:
        first = register(world.ledger, "carl", NOBODY, roles=["admin"], scopes=[]).issued
        assert first is not None
        tokens = {"carl": first.token}
        for name, role in ROLES.items():
            tenants = ["elsewhere"] if name == "zoe" else None
            register(world.ledger, name, CARL, roles=[role], scopes=["instance", "deployment"], tenants=tenants)  # type: ignore[list-item]
            tokens[name] = issue(world.ledger, name, CARL).token
        yield ApiWorld(world, create_app(Service.of(world.ledger, limits=limits)), tokens)
    finally:
        world.close()


class _NoLedger:
    keys = None


def document_without_ledger() -> dict[str, Any]:
    """The OpenAPI document."""
    return create_app(Service.of(_NoLedger())).openapi()  # type: ignore[arg-type]  # nothing is asked of it


def operations() -> list[tuple[str, str]]:
    """(method, path) of every operation of the OpenAPI document."""
    paths = document_without_ledger()["paths"]
    return sorted((method.upper(), path) for path, methods in paths.items() for method in methods)
