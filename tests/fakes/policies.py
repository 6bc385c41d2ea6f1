"""Policies that use exactly the later gates that a test names, made from a shipped one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from mass_gov.config_data import data_folder
from mass_gov.policy import Policy, load_policy
from mass_gov.policy.gate_settings import LATER_GATES

_ROUND = {
    "update.step_norm": {"limit": 1.0, "on_fail": "reject"},
    "update.cumulative_norm": {"limit": 2.0, "on_fail": "reject"},
    "regression.previous": {"margin": 0.10, "on_fail": "hold"},
    "regression.base": {"margin": 0.10, "on_fail": "hold"},
}


def policy_source(gates: dict[str, Any], *, base: str = "solo", **parts: Any) -> bytes:
    """The file: `gates` by name with their settings, every other later gate unused; `parts` replace whole parts."""
    document = _shipped(base) | parts
    document["gates"] |= dict.fromkeys(LATER_GATES, "unused") | gates
    return yaml.safe_dump(json.loads(json.dumps(document))).encode()  # without aliases, which no policy may have


def policy_with(gates: dict[str, Any], *, base: str = "solo", **parts: Any) -> Policy:
    """The same, read."""
    return load_policy(policy_source(gates, base=base, **parts))


def lean_source(
    gates: dict[str, Any] | None = None,
    *,
    base: str = "solo",
    scopes: tuple[str, ...] = ("instance",),
    **parts: Any,
) -> bytes:
    """The shipped policy as a test needs it whose point is neither a gate nor a suite.

    The 48 cases of core-v1, no later gate but `gates`, limits in round numbers that no calibration moves: the envelope
    ends at a step of 0.6 (0.8 from the base), gates refuse beyond 1 (2), and the bound may reach -0.1. `scopes` are
    those of the envelope.
    """
    envelope = _shipped(base)["envelope"] | {"step_norm": 0.6, "cumulative_norm": 0.8, "scopes": list(scopes)}
    suites = {"instance": "core-v1", "deployment": "core-v1"}
    return policy_source(_ROUND | (gates or {}), base=base, **({"envelope": envelope, "suites": suites} | parts))


def lean_policy(folder: Path, base: str = "solo", **parts: Any) -> str:
    """Write the same to a file of this folder, and return its path."""
    path = folder / f"lean-{base}.yaml"
    path.write_bytes(lean_source(base=base, **parts))
    return str(path)


def _shipped(base: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((data_folder("policies") / base / "v1.yaml").read_bytes())
    return document
