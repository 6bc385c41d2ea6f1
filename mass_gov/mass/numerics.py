"""Portable numerics: the environment in which this stack computes the same bits on every x86-64 CPU. Without torch.

The libraries that compute choose their code by what the CPU can do: torch, MKL, oneDNN, numpy and OpenBLAS when they
are loaded, the C library (`exp`, `log`, `pow` of torch's plain kernels and of Python) when the process starts. So a
process is portable only if it *began* with the variables of `environment`: `begin` starts the program once more with
them, and `require` refuses to compute where that did not happen. Which variable holds what was found by leaving each
one out under an emulated CPU (docs/explanation/numerics.md).

Does not know whether two machines agree: canaries and replay tell. One operation that models rarely use escapes all
variables: `torch.sqrt` on CPU is MKL's, which starts from the CPU's own approximation of 1/sqrt; nothing here uses it.
"""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from mass_gov.errors import SettingsError

Numerics = Literal["native", "portable"]

PINNED = {
    "ATEN_CPU_CAPABILITY": "default",  # torch's own kernels
    "MKL_CBWR": "COMPATIBLE",  # products, LAPACK, and MKL's exp, log, sin, cos, tanh, erf
    "ONEDNN_MAX_CPU_ISA": "SSE41",  # gelu
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",  # numpy's exp, in the density ratio
    "OPENBLAS_CORETYPE": "NEHALEM",  # products of numpy and scipy, in the density ratio
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
CLEARED = (
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_ENABLE_CPU_FEATURES",
    "ONEDNN_DEFAULT_FPMATH_MODE",
)
"""Would pull the other way."""
TUNABLES = "GLIBC_TUNABLES"
_HWCAPS = "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4"
_AGAIN = "_MASS_GOV_BEGAN_PORTABLE"
_PROBE, _PROBED = -0.0466, "0x1.e8b02ccf6b93cp-1"
"""A number, and its exp without fused multiply-add; with it, the last bit is another one (glibc 2.28 and later)."""


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The variables to start a portable process with, from those that are `given`."""
    kept = {name: value for name, value in given.items() if name not in CLEARED}
    others = [one for one in given.get(TUNABLES, "").split(":") if one and not one.startswith("glibc.cpu.")]
    return kept | PINNED | {TUNABLES: ":".join([*others, _HWCAPS])}


def begin() -> None:
    """Make this process portable: a no-op where it began so, else the same command line once more, in this place.

    Raises:
        SettingsError: torch is loaded already, the platform is another one, or the variables get lost on the way.
    """
    if _began_portable():
        return
    _check_platform()
    if "torch" in sys.modules:
        raise SettingsError(_TOO_LATE)
    if _AGAIN in os.environ:
        raise SettingsError(
            "portable numerics needs the variables of docs/explanation/numerics.md, and something takes them away when "
            f"{sys.executable} starts. Set them yourself, or use MASS_GOV_NUMERICS=native."
        )
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment(os.environ) | {_AGAIN: "1"})  # noqa: S606


def require(threads: int) -> None:
    """Insist that this process is portable. Call it after torch was loaded.

    Raises:
        SettingsError: it did not begin so, another number of threads is asked for, or the variables had no effect.
    """
    _check_platform()
    if threads != 1:
        raise SettingsError(
            f"portable numerics computes with one thread, and {threads} were asked for. Set MASS_GOV_THREADS=1, or "
            "MASS_GOV_NUMERICS=native."
        )
    if not _began_portable():
        raise SettingsError(_TOO_LATE)
    import torch  # noqa: PLC0415 - this module says how to start a process, before torch is there

    if torch.backends.cpu.get_cpu_capability() != "DEFAULT" or math.exp(_PROBE).hex() != _PROBED:
        raise SettingsError(
            "portable numerics has no effect with this build of torch or this C library: they still choose their code "
            "by the CPU. Use MASS_GOV_NUMERICS=native."
        )


_TOO_LATE = (
    "portable numerics must be chosen before the process starts, and this one began with other kernels. Set "
    "MASS_GOV_NUMERICS=portable for the command mass-gov, or start your program with what "
    "mass_gov.mass.numerics.environment gives."
)


def _began_portable() -> bool:
    """By what the process was started with: `os.environ` may have changed since, and that would come too late."""
    try:
        lines = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    began = dict(os.fsdecode(line).split("=", 1) for line in lines if b"=" in line)
    return all(_is_portable(variables) for variables in (began, os.environ))


def _is_portable(variables: Mapping[str, str]) -> bool:
    pinned = all(variables.get(name) == value for name, value in PINNED.items())
    tuned = [one for one in variables.get(TUNABLES, "").split(":") if one.startswith("glibc.cpu.")] == [_HWCAPS]
    return pinned and tuned and not any(name in variables for name in CLEARED)


def _check_platform() -> None:
    found = (platform.system(), platform.machine(), platform.libc_ver()[0])
    if found != ("Linux", "x86_64", "glibc"):
        raise SettingsError(
            f"portable numerics is for x86-64 Linux with glibc, and this is {' '.join(found).strip()}. Use "
            "MASS_GOV_NUMERICS=native."
        )
