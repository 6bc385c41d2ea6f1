"""What a batch of changes costs beside the same changes one by one: a ratio within one run, on the shipped model.

    python bench/adapt.py [--batch 32] [--alone 12] [--policy solo] [--check 3] [--json]

After a warm-up, the held-out tasks are adapted to one by one (the first so many of them) and then all as one batch, by
`adapt_many`: complete changes, with gates, regression, decision, signing, sealing and the ledger. Figures are
processor seconds of the one thread, per task; `batched_over_single` says how many times cheaper a task is in the batch,
and the bar is 2. `practice_and_answer` is the same of the practice and the answers alone, without gates and suites.
Every change that was made both ways has to be the same (delta, answers, FLOPs, decision), and some changes of the batch
are replayed alone and have to be equal.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from mass_gov.config import load_settings
from mass_gov.flows.adapt import adapt
from mass_gov.flows.adapt_many import adapt_many
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.replay import replay
from mass_gov.flows.workbench import Workbench, current_origin
from mass_gov.mass.values import SamplingSettings
from mass_gov.tasks.registry import sample_tasks
from mass_gov.wiring import initialise, open_workbench, recommended_spec

SEED = 29
BAR = 2.0
T = TypeVar("T")


def processor(work: Callable[[], T]) -> tuple[float, T]:
    """Processor seconds of a piece of work, and its result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def measure(batch: int, alone: int, policy: str, check: int) -> dict[str, Any]:
    """Seconds per task both ways; raises SystemExit where the two ways part."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(home=Path(folder) / "home")
        initialise(settings, policy)[0].close()
        bench = open_workbench(settings, recommended_spec(settings))
        with bench.ledger:
            questions = [task.question for task in sample_tasks(batch + 2, seed=SEED)]
            _warm_up(questions[batch:], bench)
            asked = [Request(question, f"batch {i}", seed=i) for i, question in enumerate(questions[:batch])]
            singly = [Request(question, f"single {i}", seed=i) for i, question in enumerate(questions[:alone])]
            single, one_by_one = processor(lambda: [adapt(request, bench) for request in singly])
            batched, replies = processor(lambda: [reply for _, reply in adapt_many(asked, bench, size=batch)])
            together = [reply for reply in replies if isinstance(reply, Answered)]
            _compare(one_by_one, together)
            for answered in together[:check]:
                if (verdict := replay(answered.change.change_id, "scratch", bench).verdict) != "equal":
                    raise SystemExit(f"{answered.change.change_id} replays alone as {verdict}")
            parts = _parts(questions[:batch], alone, bench)
    return {
        "batch": batch,
        "alone": alone,
        "policy": policy,
        "seconds_per_task": {"single": single / alone, "batched": batched / batch},
        "batched_over_single": (single / alone) / (batched / batch),
        "practice_and_answer": parts,
        "replayed_equal": min(check, len(together)),
        "bar": BAR,
    }


def _warm_up(questions: Sequence[str], bench: Workbench) -> None:
    """What a process computes once: what is remembered of the base, and whether a batch keeps its bits."""
    requests = [Request(question, f"warm {i}", seed=i) for i, question in enumerate(questions)]
    for request, _ in adapt_many(requests, bench):
        adapt(Request(request.question, f"{request.task_id} again", seed=request.seed), bench)


def _compare(one_by_one: Sequence[Answered], together: Sequence[Answered]) -> None:
    for one, other in zip(one_by_one, together, strict=False):
        a, b = one.change.body, other.change.body
        if (a.update.delta, one.answer, a.cost.flops, a.decision) != (
            b.update.delta,
            other.answer,
            b.cost.flops,
            b.decision,
        ):
            raise SystemExit(f"change {b.identity.change_id} of the batch is not what it is alone")


def _parts(questions: Sequence[str], alone: int, bench: Workbench) -> dict[str, float]:
    """Processor seconds per task of writing the practice and of one answer, and their ratio."""
    learner, spec, adapter = bench.learner, bench.spec, current_origin(bench).start
    sampling = SamplingSettings(spec.sampling.temperature, spec.sampling.max_new_tokens)
    count, limit = spec.sampling.count, spec.answer.max_new_tokens
    rooms = [learner.widths(question, practise=1, solve=1) for question in questions]
    practise, solve = (max(widths) for widths in zip(*rooms, strict=True))

    def singly() -> None:
        for seed, question in enumerate(questions[:alone]):
            learner.write_samples(question, adapter, count=count, seed=seed, settings=sampling)
            learner.answer([question], adapter, max_new_tokens=limit)

    def together() -> None:
        seeds = range(len(questions))
        learner.write_samples_together(questions, adapter, count=count, seeds=seeds, settings=sampling, width=practise)
        asked = [[question] for question in questions]
        learner.answer_together(asked, [adapter] * len(questions), max_new_tokens=limit, width=solve)

    single, batched = processor(singly)[0] / alone, processor(together)[0] / len(questions)
    return {"single": single, "batched": batched, "batched_over_single": single / batched}


def main() -> int:
    """Print one table, or one JSON object; exit status 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--alone", type=int, default=12)
    parser.add_argument("--policy", default="solo")
    parser.add_argument("--check", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.batch, options.alone, options.policy, options.check)
    if options.json:
        json.dump(found, sys.stdout)
    else:
        title = f"processor ms a task, {options.batch} at once, policy {options.policy}"
        table = Table("what", "single", "batched", "batched over single", "bar", title=title)
        rows = {
            "complete changes": (found["seconds_per_task"] | found, f"{BAR:g}"),
            "practice and one answer": (found["practice_and_answer"], "-"),
        }
        for name, (row, bar) in rows.items():
            cells = (f"{1e3 * row['single']:.0f}", f"{1e3 * row['batched']:.0f}", f"{row['batched_over_single']:.2f}")
            table.add_row(name, *cells, bar)
        Console().print(table)
    return int(found["batched_over_single"] < BAR)


if __name__ == "__main__":
    sys.exit(main())
