"""Serving under load: is /healthz prompt while adaptations run, and what does killing the server at random lose?

    python bench/serving.py --seconds 30 --kills 30

A real `mass-gov serve` with the shipped core, asked by threads. First part: seconds of /healthz one after the other
while the learner is never idle. Second part: the server is killed (SIGKILL) at a random moment under load, again and
again; after each kill the log is verified, every answer that a client got has its event there, and every change whose
id a client got is there. Prints a table, and JSON with --json.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from mass_gov.config import load_settings
from mass_gov.flows.audit import verify
from mass_gov.wiring import read_ledger
from tests.fakes.http_load import Load, missing
from tests.fakes.http_server import Server, furnish, serving
from tests.fakes.policies import lean_policy


def health(server: Server, seconds: float) -> dict[str, float]:
    """Milliseconds of /healthz while adaptations run."""
    load, took = Load(server), list[float]()
    with load.running(), server.client(None) as client:
        client.get("/healthz")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            started = time.perf_counter()
            client.get("/healthz").raise_for_status()
            took.append((time.perf_counter() - started) * 1000)
            time.sleep(0.01)
    took.sort()
    rank = {"p50": 0.5, "p99": 0.99}
    return {
        "probes": len(took),
        "answers": len(load.given),
        **{name: round(took[int(share * (len(took) - 1))], 2) for name, share in rank.items()},
        "max": round(took[-1], 2),
    }


def kills(home: Path, tokens: dict[str, str], count: int) -> dict[str, Any]:
    """Kill the server at random under load, `count` times."""
    chance, given, lost = random.Random(7), list[dict[str, Any]](), list[str]()
    for _ in range(count):
        with serving(home, tokens, serve_verify="tree") as server:
            server.ready(600)
            load = Load(server)
            with load.running():
                time.sleep(chance.uniform(0.2, 8.0))
                server.stop(signal.SIGKILL)
        given += load.given
        lost += missing(home, given)
    with read_ledger(load_settings(home=home)) as ledger:
        whole = verify(ledger)
    return {
        "kills": count,
        "answers": len(given),
        "changes": sum(1 for one in given if one["change_id"] is not None),
        "lost": lost,
        "verifies": whole.first_wrong is None,
    }


def main() -> None:
    """Run both parts and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        tokens = furnish(home, lean_policy(Path(folder)))
        with serving(home, tokens) as server:
            server.ready(600)
            found: dict[str, Any] = {"health": health(server, asked.seconds)}
        found["killed"] = kills(home, tokens, asked.kills)
    if asked.json:
        print(json.dumps(found))
        return
    for part, values in found.items():
        for name, value in values.items():
            print(f"{part:8} {name:10} {value}")


if __name__ == "__main__":
    main()
