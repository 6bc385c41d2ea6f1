"""The catalogue of metrics is what the server counts, and the example dashboard asks for nothing else."""

from __future__ import annotations

import json
import re

from mass_gov.api.metrics import GAUGES, PREFIX, Metrics
from tests.contract.checkout import read


def counted() -> dict[str, str]:
    """Every metric by its name, with its kind."""
    found = {}
    for family in Metrics().registry.collect():
        found[f"{family.name}_total" if family.type == "counter" else family.name] = family.type
    return found | {PREFIX + name: "gauge" for name in GAUGES}


def test_the_page_has_every_metric_with_its_kind_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", read("docs/reference/metrics.md"), re.MULTILINE)
    assert dict(rows) == counted() and len(rows) == len(counted())


def test_the_dashboard_asks_for_what_there_is() -> None:
    board = json.loads(read("docs/reference/grafana-dashboard.json"))
    asked = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    names = {re.sub(r"_bucket$", "", name) for name in re.findall(r"mass_gov_\w+", asked)}
    assert names and names <= counted().keys()
