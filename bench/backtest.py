"""How long `mass-gov policy backtest` takes over recorded changes, and whether its memory grows with their number.

    python bench/backtest.py [--quick] [--json]

A ledger of N changes is built with real keys and signatures; their facts are drawn with a seed, and the policy default
decided about each. A stricter candidate (half the envelope, another margin, one rule in CEL) is then replayed over all
of them by a process of its own, whose seconds (also of CPU alone) and peak memory are measured: at N = 1,000 and, in
the same ledger, at 10,000 (with --quick at 100 and 300). What stays constant is the interpreter with its libraries.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from peak_memory import peak_mib
from rich.console import Console
from rich.table import Table
from uuid6 import uuid7

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from mass_gov.evidence.keystore import KeyStore  # noqa: E402 - found by the line above
from mass_gov.flows.backtest import backtest  # noqa: E402
from mass_gov.ledger import Ledger  # noqa: E402
from mass_gov.policy import decide, judge, load_policy  # noqa: E402
from mass_gov.policy.judgement import facts_of  # noqa: E402
from mass_gov.policy.paired import paired_counts  # noqa: E402
from mass_gov.records.change import ChangeBody, PairedCounts  # noqa: E402
from mass_gov.records.events import ChangeRecorded  # noqa: E402
from tests.fakes.ledger_world import SUITE, LedgerWorld, shipped_policy  # noqa: E402

LIMIT_S = 60
"""What 10,000 changes may take."""
TURN = 200
DEFAULT = shipped_policy("default")
RULE = b"rules:\n  - {name: kept, require: 2 * kept >= generated && step_norm < 0.5, on_fail: hold, why: Because.}\n"
CANDIDATE = load_policy(
    DEFAULT.source.replace(b"step_norm: 0.628", b"step_norm: 0.30")
    .replace(b"margin: 0.10", b"margin: 0.08")
    .replace(b"rules: []", RULE.rstrip())
)


def counts(lost: int, n: int, right: int) -> PairedCounts:
    """Nothing gained, `lost` lost."""
    gate = DEFAULT.document.gates.regression_base
    return paired_counts(both_right=right, lost=lost, gained=0, both_wrong=n - lost - right, gate=gate)


def drawn(template: ChangeBody, chance: random.Random) -> ChangeBody:
    """A change like the template with other ids, another step and another outcome of the regression."""
    norm, lost = chance.uniform(0.0, 1.1), chance.choice([0, 0, 0, 1, 2, 6])
    assert template.regression is not None
    n = template.regression.n
    paired = counts(lost, n, n // 2)
    change = template.model_copy(
        update={
            "identity": template.identity.model_copy(
                update={"change_id": str(uuid7()), "request_commitment": f"{chance.getrandbits(256):064x}"}
            ),
            "update": template.update.model_copy(update={"step_norm": norm, "cumulative_norm": norm}),
            "regression": template.regression.model_copy(update={"against_previous": paired, "against_base": paired}),
        }
    )
    facts = facts_of(change)
    gates = judge(facts, DEFAULT)
    decision = decide(gates, facts.update, facts.scope, DEFAULT, facts.measures)
    return change.model_copy(update={"gates": gates, "decision": decision})


def grow(world: LedgerWorld, more: int, seed: int) -> None:
    """Append changes. Their artifacts are left out: a backtest reads none."""
    (first, *_) = world.change_drafts(f"template {seed}", consequences=False)
    assert isinstance(first.body, ChangeRecorded)
    chance = random.Random(seed)
    for start in range(0, more, TURN):
        bodies = [drawn(first.body.change, chance) for _ in range(min(TURN, more - start))]
        drafts = [replace(first, body=ChangeRecorded(change=body), artifacts=()) for body in bodies]
        world.ledger.append(drafts)


def cell(folder: Path) -> dict[str, Any]:
    """Replay the candidate over the ledger in `folder`."""
    started = time.perf_counter()
    keys = KeyStore.open(folder / "keys")
    with Ledger.open(folder / "ledger.db", keys=None, checkpoints=folder / "checkpoints") as ledger:
        ledger.keys = keys
        opened, used = time.perf_counter(), time.process_time()
        found = backtest(ledger, CANDIDATE, suites={"instance": SUITE, "deployment": SUITE})
    return {
        "changes": found.changes,
        "flips": found.flips,
        "unknown": found.unknown,
        "open_s": round(opened - started, 3),
        "replay_s": round(time.perf_counter() - opened, 3),
        "replay_cpu_s": round(time.process_time() - used, 3),
        "peak_mib": round(peak_mib(), 1),
    }


def measure(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Build up to each size and replay there."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home, before = Path(folder) / "home", 0
        for size in sizes:
            world = LedgerWorld.make(home, DEFAULT)
            grow(world, size - before, size)
            world.close()
            before = size
            command = [sys.executable, __file__, "--cell", str(home)]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 and 300 changes instead of 1,000 and 10,000")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cell", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.cell is not None:
        print(json.dumps(cell(asked.cell)))
        return
    rows = measure((100, 300) if asked.quick else (1_000, 10_000))
    growth = round(rows[-1]["peak_mib"] / rows[0]["peak_mib"], 3)
    if asked.json:
        print(json.dumps({"rows": rows, "peak_over_peak": growth, "limit_s": LIMIT_S}))
        return
    table = Table("changes", "flips", "unknown", "open s", "replay s", "of them CPU", "changes/CPU s", "peak MiB")
    for row in rows:
        rate = row["changes"] / row["replay_cpu_s"]
        named = ("changes", "flips", "unknown", "open_s", "replay_s", "replay_cpu_s")
        table.add_row(*(f"{row[name]:,}" for name in named), f"{rate:,.0f}", f"{row['peak_mib']:,}")
    Console().print(table)
    Console().print(f"peak memory of the larger over the smaller: {growth}; bar: 10,000 changes in {LIMIT_S} s")


if __name__ == "__main__":
    main()
