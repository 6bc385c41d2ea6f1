"""Part of a verification, fast: hashes, order and tree alone, or every signature as well.

Numbers as in `mass_gov.flows.audit`. `tree` looks at (3) the order of events, (4) all of the tree, and (5) what every
signed head says, with the signature of the newest: which covers every leaf below it. `signatures` checks the signature
of every event and of every head too, in as many processes as are asked for. Neither reads what an event says, and the
report names all that was left out. The first wrong index is the one that the whole verification names for a row that
was edited, deleted, moved or inserted.

Memory is flat: events pass in blocks, and what processes find comes back in the order of the log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mass_gov.errors import IntegrityError
from mass_gov.evidence.checkpoint import read_checkpoint
from mass_gov.evidence.keyring import KeyRing, verify_head
from mass_gov.evidence.merkle import Frontier
from mass_gov.flows.audit_report import Findings
from mass_gov.flows.audit_signatures import Signed, check_signatures
from mass_gov.flows.audit_tree import TreeCheck
from mass_gov.ledger import RawLedger
from mass_gov.ledger.address import Address
from mass_gov.ledger.schema import log_events

Only = Literal["tree", "signatures"]
"""How much of a verification is wanted, where not all of it is."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is wanted of a verification.

    Attributes:
        address: of the database, for other processes.
        only: how deep.
        processes: how many check signatures; 1 checks them in this one.
    """

    address: Address
    only: Only
    processes: int = 1


BLOCK = 1024
"""Events at a time: long enough to hash at full speed, short enough for 64 MiB of the largest leaves."""

_LEFT_OUT = (7, 8, 9, 10, 11)


class LogScan:
    """One pass over the rows of the log."""

    def __init__(self, raw: RawLedger, findings: Findings, keys: KeyRing, origin: str, frontier: Frontier) -> None:
        self._raw, self._findings, self._keys, self._origin = raw, findings, keys, origin
        self._frontier = frontier
        self._tree = TreeCheck(raw, findings, frontier)
        self._heads: Iterator[tuple[Any, ...]] = raw.checkpoints()
        self._head: tuple[Any, ...] | None = next(self._heads, None)
        self._last: tuple[int, bytes] | None = None

    def run(self, sizes: Collection[int], roots: dict[int, bytes]) -> None:
        """Check every row; put the roots that the leaves give at `sizes` into `roots`."""
        total, start = self._raw.count(log_events), 0
        wanted = sorted(sizes)
        for rows in self._raw.event_blocks(BLOCK):
            self._findings.checked(3, total, len(rows))
            self._findings.checked(4, total, len(rows))
            self._findings.count("events", len(rows))
            found = self._tree.block(start, rows)
            self._check_heads(start, found)
            roots |= {size: found[size - start - 1] for size in wanted if start < size <= start + len(rows)}
            start += len(rows)

    def ends(self, newest: bool) -> None:
        """(4) No node stands where none can be; (5) the last event has a head, verified if `newest`; none is beyond."""
        with self._findings.guard(4, "log_nodes"):
            self._tree.ends()
        size = self._frontier.size
        if self._last is None or self._last[0] != size:
            self._findings.wrong(5, f"log_checkpoints row {size}", "the end of the log has no signed head")
        elif newest:
            with self._findings.guard(5, f"log_checkpoints row {size}, note", size - 1):
                verify_head(self._last[1], self._origin, self._keys)
        while self._head is not None:
            self._findings.wrong(5, f"log_checkpoints row {self._head[0]}", "its size is not one that the log had")
            self._head = next(self._heads, None)

    def _check_heads(self, start: int, roots: Sequence[bytes]) -> None:
        """(5) A stored head says the root of its size. Who signed it is another question."""
        end = start + len(roots)
        while self._head is not None and isinstance(self._head[0], int) and self._head[0] <= end:
            size, note = self._head
            self._findings.checked(5)
            self._findings.count("checkpoints")
            with self._findings.guard(5, f"log_checkpoints row {size}, note", size - 1):
                if not isinstance(note, bytes):
                    raise IntegrityError("It is not bytes. Restore it.")
                said = read_checkpoint(note)
                root = roots[size - start - 1] if size > start else None
                if (said.origin, said.size, said.root) != (self._origin, size, root):
                    raise IntegrityError(f"It is no head of this log at size {size}. Restore the genuine log.")
                self._last = (size, note)
            self._head = next(self._heads, None)


def scan(
    raw: RawLedger,
    part: Part,
    signed: Signed,
    frontier: Frontier,
    findings: Findings,
    sizes: Collection[int],
    roots: dict[int, bytes],
) -> None:
    """Check the log's rows, and with `signatures` who signed them.

    Arguments:
        signed: the log's origin and its keys; learns those that the log names.
        sizes, roots: the roots that the leaves give at `sizes` are put into `roots`.
    """
    with findings.guard(2, "log_keys"):
        raw.learn_keys(signed.keys)
    log = LogScan(raw, findings, signed.keys, signed.origin, frontier)
    with findings.guard(3, "log_events"):
        log.run(sizes, roots)
    with findings.guard(5, "log_checkpoints"):
        log.ends(newest=part.only == "tree")
    if part.only == "signatures":
        check_signatures(raw, part.address, signed, frontier.size, findings, part.processes)
        findings.skipped(3, "only order and signatures were looked at, not what events say")
    else:
        findings.skipped(3, "only their order was looked at, not who signed each of them nor what they say")
        findings.skipped(5, "of all but the newest head only size and root were compared, not who signed it")
    for step in _LEFT_OUT:
        findings.skipped(step, f"it was not asked for (--only {part.only})")
