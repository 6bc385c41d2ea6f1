"""The one place where the two engines write the log differently.

SQLite inserts rows; its file's permissions say who may. On PostgreSQL the application's role may not insert into the
log at all: it calls `append`, which belongs to the owner of the tables (migration 0003), once per kind of row or with
several kinds at once. Triggers check both ways alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import ARRAY, BigInteger, LargeBinary, bindparam, insert, text
from sqlalchemy.engine import Connection

from mass_gov.evidence.merkle import Node
from mass_gov.ledger.schema import artifacts, log_checkpoints, log_events, log_nodes

EventRow = tuple[int, bytes, bytes, bytes]
"""(index, leaf, prev_root, root)."""
HeadRow = tuple[int, bytes]
"""(size, note)."""


class LogWriter(Protocol):
    """How rows of the log are written, inside the caller's transaction."""

    def artifact(self, connection: Connection, digest: bytes, stored: bytes) -> None:
        """Write a sealed artifact."""

    def events(
        self, connection: Connection, events: Sequence[EventRow], nodes: Sequence[Node], head: HeadRow | None = None
    ) -> None:
        """Write events with consecutive indices, the tree nodes that they complete, and the signed head over them."""

    def checkpoint(self, connection: Connection, size: int, note: bytes) -> None:
        """Write a signed head."""


def log_writer(connection: Connection) -> LogWriter:
    """The way of the engine at hand."""
    return _CALLS if connection.dialect.name == "postgresql" else _ROWS


class _Rows:
    """Plain INSERT. Statements are made once: building one takes longer than running it."""

    _event, _node = insert(log_events), insert(log_nodes)
    _checkpoint, _artifact = insert(log_checkpoints), insert(artifacts)

    def artifact(self, connection: Connection, digest: bytes, stored: bytes) -> None:
        connection.execute(self._artifact, {"digest": digest, "stored": stored})

    def events(
        self, connection: Connection, events: Sequence[EventRow], nodes: Sequence[Node], head: HeadRow | None = None
    ) -> None:
        names = ("index", "leaf", "prev_root", "root")
        connection.execute(self._event, [dict(zip(names, row, strict=True)) for row in events])
        connection.execute(self._node, [node._asdict() for node in nodes])
        if head is not None:
            self.checkpoint(connection, *head)

    def checkpoint(self, connection: Connection, size: int, note: bytes) -> None:
        connection.execute(self._checkpoint, {"size": size, "note": note})


_ARRAYS: dict[str, ARRAY[Any]] = {
    **dict.fromkeys(("digests", "stored", "leaves", "prev_roots", "roots", "hashes"), ARRAY(LargeBinary)),
    **dict.fromkeys(("levels", "positions"), ARRAY(BigInteger)),
}
_NOTHING: dict[str, Any] = {name: [] for name in _ARRAYS} | {"first": None, "size": None, "note": None}


class _Calls:
    """`append`, with empty arrays for what a call has nothing of."""

    _append = text(
        "SELECT append(:digests, :stored, :first, :leaves, :prev_roots, :roots, :levels, :positions, :hashes, "
        ":size, :note)"
    ).bindparams(
        *(bindparam(name, type_=kind) for name, kind in _ARRAYS.items()),
        bindparam("first", type_=BigInteger()),
        bindparam("size", type_=BigInteger()),
        bindparam("note", type_=LargeBinary()),
    )

    def artifact(self, connection: Connection, digest: bytes, stored: bytes) -> None:
        self._call(connection, digests=[digest], stored=[stored])

    def events(
        self, connection: Connection, events: Sequence[EventRow], nodes: Sequence[Node], head: HeadRow | None = None
    ) -> None:
        size, note = head if head is not None else (None, None)
        indices, leaves, prev_roots, roots = (list(column) for column in zip(*events, strict=True))
        self._call(
            connection,
            first=indices[0],
            leaves=leaves,
            prev_roots=prev_roots,
            roots=roots,
            levels=[node.level for node in nodes],
            positions=[node.position for node in nodes],
            hashes=[node.hash for node in nodes],
            size=size,
            note=note,
        )

    def checkpoint(self, connection: Connection, size: int, note: bytes) -> None:
        self._call(connection, size=size, note=note)

    def _call(self, connection: Connection, **given: Any) -> None:
        connection.execute(self._append, _NOTHING | given)


_ROWS, _CALLS = _Rows(), _Calls()
