"""`make reproduce` on its smallest plan: from nothing to the table, and again without doing anything twice."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from bench.reproduce import RIVAL, Job, Plan, Reproduction, carry_out, table

SMALLEST = Plan(
    seeds=(0,),
    steps={"mass-gold": 1, "mass-verifier": 1},
    base=("--steps", "4", "--card-tasks", "1", "--probe-tasks", "1"),
    meta=(
        *("--validation-tasks", "1", "--tasks", "2", "--samples", "2", "--answer-tokens", "8"),
        *("--set", "warmup=1", "--set", "max_new_tokens=8", "--set", "solution_tokens=8"),
    ),
    evaluate=("--methods", f"base,mass-gold,{RIVAL}", "--n", "6", "--tune", "0", "--answer-tokens", "8"),
)


@pytest.mark.slow
def test_from_nothing_to_the_table_and_nothing_twice(tmp_path: Path) -> None:
    summary = Reproduction(tmp_path, SMALLEST).run()
    assert list(summary["seeds"]["0"]) == ["base", "mass-gold", RIVAL]
    assert "mass-gold" in table(summary) and "minutes" in table(summary)
    results = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()}
    rival = json.loads((tmp_path / "results" / f"{RIVAL}-0.json").read_text())
    dearest = max(json.loads((tmp_path / "results" / f"{name}-0.json").read_text())["flops"] for name in SMALLEST.steps)
    assert rival["ended"] == "flops" and rival["flops"] >= dearest
    again = Reproduction(tmp_path, SMALLEST).run()
    assert again["seeds"] == summary["seeds"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()} == results


def test_a_command_begins_as_soon_as_what_it_needs_is_there_and_no_sooner() -> None:
    needs = {"base": (), "mass-0": ("base",), "mass-1": ("base",)} | {
        "rival-0": ("mass-0",),
        "last": ("mass-1", "rival-0"),
    }
    ended: list[str] = []
    first = threading.Event()

    def run(job: Job) -> None:
        assert set(job.needs) <= set(ended)
        if job.name == "mass-1":  # ends only when rival-0, which does not need it, has begun
            assert first.wait(60)
        if job.name == "rival-0":
            first.set()
        ended.append(job.name)

    carry_out([Job(name, of, tuple) for name, of in needs.items()], run, 2)
    assert set(ended) == set(needs) and ended[-1] == "last"


def test_a_command_that_fails_begins_nothing_more() -> None:
    begun: list[str] = []

    def run(job: Job) -> None:
        begun.append(job.name)
        raise SystemExit("it failed")

    with pytest.raises(SystemExit, match="it failed"):
        carry_out([Job("one", (), tuple), Job("two", ("one",), tuple), Job("three", (), tuple)], run, 1)
    assert begun == ["one"]
