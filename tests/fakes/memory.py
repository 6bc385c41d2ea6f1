"""Where tests keep what nobody has to find again: in memory, where there is room for it.

Every append waits for an fsync, and every database of the tests' own server is some hundred files; nobody cuts the
power of a test.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_SHARED = Path("/dev/shm")
_ROOM = 4 << 30  # bytes


def folder_in_memory() -> Path | None:
    """A folder that lies in memory; None where there is none, or too little room in it."""
    writable = _SHARED.is_dir() and os.access(_SHARED, os.W_OK)
    return _SHARED if writable and shutil.disk_usage(_SHARED).free >= _ROOM else None
