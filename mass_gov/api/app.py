"""The app: routes, problems and guards put together around one `Service`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import APIRouter, FastAPI
from starlette.concurrency import run_in_threadpool

from mass_gov import __version__
from mass_gov.api import changes, chat, decisions, health, incidents, log, problems, records, reports, schemas, standing
from mass_gov.api.access import PREFIX
from mass_gov.api.guard import Guard
from mass_gov.api.openapi import described
from mass_gov.api.service import Service
from mass_gov.api.watch import Watch

DESCRIPTION = """Every test-time update of a model as a change event: read, decided, exported and proven.

Lists come in the order of the log. A page ends with `next`, the cursor of the one after it; cursors are opaque.
Problems are RFC 9457; their types are listed in docs/reference/problems.md."""


def create_app(service: Service, *routers: APIRouter) -> FastAPI:
    """Return the app of a service, with routers of other doors' own beside the audit API's."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.close)

    app = FastAPI(
        title="mass-gov",
        version=__version__,
        description=DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    app.openapi = partial(described, app)  # type: ignore[method-assign]  # as FastAPI says to
    app.state.service = service
    problems.install(app)
    own = (changes, decisions, records, standing, log, incidents, reports, chat)
    for router in (*(one.router for one in own), *routers):
        app.include_router(router, prefix=PREFIX, responses=schemas.problems())
    app.include_router(health.router, include_in_schema=False)
    app.state.queries = _queries(app)
    limits = service.limits
    app.add_middleware(Guard, body_bytes=limits.body_bytes, body_seconds=limits.body_seconds)
    app.add_middleware(Watch, metrics=service.metrics)
    return app


def _queries(app: FastAPI) -> dict[tuple[str, str], set[str]]:
    """The query parameters that each operation takes, by path (as its route says it, without `/v1`) and method."""
    taken = {}
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            names = {one["name"] for one in operation.get("parameters", []) if one["in"] == "query"}
            taken[path.removeprefix(PREFIX), method.upper()] = names
    return taken
