"""Statements are compiled once in a process, and not once more for every ledger that a test opens.

SQLAlchemy keeps what it compiled by dialect object, and every engine makes a dialect of its own. In a process of the
tests there are thousands of engines of two kinds, and one kind's dialects compile alike: they are equal here, and all
connections keep what was compiled in one place. The statements themselves, and who runs them, stay as they are.
"""

from __future__ import annotations

from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.engine.default import DefaultDialect

_COMPILED: dict[object, object] = {}


def compile_once() -> None:
    """From now on, in this process."""
    DefaultDialect.__hash__ = lambda self: hash(type(self))  # type: ignore[method-assign]
    DefaultDialect.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[method-assign]
    event.listen(Engine, "engine_connect", _share)


def _share(connection: Connection) -> None:
    connection.execution_options(compiled_cache=_COMPILED)
