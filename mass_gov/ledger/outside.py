"""Checkpoints outside the database: what a thief of the database, or a careless restore, cannot take back.

One file per size, `<20 digits>.checkpoint`, the C2SP note as it was signed; and `<20 digits>.cosigned`, the same note
with the cosignatures of witnesses. Rules: written whole or not at all (a temporary file, fsync, rename, fsync of the
folder); at most one plain note a second, and one at every clean stop; of plain notes only the newest few are kept,
because a log that extends the newest extends every older one as well (`continuity` sees to that), and none is replaced
by another. Cosigned notes are all kept, and only ever gain lines: they are evidence against whoever holds the database,
so this is where they live.

The folder belongs on another disk, or where the database's writer may add and not delete.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from mass_gov.errors import IntegrityError, LedgerUnavailableError
from mass_gov.evidence.checkpoint import open_note
from mass_gov.evidence.cosignature import with_lines

KEPT = 64
SECONDS_BETWEEN = 1.0

_LOOKS = 8
"""How often to look again when files vanish while they are read: each look needs a full turn of pruning to fail."""

_TICK = 50_000_000
"""Nanoseconds, more than a file system's clock takes for a step: what changes twice in one has the same time twice."""

_NAME = re.compile(r"([0-9]{20})\.(checkpoint|cosigned)")

_Kind = Literal["checkpoint", "cosigned"]
_KINDS: tuple[_Kind, ...] = ("checkpoint", "cosigned")


class OutsideCheckpoints:
    """The folder, and the rate at which it is written."""

    def __init__(self, folder: Path, trip: Callable[[str], None]) -> None:
        self.folder = folder
        self._trip = trip
        self._last_time = float("-inf")
        self._pending: tuple[int, bytes] | None = None
        self._notes: dict[tuple[int, _Kind], bytes] = {}
        self._stamp: int | None = None

    def sizes(self) -> list[int]:
        """Sizes that have a checkpoint here, plain or cosigned, ascending; empty when there is no folder yet.

        What each of them says is read now, because another process may prune the file before `notes` asks for it.
        """
        for _ in range(_LOOKS):
            listed = self._listed()
            self._notes = {place: note for place in listed if (note := self._read(*place)) is not None}
            if len(self._notes) == len(listed):
                return sorted({size for size, _ in listed})
        raise self._vanish()

    def changed(self) -> bool:
        """Whether files may have come or gone since this was last asked.

        Raises:
            LedgerUnavailableError: the folder cannot be read.
        """
        try:
            stamp = os.stat(self.folder).st_mtime_ns  # noqa: PTH116 - once an append: a Path's own takes twice as long
        except OSError as error:
            raise self._unusable(error) from error
        known, self._stamp = self._stamp, stamp if abs(time.time_ns() - stamp) > _TICK else None
        return known is None or known != stamp

    def newest(self) -> tuple[int, tuple[bytes, ...]]:
        """The largest size that has a checkpoint here and its notes, plain and cosigned, read now; (0, ()) for none."""
        for _ in range(_LOOKS):
            listed = self._listed()
            if not listed:
                return 0, ()
            size = listed[-1][0]
            read = (self._read(size, kind) for of, kind in listed[-2:] if of == size)
            if notes := tuple(note for note in read if note is not None):
                return size, notes
        raise self._vanish()

    def notes(self, size: int) -> tuple[bytes, ...]:
        """The checkpoints of a size, plain and cosigned, as they were when `sizes` looked."""
        found = tuple(self._notes[size, kind] for kind in _KINDS if (size, kind) in self._notes)
        if not found:
            raise self._unusable(FileNotFoundError(0, f"it holds no checkpoint of size {size}"))
        return found

    def note(self, size: int) -> bytes:
        """The checkpoint of a size, the cosigned one where there is one, as it was when `sizes` looked."""
        return self.notes(size)[-1]

    def cosigned(self, size: int) -> bytes | None:
        """The cosigned note of a size, read now; None when no witness has cosigned it."""
        return self._read(size, "cosigned")

    def cosigned_sizes(self) -> frozenset[int]:
        """Sizes that a cosigned note is kept of, read now: for whoever would ask for that of every head."""
        return frozenset(size for size, kind in self._listed() if kind == "cosigned")

    def keep_cosigned(self, size: int, note: bytes) -> None:
        """Keep a cosigned note; cosignatures that are kept already stay. The caller has verified all of it.

        Raises:
            LedgerUnavailableError: the folder cannot be written.
            IntegrityError: the note would have more than 64 signatures.
        """
        self.prepare()
        with self._locked():
            kept = self._read(size, "cosigned")
            # A crash before the renaming leaves the older note, and the witness answers the same question again.
            self._write(size, note if kept is None else with_lines(kept, open_note(note)[1]), "cosigned")

    def prepare(self) -> None:
        """Make the folder and check that it can be written, before anything is signed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        if not os.access(self.folder, os.W_OK):
            raise self._unusable(PermissionError(0, "it is read-only"))

    def insist_usable(self) -> None:
        """Look whether the folder is there and can be written, and make nothing.

        Raises:
            LedgerUnavailableError: it is not.
        """
        if not self.folder.is_dir():
            raise self._unusable(FileNotFoundError(0, "it is not there"))
        if not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
            raise self._unusable(PermissionError(0, "it is read-only"))

    def flush(self) -> None:
        """Write what is waiting now.

        Raises:
            LedgerUnavailableError: the folder cannot be written; what waits goes on waiting.
            IntegrityError: another head of the same size stands there.
        """
        if self._pending is not None:
            size, note = self._pending
            if self._read(size, "checkpoint") not in (None, note):
                raise IntegrityError(
                    f"In {self.folder} stands another head of size {size} than the one that was signed last: there are "
                    "two logs of one name. Stop whoever writes one of them, and run `mass-gov verify`."
                )
            self._write(size, note, "checkpoint")
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

    def _write(self, size: int, note: bytes, kind: _Kind) -> None:
        temporary = self.folder / f".{size}-{secrets.token_hex(4)}.tmp"
        try:
            with temporary.open("xb") as stream:
                stream.write(note)
                stream.flush()
                os.fsync(stream.fileno())
            # A crash here leaves a temporary file that nothing reads, and the older checkpoint in force.
            self._trip("outside:renaming")
            temporary.replace(self._path(size, kind))
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

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time among processes: two who add to one note must not each lose what the other added."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _listed(self) -> list[tuple[int, _Kind]]:
        try:
            names = [path.name for path in self.folder.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from error
        found = [match for name in names if (match := _NAME.fullmatch(name))]
        return sorted((int(match[1]), "cosigned" if match[2] == "cosigned" else "checkpoint") for match in found)

    def _read(self, size: int, kind: _Kind) -> bytes | None:
        """None when there is none, or when it was pruned meanwhile."""
        try:
            return self._path(size, kind).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error

    def _prune(self) -> None:
        plain = [size for size, kind in self._listed() if kind == "checkpoint"]
        for size in plain[:-KEPT]:
            self._path(size, "checkpoint").unlink(missing_ok=True)

    def _path(self, size: int, kind: _Kind) -> Path:
        return self.folder / f"{size:020d}.{kind}"

    def _vanish(self) -> LedgerUnavailableError:
        return self._unusable(FileNotFoundError(0, "its files vanish while they are read"))

    def _unusable(self, error: OSError) -> LedgerUnavailableError:
        return LedgerUnavailableError(
            f"The checkpoint folder {self.folder} cannot be used: {error.strerror}. Make it writable; nothing new is "
            "recorded before the log's head can be kept outside the database."
        )
