"""The numeric environment: everything besides inputs that can change a bit of the result.

Rules: only what was read from the running process, as text, whole numbers and booleans; equal fingerprints mean that
equal bits can be expected, different ones say where to look. No host names, users or paths. Variables that are not set
are left out. In portable numerics everything that it makes irrelevant is left out: the CPU, the kernels that were
chosen by it, and the variables that pin them. `format` counts what is recorded: a part that an older fingerprint lacks
is one that nobody looked at (`flows.fingerprints`).

Does not know whether a difference matters: the canaries that a learner adds tell of three stages, a replay of the rest.
"""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mass_gov.mass import decoding, losses
from mass_gov.mass.numerics import CLEARED, PINNED, TUNABLES, Numerics
from mass_gov.mass.sampling import SCHEME

FORMAT = 2
PACKAGES = ("torch", "transformers", "peft", "numpy", "safetensors", "tokenizers", "scikit-learn", "scipy")
_SHAPING = ("KMP_AFFINITY", "MKL_DYNAMIC", "OMP_DYNAMIC")
VARIABLES = tuple(sorted({*PINNED, *CLEARED, TUNABLES, *_SHAPING}))

Fingerprint = dict[str, str | int | bool]


def fingerprint(model: Any, numerics: Numerics = "native") -> Fingerprint:
    """What this process computes with on an open transformers model, canaries apart."""
    return (
        _installed()
        | (_by_cpu() if numerics == "native" else {})
        | {
            "format": FORMAT,
            "numerics": numerics,
            "torch.config_sha256": hashlib.sha256(torch.__config__.show().encode()).hexdigest(),
            "torch.threads": torch.get_num_threads(),
            "torch.interop_threads": torch.get_num_interop_threads(),
            "torch.deterministic": torch.are_deterministic_algorithms_enabled(),
            "torch.flush_denormal": _flushes_denormals(),
            "torch.matmul_precision": torch.get_float32_matmul_precision(),
            "device": str(model.device),
            "dtype": str(model.dtype).removeprefix("torch."),
            "attention": str(model.config._attn_implementation),
            "batching.decode": decoding.BATCHING,
            "batching.update": losses.BATCHING,
            "sampling": SCHEME,
        }
    )


def _by_cpu() -> Fingerprint:
    """The CPU, and what steers which code is taken on it."""
    found: Fingerprint = {f"env.{name}": os.environ[name] for name in VARIABLES if name in os.environ}
    return found | _cpu() | {"torch.cpu_capability": torch.backends.cpu.get_cpu_capability()}


@cache
def _installed() -> Fingerprint:
    """What cannot change while a process runs: what was installed when it began."""
    packages: Fingerprint = {f"package.{name}": version(name) for name in PACKAGES}
    return packages | {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
    }


@cache
def _cpu() -> Fingerprint:
    return {"cpu.vendor": _of_cpu("vendor_id"), "cpu.model": _of_cpu("model name") or platform.processor()}


def _of_cpu(field: str) -> str:
    """One field of the first processor in /proc/cpuinfo; empty where there is none (other systems, other CPUs)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    values = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field)
    return next(values, "")


def _flushes_denormals() -> bool:
    """Whether this process rounds numbers below the normal range to zero, found by making one."""
    return float(torch.tensor([1e-40], dtype=torch.float32) * 1.0) == 0.0
