"""Policies that use exactly the later gates that a test names, made from a shipped one."""

from __future__ import annotations

import json
from typing import Any

import yaml

from mass_gov.config_data import data_folder
from mass_gov.policy import Policy, load_policy
from mass_gov.policy.gate_settings import LATER_GATES


def policy_source(gates: dict[str, Any], *, base: str = "solo", **parts: Any) -> bytes:
    """The file: `gates` by name with their settings, every other later gate unused; `parts` replace whole parts."""
    shipped = (data_folder("policies") / base / "v1.yaml").read_bytes()
    document = yaml.safe_load(shipped) | parts
    document["gates"] |= dict.fromkeys(LATER_GATES, "unused") | gates
    return yaml.safe_dump(json.loads(json.dumps(document))).encode()  # without aliases, which no policy may have


def policy_with(gates: dict[str, Any], *, base: str = "solo", **parts: Any) -> Policy:
    """The same, read."""
    return load_policy(policy_source(gates, base=base, **parts))
