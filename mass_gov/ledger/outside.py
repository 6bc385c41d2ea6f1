"""Checkpoints outside the database: what a thief of the database, or a careless restore, cannot take back.

One file per size, `<20 digits>.checkpoint`, the C2SP note as it was signed. Rules: written whole or not at all (a
temporary file, fsync, rename, fsync of the folder); at most one a second, and at every clean stop; only the newest few
are kept, because a log that extends the newest extends every older one as well.

The folder belongs on another disk, or where the database's writer may add and not delete.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from mass_gov.errors import LedgerUnavailableError

KEPT = 64
SECONDS_BETWEEN = 1.0

_LOOKS = 8
"""How often to look again when files vanish while they are read: each look needs a full turn of pruning to fail."""

_NAME = re.compile(r"([0-9]{20})\.checkpoint")


class OutsideCheckpoints:
    """The folder, and the rate at which it is written."""

    def __init__(self, folder: Path, trip: Callable[[str], None]) -> None:
        self.folder = folder
        self._trip = trip
        self._last_time = float("-inf")
        self._pending: tuple[int, bytes] | None = None
        self._notes: dict[int, bytes] = {}

    def sizes(self) -> list[int]:
        """Sizes that have a checkpoint here, ascending; empty when there is no folder yet.

        What each of them says is read now, because another process may prune the file before `note` asks for it.
        """
        for _ in range(_LOOKS):
            listed = self._listed()
            self._notes = {size: note for size in listed if (note := self._read(size)) is not None}
            if len(self._notes) == len(listed):
                return listed
        raise self._unusable(FileNotFoundError(0, "its files vanish while they are read"))

    def note(self, size: int) -> bytes:
        """The checkpoint of a size, as it was when `sizes` looked."""
        note = self._notes[size] if size in self._notes else self._read(size)
        if note is None:
            raise self._unusable(FileNotFoundError(0, f"it holds no checkpoint of size {size}"))
        return note

    def prepare(self) -> None:
        """Make the folder and check that it can be written, before anything is signed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        if not os.access(self.folder, os.W_OK):
            raise self._unusable(PermissionError(0, "it is read-only"))

    def flush(self) -> None:
        """Write what is waiting now.

        Raises:
            LedgerUnavailableError: the folder cannot be written; what waits goes on waiting.
        """
        if self._pending is not None:
            self._write(*self._pending)
            self._pending = None
            self._last_time = time.monotonic()

    def offer(self, size: int, note: bytes) -> None:
        """Take the newest checkpoint; write it if a second has passed since the last one.

        A failure to write is kept for the next `flush`: the event is durable already, and whoever appended it must
        not be told otherwise.
        """
        self._pending = (size, note)
        if time.monotonic() - self._last_time >= SECONDS_BETWEEN:
            try:
                self.flush()
            except LedgerUnavailableError:
                return

    def retry(self) -> None:
        """Before the next append: an outside write that failed must succeed first.

        Raises:
            LedgerUnavailableError: it fails again, and nothing new is written.
        """
        if self._pending is not None and time.monotonic() - self._last_time >= SECONDS_BETWEEN:
            self.flush()

    def _write(self, size: int, note: bytes) -> None:
        temporary = self.folder / f".{size}-{secrets.token_hex(4)}.tmp"
        try:
            with temporary.open("xb") as stream:
                stream.write(note)
                stream.flush()
                os.fsync(stream.fileno())
            # A crash here leaves a temporary file that nothing reads, and the older checkpoint in force.
            self._trip("outside:renaming")
            temporary.replace(self._path(size))
            self._trip("outside:renamed")
            # A crash here may lose the new name after a power cut: again the older checkpoint is in force.
            self._sync_folder()
            self._prune()
        except OSError as error:
            raise self._unusable(error) from error

    def _sync_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _listed(self) -> list[int]:
        try:
            names = [path.name for path in self.folder.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from error
        return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))

    def _read(self, size: int) -> bytes | None:
        """None when it was pruned meanwhile."""
        try:
            return self._path(size).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error

    def _prune(self) -> None:
        for size in self._listed()[:-KEPT]:
            self._path(size).unlink(missing_ok=True)

    def _path(self, size: int) -> Path:
        return self.folder / f"{size:020d}.checkpoint"

    def _unusable(self, error: OSError) -> LedgerUnavailableError:
        return LedgerUnavailableError(
            f"The checkpoint folder {self.folder} cannot be used: {error.strerror}. Make it writable; nothing new is "
            "recorded before the log's head can be kept outside the database."
        )
