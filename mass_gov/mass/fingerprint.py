"""The numeric environment: everything besides inputs that can change a bit of the result.

Rules: only what was read from the running process, as text, whole numbers and booleans; equal fingerprints mean that
equal bits can be expected, different ones say where to look. No host names, users or paths.

Does not know whether a difference matters: replay tells.
"""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from mass_gov.mass.loading import ATTENTION
from mass_gov.mass.sampling import SCHEME

PACKAGES = ("torch", "transformers", "peft", "numpy", "safetensors", "tokenizers")
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "KMP_AFFINITY",
    "MKL_CBWR",
    "MKL_DYNAMIC",
    "MKL_NUM_THREADS",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)

Fingerprint = dict[str, str | int | bool]


def fingerprint() -> Fingerprint:
    """What this process computes with. Variables that are not set are left out."""
    found: Fingerprint = {f"env.{name}": os.environ[name] for name in VARIABLES if name in os.environ}
    return (
        _machine()
        | found
        | {
            "torch.cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "torch.config_sha256": hashlib.sha256(torch.__config__.show().encode()).hexdigest(),
            "torch.threads": torch.get_num_threads(),
            "torch.interop_threads": torch.get_num_interop_threads(),
            "torch.deterministic": torch.are_deterministic_algorithms_enabled(),
            "torch.flush_denormal": _flushes_denormals(),
            "torch.matmul_precision": torch.get_float32_matmul_precision(),
            "device": "cpu",
            "dtype": "float32",
            "attention": ATTENTION,
            "sampling": SCHEME,
        }
    )


@cache
def _machine() -> Fingerprint:
    """What cannot change while a process runs: what was installed when it began, and what it runs on."""
    packages: Fingerprint = {f"package.{name}": version(name) for name in PACKAGES}
    return packages | {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "cpu.vendor": _cpu("vendor_id"),
        "cpu.model": _cpu("model name") or platform.processor(),
    }


def _cpu(field: str) -> str:
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
