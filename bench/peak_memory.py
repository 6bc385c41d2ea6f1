"""The peak memory of a process, of nobody before it.

`ru_maxrss` will not do for a process of its own: what it was forked from counts too, and a large parent hides a small
child. Linux's VmHWM belongs to the program alone.
"""

from __future__ import annotations

from pathlib import Path


def peak_mib(process: int | None = None) -> float:
    """MiB at most so far, of this process or another one. Raises OSError where there is no /proc."""
    status = Path(f"/proc/{process or 'self'}/status")
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
