"""Takes a Linux process out of the world, step by step; each step either holds or raises `OSError`.

Rules
1. Own namespaces for network, processes, mounts, IPC and host name. Without privileges they come with a user
   namespace; as root they need CAP_SYS_ADMIN. There is no weaker mode.
2. The file system is a new one in memory: Python's standard library and shared libraries, read-only, and a small
   scratch folder. `pivot_root` leaves nothing of the old one, so that no key, socket or device is there to be opened.
3. No privilege remains: user and group `nobody`, no capability, no new privileges, not traceable.
4. Limits are set in the process itself, hard and soft alike, and cannot be raised again; what they do not count is
   closed by `_code_calls`.

It does not know what will run inside. Standard library only: it runs under `python -I -S`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

NOBODY: Final = 65534
SCRATCH: Final = "/scratch"

_NAMESPACES: Final = 0x40000000 | 0x20000000 | 0x00020000 | 0x08000000 | 0x04000000  # NEWNET NEWPID NEWNS NEWIPC NEWUTS
_NEWUSER: Final = 0x10000000
_NOSUID_NODEV: Final = 0x2 | 0x4
_BIND, _REC, _PRIVATE, _DETACH = 0x1000, 0x4000, 0x40000, 0x2
_SYS_MOUNT_SETATTR: Final = 442  # the same number on every architecture; Linux 5.12
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_READ_ONLY: Final = 0x1 | 0x2 | 0x4  # MOUNT_ATTR_RDONLY, NOSUID, NODEV
_SET_DEATH_SIGNAL, _SET_DUMPABLE, _SET_NO_NEW_PRIVS = 1, 4, 38
_CAPABILITY_VERSION_3: Final = 0x20080522

_libc: Final = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    """Call a C library function that returns -1 and sets errno on failure."""
    if getattr(_libc, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; `parent` as it was when this process was started."""
    _call("prctl", _SET_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def enter_namespaces() -> None:
    """Rule 1. The process namespace holds from the next fork on."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        _call("unshare", _NAMESPACES)
        return
    _call("unshare", _NAMESPACES | _NEWUSER)
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{NOBODY} {user} 1"),
        ("gid_map", f"{NOBODY} {group} 1"),
    ):
        Path("/proc/self", name).write_text(line, encoding="ascii")


def enter_new_root(root: Path, scratch_bytes: int) -> None:
    """Rule 2. `root` is an empty folder to mount on; afterwards `/` holds libraries and `/scratch`, and is current."""
    _call("mount", None, b"/", None, _REC | _PRIVATE, None)
    _call("mount", b"none", bytes(root), b"tmpfs", _NOSUID_NODEV, b"size=1m,nr_inodes=1k,mode=0755")
    for path in _libraries():
        _show(path, root)
    scratch = Path(f"{root}{SCRATCH}")
    scratch.mkdir()
    size = f"size={scratch_bytes},nr_inodes=1k,mode=0777".encode("ascii")
    _call("mount", b"none", bytes(scratch), b"tmpfs", _NOSUID_NODEV, size)
    os.chdir(root)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", _DETACH)
    os.chdir("/")
    _restrict(b"/", recursive=False)
    os.chdir(SCRATCH)


def _libraries() -> Iterator[Path]:
    """Folders that importing the standard library may touch, each before what lies inside it."""
    folders = {Path(entry) for entry in sys.path if Path(entry).is_dir()}
    folders |= {Path(sys.base_prefix, "lib")} | {Path(name) for name in ("/lib", "/lib64", "/usr/lib", "/usr/lib64")}
    shown: list[Path] = []
    for folder in sorted(folder for folder in folders if folder.is_dir()):
        if not any(folder.is_relative_to(outer) for outer in shown):
            shown.append(folder)
            yield folder


def _show(path: Path, root: Path) -> None:
    """Put a folder of the old root, read-only, at the same place in the new one; a link stays a link."""
    target = Path(f"{root}{path}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        target.symlink_to(path.readlink())
        return
    target.mkdir(exist_ok=True)
    _call("mount", bytes(path), bytes(target), None, _BIND | _REC, None)
    _restrict(bytes(target), recursive=True)


def _restrict(path: bytes, *, recursive: bool) -> None:
    attributes = (ctypes.c_uint64 * 4)(_READ_ONLY, 0, 0, 0)  # struct mount_attr: set, clear, propagation, userns_fd
    flags = _AT_RECURSIVE if recursive else 0
    _call(
        "syscall", ctypes.c_long(_SYS_MOUNT_SETATTR), _AT_FDCWD, path, flags, attributes,
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )  # fmt: skip


def drop_privileges() -> None:
    """Rule 3."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    header, none = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    _call("capset", header, none)
    _call("prctl", _SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", _SET_DUMPABLE, 0, 0, 0, 0)
    if os.getresuid() != (NOBODY,) * 3:
        raise OSError(f"still user {os.getresuid()}")


def set_limits(*, cpu_seconds: int, memory_bytes: int, file_bytes: int, open_files: int) -> None:
    """Rule 4; no further process or thread may be started, and no core is written."""
    for kind, value in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(kind, (value, value))
