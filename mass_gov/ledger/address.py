"""Where a ledger lies: a SQLite file, or a PostgreSQL server. The only module that sees an address with its password.

Rules: an address prints as its name, which has no password and no options; neither `str` nor `repr` nor an error shows
more. A file may be given as a path or as `sqlite:///` and its path; a server as a libpq address, `postgresql://`.
What stands in it beyond user, host, port and database is libpq's to read, and only when it connects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from mass_gov.errors import SettingsError

Engine = Literal["sqlite", "postgresql"]
_SCHEMES = ("postgresql://", "postgres://")


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """Where a ledger lies. Make one with `Address.of`.

    Attributes:
        engine: which database it is.
        name: what a person may see.
        path: the SQLite file; None of a server.
    """

    engine: Engine
    name: str
    path: Path | None = None
    _url: SecretStr = field(default=SecretStr(""))

    @classmethod
    def of(cls, where: Address | Path | str | SecretStr) -> Address:
        """Read an address.

        Raises:
            SettingsError: it is none. The message repeats nothing that could hold a password.
        """
        if isinstance(where, Address):
            return where
        if isinstance(where, Path):
            return cls("sqlite", str(where), where)
        text = where.get_secret_value() if isinstance(where, SecretStr) else where
        if text.startswith(_SCHEMES):
            return cls("postgresql", _name(text), None, SecretStr(text))
        if text.startswith("sqlite:///") and len(text) > len("sqlite:///"):
            text = text.removeprefix("sqlite:///")
        elif "://" in text or not text:
            raise SettingsError(
                f"{_shown(text)!r} is no ledger address. Give a file, sqlite:/// and its path, or postgresql://..."
            )
        return cls("sqlite", text, Path(text))

    @property
    def file(self) -> Path:
        """The SQLite file.

        Raises:
            SettingsError: it is a server's address.
        """
        if self.path is None:
            raise SettingsError(f"{self.name} is a server, not a file. Give the address of an embedded ledger.")
        return self.path

    @property
    def short(self) -> str:
        """The file's name, or the server's database: what a report calls it."""
        return self.path.name if self.path is not None else self.name.rpartition("/")[2]

    @property
    def url(self) -> str:
        """The server's address as it was given, password and all: for the driver alone."""
        return self._url.get_secret_value()

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Address({self.name!r})"


def _name(url: str) -> str:
    """`postgresql://user@host:port/database`, taken apart so that no form of password can be left in it."""
    try:
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        query = parse_qs(parts.query)
    except ValueError:
        return "postgresql://(unreadable)"
    user = unquote(credentials.partition(":")[0]) or "".join(query.get("user", [])[:1])
    hosts = hosts or "".join(query.get("host", [])[:1])
    database = parts.path.strip("/") or "".join(query.get("dbname", [])[:1])
    return f"postgresql://{user}{'@' if user else ''}{hosts.strip('/').replace('/', '%2F')}/{database}"


def _shown(text: str) -> str:
    """The scheme and what follows the last @, without options."""
    scheme, _, rest = text.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"[:120]
