"""The log over HTTP: its signed head, proofs, and all of it as a stream that ends with its own proof.

Heads and proofs say nothing of what the events are, so any reader may have them; a copy of the log is everybody's
events, and takes a caller who is let into every tenant.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from mass_gov.api.access import Caller, Route, may
from mass_gov.api.inputs import Index
from mass_gov.api.problems import Problem, absent
from mass_gov.api.schemas import gives
from mass_gov.api.service import Serving
from mass_gov.api.shapes import Checkpoint, Consistency, Inclusion
from mass_gov.flows.heads import cosigned_head, prove_event, prove_growth
from mass_gov.flows.log_export import csv_lines, export_lines

router = APIRouter(route_class=Route, prefix="/log", tags=["log"])
Reader = Annotated[Caller, Depends(may("read"))]
Exporter = Annotated[Caller, Depends(may("export"))]
_CHUNK = 256 * 1024
"""Bytes of a piece of an export: each is made in another thread than the one that sends it."""
_MEDIA = {"ndjson": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}


@router.get("/checkpoint", **gives(Checkpoint))
def checkpoint(service: Serving, _: Reader, size: Index | None = None) -> dict[str, Any]:
    """Get a signed head with the cosignatures that are kept; by default the newest."""
    head = cosigned_head(service.ledger, size)
    return {"origin": head.origin, "size": head.size, "root": head.root, "note": head.note.decode("utf-8")}


@router.get("/inclusion", **gives(Inclusion))
def inclusion(index: Index, service: Serving, caller: Reader, size: Index | None = None) -> dict[str, Any]:
    """Prove that an event stands in the log: its leaf, and a C2SP tlog-proof."""
    entry = service.ledger.entry(index)
    caller.insist(entry.predicate.tenant)
    proof = prove_event(service.ledger, index, size).decode("utf-8")
    return {"index": index, "leaf_hash": entry.leaf_hash, "leaf": entry.leaf.decode("utf-8"), "proof": proof}


@router.get("/consistency", **gives(Consistency))
def consistency(
    service: Serving, _: Reader, old: Annotated[Index, Query(alias="from")], size: Index | None = None
) -> dict[str, Any]:
    """Prove that the log only grew since it had so many events."""
    head = cosigned_head(service.ledger, size)
    if old > head.size:
        raise absent()
    proof = prove_growth(service.ledger, old, head.size).decode("utf-8")
    old_root = service.ledger.root_at(old).hex()
    return {"from": old, "from_root": old_root, "size": head.size, "root": head.root, "proof": proof}


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {}, "text/csv": {}}, "description": "One event a line."}},
)
def export(
    service: Serving,
    caller: Exporter,
    form: Annotated[Literal["ndjson", "csv"], Query(alias="format")] = "ndjson",
    artifacts: Annotated[bool, Query(description="NDJSON with the sealed artifacts.")] = False,
) -> StreamingResponse:
    """Get the whole log, one event a line; the last line says how many, their root and its signed head.

    A stream without that line is not whole. Of CSV, the last column has each leaf's hash and then the closing line.
    """
    if caller.identity.tenants is not None:
        raise Problem("forbidden", "The log is everybody's, and you are let into some tenants alone.")
    lines = csv_lines(service.ledger) if form == "csv" else export_lines(service.ledger, artifacts=artifacts)
    return StreamingResponse(_chunks(lines), media_type=_MEDIA[form])


def _chunks(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines in pieces that are worth sending."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= _CHUNK:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)
