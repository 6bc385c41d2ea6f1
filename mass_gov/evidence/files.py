"""Files that are whole or not there: written beside their name, made durable, then renamed.

Rules: for their owner alone (0600), and never through a link; a crash leaves the older file, or none, and a dot file
that nothing reads. Secrets have stricter rules (`keyfiles`). This module does not know what the files hold.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mass_gov.evidence.keyfiles import sync_folder


def read_at_most(path: Path, size: int) -> bytes:
    """The first `size` bytes of a file: what is larger than it may be is not read whole to be refused.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return stream.read(size)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose content becomes `path` when the block ends well, and vanishes when it does not.

    Raises:
        OSError: it cannot be written; whatever stood there stands there still.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
