"""Which system calls generated code may not make: a seccomp filter, set by the process itself and for good.

Limits (`_code_isolation`) hold what a process maps, writes and opens. What they do not count is closed here: memory
that System V keeps for nobody, files in memory, and the calls that give a process namespaces of its own, and with them
capabilities, or a wide way into the kernel. Whoever asks gets EPERM; a further process or thread gets EAGAIN, as from
the limit on processes.

Source: seccomp(2), and the system call tables of Linux (arch/x86/entry/syscalls/syscall_64.tbl,
include/uapi/asm-generic/unistd.h). Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

_SET_SECCOMP, _FILTER = 22, 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _IS, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # BPF: LD|W|ABS, JMP|JEQ|K, JMP|JGE|K, RET|K
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4  # struct seccomp_data
_X32: Final = 0x40000000
"""From here on x86-64 has the numbers of another interface for the same calls."""

_EVERYWHERE: Final = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "mount_setattr": 442,
    "memfd_secret": 447,
}
_PROCESSES: Final = {
    "x86_64": {"clone": 56, "fork": 57, "vfork": 58, "clone3": 435},
    "aarch64": {"clone": 220, "clone3": 435},
}
_REFUSED: Final = {
    "x86_64": {
        "shmget": 29, "shmat": 30, "shmctl": 31, "semget": 64, "shmdt": 67, "msgget": 68, "msgsnd": 69, "ptrace": 101,
        "pivot_root": 155, "mount": 165, "umount2": 166, "add_key": 248, "request_key": 249, "keyctl": 250,
        "unshare": 272, "perf_event_open": 298, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311,
        "memfd_create": 319, "bpf": 321, "userfaultfd": 323, **_EVERYWHERE,
    },
    "aarch64": {
        "umount2": 39, "mount": 40, "pivot_root": 41, "unshare": 97, "ptrace": 117, "msgget": 186, "msgsnd": 189,
        "semget": 190, "shmget": 194, "shmctl": 195, "shmat": 196, "shmdt": 197, "add_key": 217, "request_key": 218,
        "keyctl": 219, "perf_event_open": 241, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271,
        "memfd_create": 279, "bpf": 280, "userfaultfd": 282, **_EVERYWHERE,
    },
}  # fmt: skip
_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*


def forbid_calls() -> None:
    """Set the filter; it needs no privilege once no new ones can be had.

    Raises:
        OSError: this kernel has none, or this architecture's numbers are not known.
    """
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"system calls of {machine} are not known")
    program = _program(machine)
    code = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))  # struct sock_fprog
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_SECCOMP, _FILTER, ctypes.c_char_p(described), 0, 0) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")


def _program(machine: str) -> bytes:
    """The filter as BPF: the architecture first, since a number means another call elsewhere."""
    steps = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_IS, _ARCHITECTURES[machine], 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER_AT),
    ]
    if machine == "x86_64":
        steps += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _ERRNO | errno.EPERM)]
    for calls, error in ((_PROCESSES[machine], errno.EAGAIN), (_REFUSED[machine], errno.EPERM)):
        for number in calls.values():
            steps += [_step(_IS, number, 0, 1), _step(_RETURN, _ERRNO | error)]
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)  # struct sock_filter
