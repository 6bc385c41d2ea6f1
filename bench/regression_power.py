"""What the regression gates let through, exactly: error, power and the ratchet. `--json` prints one object.

Five tables, of the shipped suites' sizes and margins:

- *error*: how likely a change passes whose true difference is exactly minus the margin, over a grid of discordance
  rates, by Tango's bound and by the corrected one; and the largest over the whole nuisance
- *worst*: the largest error of each bound over many suite sizes and margins
- *power*: how likely a truly equal model passes, at the declared discordance and others, at the suite's size and at the
  number of cases that its header declares
- *ratchet*: chains of promotions that each truly lose half a point, judged by the real policy on the deployment suite,
  with both comparisons and with the previous state alone: how many pass in a row until the first is stopped, and how
  many in all where whoever asks goes on asking. The latter is luck on a suite that stays the same, which no comparison
  on that suite can see: window.flips asks fresh cases, and update.generation_depth bounds the chain
- *speed*: bounds a second in pure Python

The first three enumerate the trinomial and draw nothing. The ratchet simulates, from seeds.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mass_gov.policy import Facts, Policy, judge
from mass_gov.policy.bounds import Method, paired_lower_bound
from mass_gov.policy.document import PolicyDocument
from mass_gov.policy.power import pass_probability
from mass_gov.stages.regression import paired
from mass_gov.tasks.shipped_suites import suite_bytes
from mass_gov.tasks.suites import SuiteHeader, parse_suite
from mass_gov.wiring import find_policy

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fakes import facts

METHODS: tuple[Method, ...] = ("tango", "corrected")
DISCORDANCE = (0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
SIZES = (8, 17, 24, 29, 48, 56, 60, 80, 96, 120, 160, 200, 240, 320, 400)
MARGINS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2)
RIGHT = 0.85
"""Share of all cases that the base has right, in the ratchet."""
SUITES = ("instance-v1", "deployment-v1")


def headers() -> dict[str, SuiteHeader]:
    """The headers of the shipped suites that have one."""
    found = {name: parse_suite(suite_bytes(name), name).header for name in SUITES}
    return {name: header for name, header in found.items() if header is not None}


def error(n: int, margin: float, discordance: float, method: Method) -> float:
    """Probability that a true difference of exactly minus the margin passes."""
    return pass_probability(n, margin, discordance, -margin, method)


def largest_error(n: int, margin: float, method: Method, points: int = 24) -> tuple[float, float]:
    """The largest error over the nuisance, and the discordance where it is: a grid, denser at both ends."""
    span = 1 - margin
    inner = {margin + span * i / points for i in range(points + 1)}
    ends = {margin + span * 2.0**-i for i in range(5, 14)} | {1 - span * 2.0**-i for i in range(5, 14)}
    return max((error(n, margin, min(rate, 1.0), method), rate) for rate in sorted(inner | ends))


def error_table() -> list[dict[str, Any]]:
    """Per suite and discordance rate: the error of both bounds."""
    rows = []
    for name, header in headers().items():
        for rate in (rate for rate in DISCORDANCE if rate >= header.margin):
            found = {method: error(header.cases, header.margin, rate, method) for method in METHODS}
            rows.append({"suite": name, "n": header.cases, "margin": header.margin, "discordance": rate, **found})
    return rows


def worst_table(sizes: tuple[int, ...] = SIZES, margins: tuple[float, ...] = MARGINS) -> list[dict[str, Any]]:
    """Per suite size and margin: the largest error of both bounds, and where it is."""
    rows = []
    for n, margin in ((n, margin) for n in sizes for margin in margins):
        found = {method: largest_error(n, margin, method) for method in METHODS}
        rows.append(
            {"n": n, "margin": margin}
            | {method: value for method, (value, _) in found.items()}
            | {f"{method}_at": rate for method, (_, rate) in found.items()}
        )
    return rows


def power_table() -> list[dict[str, Any]]:
    """Per suite: how likely a truly equal model passes."""
    rows = []
    for name, header in headers().items():
        for rate in (0.01, 0.03, 0.05, header.discordance, 0.1, 0.15):
            rows.append(
                {
                    "suite": name,
                    "margin": header.margin,
                    "discordance": rate,
                    "declared": rate == header.discordance,
                    "cases": header.cases,
                    "passes": pass_probability(header.cases, header.margin, rate),
                    "passes_tango": pass_probability(header.cases, header.margin, rate, 0.0, "tango"),
                    "needed": header.needed,
                    "passes_at_needed": pass_probability(header.needed, header.margin, rate),
                }
            )
    return rows


def ratchet(seed: int, policy: Policy, n: int, *, both: bool, attempts: int = 60) -> dict[str, float]:
    """One pointer, asked to move again and again to a state that truly loses half a point against the one it stands on.

    Each update loses 1.75% and gains 1.25% of all cases that there could be, of which the suite is a sample. Each is
    judged on the same suite; what passes is promoted and the next stands on it, what does not leaves the pointer.

    Arguments:
        both: whether the comparison with the base counts; otherwise the previous state's alone.

    Returns:
        promoted: updates that passed; points: what they lost in truth, in points; first: how many passed in a row
        before the first that did not.
    """
    rng = random.Random(seed)
    base = [rng.random() < RIGHT for _ in range(n)]
    previous, promoted, first = base, 0, attempts
    for attempt in range(attempts):
        right = RIGHT - 0.005 * promoted  # in truth, of the state that the pointer stands on
        lose, gain = 0.0175 / right, 0.0125 / (1 - right)
        new = [not (rng.random() < lose) if was else rng.random() < gain for was in previous]
        if _passes(base, previous, new, policy, both=both):
            previous, promoted = new, promoted + 1
        else:
            first = min(first, attempt)
    return {"promoted": promoted, "points": 0.5 * promoted, "first": first}


def _passes(base: list[bool], previous: list[bool], new: list[bool], policy: Policy, *, both: bool) -> bool:
    gates = policy.document.gates
    summary = facts.regression(
        paired(list(zip(previous, new, strict=True)), gates.regression_previous),
        paired(list(zip(base, new, strict=True)), gates.regression_base),
    )
    wanted = ("regression.previous", "regression.base") if both else ("regression.previous",)
    judged = judge(Facts("deployment", facts.synthesis(), facts.update(), summary), policy)
    verdicts = {gate.name: gate.verdict for gate in judged}
    return all(verdicts[name] == "pass" for name in wanted)


def deployment_policy() -> Policy:
    """The default policy with the deployment suite's margin in both comparisons."""
    shipped, header = find_policy("default"), headers()["deployment-v1"]
    document = shipped.document.model_dump(by_alias=True)
    for name in ("regression.previous", "regression.base"):
        document["gates"][name] |= {"margin": header.margin, "bound": "corrected"}
    return shipped.model_copy(update={"document": PolicyDocument.model_validate(document)})


def ratchet_table(chains: int = 20, attempts: int = 60) -> list[dict[str, Any]]:
    """Medians over chains."""
    policy, n, rows = deployment_policy(), headers()["deployment-v1"].cases, []
    for both in (True, False):
        runs = [ratchet(seed, policy, n, both=both, attempts=attempts) for seed in range(chains)]
        rows.append(
            {
                "compared": "previous and base" if both else "previous alone",
                "chains": chains,
                "attempts": attempts,
                "in_a_row_median": statistics.median(run["first"] for run in runs),
                "in_a_row_most": max(run["first"] for run in runs),
                "promoted_median": statistics.median(run["promoted"] for run in runs),
                "promoted_most": max(run["promoted"] for run in runs),
                "points_lost_median": statistics.median(run["points"] for run in runs),
                "points_lost_most": max(run["points"] for run in runs),
            }
        )
    return rows


def speed_table(n: int = 320) -> list[dict[str, Any]]:
    """Bounds a second, of counts that were not met before: what a verification derives again."""
    counts = [(gained, lost) for gained in range(40) for lost in range(40)]
    rows = []
    for method in METHODS:
        paired_lower_bound.cache_clear()
        started = time.process_time()
        for gained, lost in counts:
            paired_lower_bound(gained, lost, n, method)
        rows.append({"method": method, "bounds_per_second": len(counts) / (time.process_time() - started)})
    return rows


def tables() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """All of them, by name."""
    yield "error", error_table()
    yield "worst", worst_table()
    yield "power", power_table()
    yield "ratchet", ratchet_table()
    yield "speed", speed_table()


def main() -> None:
    """Print the tables, or one object."""
    made = dict(tables())
    if "--json" in sys.argv[1:]:
        print(json.dumps(made))
        return
    for name, rows in made.items():
        print(f"\n{name}\n" + "  ".join(rows[0]))
        for row in rows:
            print("  ".join(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))


if __name__ == "__main__":
    main()
