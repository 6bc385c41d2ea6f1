"""Order and tree: what the leaves alone give, beside what is stored. Steps (3) and (4) of `mass_gov.flows.audit`.

Rules: the tree is computed from the leaves and nothing else. Events are looked at one by one (`event`), or many at a
time (`block`), which gives the same faults in the same words: a block in which anything differs is looked at again one
by one. Memory holds the right edge of the tree and one row of each level of it, or a block of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from mass_gov.evidence.merkle import Frontier, Node, leaf_hash
from mass_gov.flows.audit_report import Findings
from mass_gov.ledger import RawLedger

Row = tuple[Any, ...]


class TreeCheck:
    """(3) Indexes run without a gap; (4) roots and nodes are what the leaves give. `frontier` moves along."""

    def __init__(self, raw: RawLedger, findings: Findings, frontier: Frontier) -> None:
        self._raw, self._findings, self.frontier = raw, findings, frontier
        self._levels: dict[int, Iterator[Row]] = {}

    def event(self, expected: int, row: Row) -> bytes:
        """Look at one row of `log_events`; returns its leaf, empty where it is none."""
        index, leaf, before, after = row
        if index != expected:  # (3)
            self._findings.wrong(3, f"log_events row {index}, index", f"{expected} was expected here", expected)
        if not isinstance(leaf, bytes):
            self._findings.wrong(3, f"log_events row {expected}, leaf", "it is not bytes", expected)
            leaf = b""  # counted as an empty leaf, so that the tree is seen to differ
        self._extend(expected, leaf, before, after)
        return leaf

    def block(self, start: int, rows: Sequence[Row]) -> list[bytes]:
        """Look at consecutive rows, the first of which should have the index `start`; returns the roots after each."""
        roots = self._as_stored(start, rows)
        if roots is None:
            roots = []
            for expected, row in enumerate(rows, start):
                self.event(expected, row)
                roots.append(self.frontier.root())
        return roots

    def ends(self) -> None:
        """(4) No node stands where no complete subtree is."""
        for level in self._raw.levels():
            if level not in self._levels:
                self._findings.wrong(4, f"log_nodes level {level}", "no subtree of this size is complete")
        for level, stored in self._levels.items():
            for position, _ in stored:
                self._findings.wrong(4, f"log_nodes row ({level}, {position})", "this subtree is not complete")

    def _as_stored(self, start: int, rows: Sequence[Row]) -> list[bytes] | None:
        """The roots, if all of the block is stored as the leaves give it; else None, and nothing has moved."""
        leaves = [row[1] for row in rows]
        if [row[0] for row in rows] != list(range(start, start + len(rows))) or {*map(type, leaves)} != {bytes}:
            return None
        tried, before = self.frontier.copy(), self.frontier.root()
        roots, nodes = tried.extend([leaf_hash(leaf) for leaf in leaves])
        if not self._nodes_as_stored(start, nodes):
            return None
        if [row[2] for row in rows] != [before, *roots[:-1]] or [row[3] for row in rows] != roots:
            self._put_back(start, nodes)
            return None
        self.frontier.become(tried)
        return roots

    def _nodes_as_stored(self, start: int, nodes: dict[int, list[bytes]]) -> bool:
        taken = {level: list(islice(self._level(level), len(hashes))) for level, hashes in nodes.items()}
        wanted = {level: list(enumerate(hashes, start >> level)) for level, hashes in nodes.items()}
        if taken == wanted:
            return True
        for level, rows in taken.items():
            self._levels[level] = chain(rows, self._levels[level])
        return False

    def _put_back(self, start: int, nodes: dict[int, list[bytes]]) -> None:
        """Nodes that were as they should be, for those who look one by one."""
        for level, hashes in nodes.items():
            self._levels[level] = chain(list(enumerate(hashes, start >> level)), self._levels[level])

    def _extend(self, index: int, leaf: bytes, before: object, after: object) -> None:
        """(4) Roots before and after an event, and every node that it completes, are what the leaves give."""
        if before != self.frontier.root():
            self._findings.wrong(4, f"log_events row {index}, prev_root", "the leaves before it give another", index)
        differing = [name for node in self.frontier.append(leaf_hash(leaf)) if (name := self._node_fault(node))]
        if after != self.frontier.root():
            # A leaf that neither its own node nor the root knows was changed or moved; else the root was.
            column = "leaf" if f"(0, {index})" in differing else "root"
            self._findings.wrong(4, f"log_events row {index}, {column}", "the tree was made over another event", index)
        for name in differing:
            what = "it is missing, or the leaves under it give another hash"
            self._findings.wrong(4, f"log_nodes row {name}", what, index)

    def _node_fault(self, node: Node) -> str | None:
        """The name of a stored node that is not what the leaves give; None when it is."""
        if next(self._level(node.level), None) == (node.position, node.hash):
            return None
        return f"({node.level}, {node.position})"

    def _level(self, level: int) -> Iterator[Row]:
        if level not in self._levels:
            self._levels[level] = self._raw.nodes(level)
        return self._levels[level]
