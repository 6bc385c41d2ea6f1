"""Every signature of a log, over as many processes as are wanted.

Rules: a short log is checked by this process alone, whatever was asked for. Of a long one, a process opens the ledger
for itself, reading only, and takes runs of consecutive rows; what it finds comes back in the order of the log, so that
the first fault is the same whoever was faster. Processes are started anew and not forked, so that no lock, connection
or key of this one is inherited: what verifies needs no secret. Rows that are added meanwhile are not looked at; those
below the size that was scanned cannot change without being a fault.

This module does not know the tree, nor what a leaf says.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

from mass_gov.errors import LedgerUnavailableError, MassGovError
from mass_gov.evidence.keyring import KeyRing, verify_head
from mass_gov.evidence.signing import parse_spki
from mass_gov.flows.audit_report import ODD_BYTES, Findings
from mass_gov.ledger import RawLedger
from mass_gov.ledger.address import Address
from mass_gov.ledger.entries import check_signatures as check_leaf
from mass_gov.ledger.entries import not_simply_signed

RUN = 4096
"""Events in one run: a fraction of a second's work, so that no process is idle for long at the end."""
BLOCK = 128
"""Leaves that are taken apart before their signatures are verified."""
PARALLEL_FROM = 50_000
"""Events below which one process is quicker: to start another takes about as long as 10,000 signatures."""


@dataclass(frozen=True, slots=True)
class Signed:
    """By whom a log is signed: its origin, and its keys as far as they are known."""

    origin: str
    keys: KeyRing


@dataclass(frozen=True, slots=True)
class _Found:
    """One run: how many signed things it had, and (step, place, index, what) of each that does not hold."""

    events: int
    heads: int
    faults: list[tuple[int, str, int, str]]


def check_signatures(
    raw: RawLedger, address: Address, signed: Signed, size: int, findings: Findings, processes: int
) -> None:
    """(3), (5) Check who signed each event and each head up to `size`.

    Raises:
        LedgerUnavailableError: another process cannot open the ledger.
    """
    for found in _runs(raw, address, signed, size, processes):
        findings.count("signatures", found.events + found.heads)
        for step, where, index, what in found.faults:
            findings.wrong(step, where, what, index)


def _runs(raw: RawLedger, address: Address, signed: Signed, size: int, processes: int) -> Iterator[_Found]:
    starts = [(start, min(start + RUN, size)) for start in range(0, size, RUN)]
    if processes <= 1 or size < PARALLEL_FROM:
        for start, stop in starts:
            yield _look(raw, signed, start, stop)
        return
    workers = ProcessPoolExecutor(
        min(processes, len(starts)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(address, signed.origin, signed.keys.at(0).spki),
    )
    with workers:
        try:
            yield from workers.map(_look_there, starts)
        except BrokenProcessPool as error:
            raise LedgerUnavailableError(
                "A process that checked signatures ended before it was done. Verify again, with --processes 1."
            ) from error


def _look(raw: RawLedger, signed: Signed, start: int, stop: int) -> _Found:
    """One run: events `start` to before `stop`, and the heads that end with one of them."""
    faults: list[tuple[int, str, int, str]] = []
    events = heads = 0
    leaves = raw.leaves(start, stop)
    while block := list(islice(leaves, BLOCK)):
        events += len(block)
        rows = [(index, leaf) for index, leaf in block if isinstance(leaf, bytes) and isinstance(index, int)]
        for index, leaf in not_simply_signed(rows, signed.keys):
            if what := _event_fault(index, leaf, signed):
                faults.append((3, f"log_events row {index}, leaf", index, what))
    for size, note in raw.notes(start + 1, stop + 1):
        heads += 1
        if isinstance(note, bytes) and isinstance(size, int) and (what := _head_fault(note, signed)):
            faults.append((5, f"log_checkpoints row {size}, note", size - 1, what))
    return _Found(events, heads, faults)


def _event_fault(index: int, leaf: bytes, signed: Signed) -> str | None:
    try:
        check_leaf(index, leaf, signed.keys)
    except MassGovError as error:
        return str(error)
    except ODD_BYTES as error:
        return f"it cannot be read ({type(error).__name__}: {str(error)[:200]}). Restore it."
    return None


def _head_fault(note: bytes, signed: Signed) -> str | None:
    try:
        verify_head(note, signed.origin, signed.keys)
    except MassGovError as error:
        return str(error)
    except ODD_BYTES as error:
        return f"it cannot be read ({type(error).__name__}: {str(error)[:200]}). Restore it."
    return None


class _Process:
    """What a process keeps between runs: its own snapshot of the ledger."""

    raw: RawLedger
    signed: Signed
    open_files = ExitStack()


def _begin(address: Address, origin: str, first_key: bytes) -> None:
    _Process.raw = _Process.open_files.enter_context(RawLedger.open(address))
    _Process.signed = Signed(origin, KeyRing(parse_spki(first_key)))
    try:
        _Process.raw.learn_keys(_Process.signed.keys)
    except MassGovError:
        return  # whoever started this process has named that fault; what it hid is refused here


def _look_there(run: tuple[int, int]) -> _Found:
    return _look(_Process.raw, _Process.signed, *run)
