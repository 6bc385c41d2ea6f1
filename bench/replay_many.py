"""N random changes of the shipped model, replayed from scratch in fresh processes: is every digest equal?

    python bench/replay_many.py [--changes 20] [--seed 0] [--processes 2] [--folder FOLDER] [--json]

Drawn by the seed: tasks of every domain in turn, alone or several computed in one batch; K in 1..4; step sizes as
learned or smaller ones that stay inside the envelope; each task's samples' seed and scope (one in five of scope
deployment); and one of two deployments: `young` stays on the base, `grown` takes as its next state
what applied to an instance or was held. After every 50, `mass-gov replay --since` in new processes, which share nothing
with the one that made the changes. Exit status 1 where one of them is not `equal`.

With --folder, ledger and finished rounds are kept, and the same command goes on where it was stopped.

Does not know other machines, numbers of threads or kernels: tests/e2e/test_cli_replay_elsewhere.py does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mass_gov.config import Settings, load_settings
from mass_gov.evidence.canonical import parse_canonical
from mass_gov.flows.adapt import adapt
from mass_gov.flows.adapt_many import adapt_many
from mass_gov.flows.approve import approve, promote
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.freeze import unfreeze
from mass_gov.flows.workbench import Workbench
from mass_gov.ledger import ChangeView
from mass_gov.records.artifacts import SamplesContent
from mass_gov.records.change import Scope
from mass_gov.records.events import Actor
from mass_gov.tasks.registry import sample_tasks
from mass_gov.tasks.task import Task
from mass_gov.wiring import has_ledger, initialise, open_workbench, recommended_spec

ROUND = 50
SIZES = (1,) * 8 + (2, 3, 6)
SCOPES: tuple[Scope, ...] = ("instance",) * 4 + ("deployment",)
OPERATOR, GROWS = Actor(principal="local", role="operator"), "the bench grows"
SMALL = 0.2
"""A step size for all modules, with which several steps stay inside the envelope."""
PARTS = ("scope", "parent", "steps", "computed", "domain", "outcome")
"""By what the verdicts are counted."""


@dataclass(frozen=True)
class Together:
    """Requests that are made at once, of one deployment and with the same update."""

    requests: tuple[Request, ...]
    domains: tuple[str, ...]
    deployment: str
    update: dict[str, Any]


def plan(count: int, seed: int) -> Iterator[Together]:
    """What to make, the same at every call; a larger count only adds to it."""
    tasks = sample_tasks(count, seed=seed)
    draw, start = random.Random(seed), 0
    while start < count:
        size, steps, small = draw.choice(SIZES), draw.randint(1, 4), draw.random() < 0.5
        update: dict[str, Any] = {"steps": steps} | ({"step_size": SMALL, "step_sizes": None} if small else {})
        deployment, part = draw.choice(("young", "grown")), tasks[start : start + size]
        requests = tuple(_request(task, str(start + i), draw) for i, task in enumerate(part))
        yield Together(requests, tuple(task.domain for task in part), deployment, update)
        start += size


def _request(task: Task, name: str, draw: random.Random) -> Request:
    return Request(task.question, name, scope=draw.choice(SCOPES), seed=draw.getrandbits(32))


def rounds(count: int, seed: int) -> Iterator[list[Together]]:
    """The plan in parts of at least 50 changes, except the last."""
    part: list[Together] = []
    for one in plan(count, seed):
        part.append(one)
        if sum(len(together.requests) for together in part) >= ROUND:
            yield part
            part = []
    if part:
        yield part


def make(together: Together, bench: Workbench) -> list[dict[str, Any]]:
    """Record the changes, or find them recorded by an earlier run."""
    update = bench.spec.update.model_copy(update=together.update)
    spec = bench.spec.model_copy(update={"update": update})
    place = replace(bench, spec=spec, deployment=together.deployment)
    _thaw(place)
    replies = [reply for _, reply in adapt_many(together.requests, place, size=len(together.requests))]
    made = [
        reply.change if isinstance(reply, Answered) else _alone(request, place)
        for request, reply in zip(together.requests, replies, strict=True)
    ]
    described = [_described(change, domain, place) for change, domain in zip(made, together.domains, strict=True)]
    if together.deployment == "grown":
        _grow(made[-1], place)  # the last one starts where the pointer stands
    return described


def _grow(change: ChangeView, place: Workbench) -> None:
    _thaw(place)
    if change.status == "held":
        change = approve(place.ledger, change.change_id, OPERATOR, GROWS).change
    if change.status == "applied":  # of scope instance; one of scope deployment moved the pointer
        promote(place.ledger, change.change_id, OPERATOR, GROWS)


def _thaw(place: Workbench) -> None:
    if place.ledger.frozen(place.tenant, place.deployment) is not None:  # an alarm of a window: no matter here
        unfreeze(place.ledger, OPERATOR, "the bench goes on", place.tenant, place.deployment)


def _alone(request: Request, place: Workbench) -> ChangeView:
    """What was answered un-adapted, because an alarm came before its turn."""
    _thaw(place)
    return adapt(request, place).change


def _described(change: ChangeView, domain: str, place: Workbench) -> dict[str, Any]:
    body, ledger = change.body, place.ledger
    samples = SamplesContent.model_validate(parse_canonical(ledger.artifact(change.entry, "samples")))
    return {
        "change_id": change.change_id,
        "index": change.entry.index,
        "domain": domain,
        "scope": body.identity.scope,
        "parent": "base" if body.parents.parent_state == place.base_state else "promoted",
        "steps": f"K={place.spec.update.steps}",
        "computed": "alone" if samples.batch is None else "in a batch",
        "outcome": f"{body.update.outcome}, {body.decision.verdict}",
    }


def measure(count: int, seed: int, processes: int, folder: Path) -> dict[str, Any]:
    """Make and replay them round by round, and put the verdicts beside what was replayed."""
    settings = load_settings(home=folder / "home")
    folder.mkdir(parents=True, exist_ok=True)
    if not has_ledger(settings):
        initialise(settings, "solo")[0].close()
    done = [
        _round(part, folder / f"round-{seed}-{number:03}.json", processes, settings)
        for number, part in enumerate(rounds(count, seed))
    ]
    rows = [row for part in done for row in part["replays"]]
    return {
        "changes": sum(len(part["replays"]) for part in done),
        "seed": seed,
        "processes": processes,
        "seconds_per_change": {
            name: sum(part["seconds"][name] for part in done) / count for name in ("made", "replayed")
        },
        "verdicts": Counter(row["verdict"] for row in rows),
        "by": {name: _counts(rows, name) for name in PARTS},
        "combinations": len({tuple(row[name] for name in PARTS[:-1]) for row in rows}),
        "answers_without_a_change": dict(sum((Counter(part["answers"]) for part in done), Counter())),
        "others": [row for row in rows if row["verdict"] != "equal"],
    }


def _round(part: Sequence[Together], file: Path, processes: int, settings: Settings) -> dict[str, Any]:
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if len(kept["replays"]) == sum(len(together.requests) for together in part):
            return dict(kept)
    started = time.perf_counter()
    bench = open_workbench(settings, recommended_spec(settings))
    with bench.ledger:
        made = [one for together in part for one in make(together, bench)]
    making, started = time.perf_counter() - started, time.perf_counter()
    found = _replayed(min(one["index"] for one in made), processes, settings)
    replays = [one | _verdict(found.pop(one["change_id"])) for one in made]
    seconds = {"made": making, "replayed": time.perf_counter() - started}
    answers = Counter(row["verdict"] for row in found.values())
    done = {"replays": replays, "answers": answers, "seconds": seconds}
    file.write_text(json.dumps(done), encoding="utf-8")
    print(f"{file.stem}: {dict(Counter(one['verdict'] for one in replays))}", file=sys.stderr, flush=True)
    return done


def _replayed(since: int, processes: int, settings: Settings) -> dict[str, Any]:
    command = [sys.executable, "-m", "mass_gov.cli.main", "replay", "--since", str(since), "--json"]
    environment = os.environ | {"MASS_GOV_HOME": str(settings.home)}
    command += ["--processes", str(processes)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=False, env=environment)
    return {row["target"]: row for row in json.loads(ran.stdout)["replays"]}


def _verdict(row: dict[str, Any]) -> dict[str, Any]:
    return {"verdict": row["verdict"], "detail": row["detail"]}


def _counts(rows: Sequence[dict[str, Any]], by: str) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for row in sorted(rows, key=lambda row: str(row[by])):
        found.setdefault(row[by], Counter())[row["verdict"]] += 1
    return {name: dict(counts) for name, counts in found.items()}


def show(found: dict[str, Any]) -> None:
    """The same as tables."""
    verdicts = sorted(found["verdicts"])
    table = Table("changes", *verdicts, title=f"{found['changes']} random changes, seed {found['seed']}")
    for part in found["by"].values():
        for name, counts in part.items():
            table.add_row(name, *(str(counts.get(verdict, 0)) for verdict in verdicts))
        table.add_section()
    table.add_row("all", *(str(found["verdicts"][verdict]) for verdict in verdicts))
    console, seconds = Console(), found["seconds_per_change"]
    console.print(table)
    made, replayed = f"{seconds['made']:.2f} s to make one", f"{seconds['replayed']:.2f} s to replay it"
    console.print(f"{made}, {replayed} in {found['processes']} processes")
    for row in found["others"]:
        console.print(f"{row['change_id']}: {row['detail']}")


def main() -> int:
    """Print tables, or one JSON object; exit status 1 where a replay is not equal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep ledger and finished rounds here, and go on with them")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(options.changes, options.seed, options.processes, options.folder or Path(temporary))
    if options.json:
        json.dump(found, sys.stdout)
    else:
        show(found)
    return int(bool(found["others"]))


if __name__ == "__main__":
    sys.exit(main())
