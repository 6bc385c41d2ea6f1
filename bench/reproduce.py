"""Everything again from nothing: pretraining, meta-training, evaluation. `make reproduce`, `make reproduce-quick`.

    base -> mass-gold, mass-verifier (a run a seed) -> solver-grpo (as many FLOPs) -> the core rows, seed by seed

Two commands run at a time, each on one thread, and each as soon as what it needs is there. Layout of the folder
(runs/reproduce, or --out): `base/` and `RECIPE-SEED/`, the run folders; `weights-SEED/`, what `evaluate --weights`
takes; `results/NAME.json`, what each command printed; `logs/NAME.log`, the rest of it; `figures/`, of the first seed;
`summary.json`. Called again, it goes on: a command whose result is there is not run again, and an interrupted run is
resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

AT_ONCE = 2
RUNS = Path(__file__).resolve().parents[1] / "runs"
RIVAL = "solver-grpo"
# The core rows, and what the bars hold MASS against.
ROWS = ",".join(
    (
        "core",
        *(
            f"mass-{own}/{end}"
            for own in ("gold", "verifier")
            for end in ("uniform", "no-adaptation", "other-task-delta")
        ),
    )
)


@dataclass(frozen=True)
class Plan:
    """How much of everything.

    Args:
        steps: outer steps by recipe, dearest first, None for the recipe's own; the rival gets as many FLOPs as the
            dearest of them on the same seed.
        base, meta, evaluate: further options of the commands.
        evaluation: `--seed` of the tasks: the same for all training seeds.
        figures: whether the first seed's figures are drawn, into `figures/`.
    """

    seeds: tuple[int, ...]
    steps: Mapping[str, int | None]
    base: tuple[str, ...] = ()
    meta: tuple[str, ...] = ()
    evaluate: tuple[str, ...] = ()
    evaluation: int = 0
    figures: bool = False


FULL = Plan(
    seeds=(0, 1, 2),
    steps={"mass-verifier": None, "mass-gold": None},
    evaluate=("--methods", ROWS, "--n", "1002"),
    evaluation=1,  # other tasks than those of seed 0 and 7, on which settings were looked at
    figures=True,
)
QUICK = Plan(
    seeds=(0,),
    steps={"mass-verifier": 40, "mass-gold": 60},
    base=("--steps", "1500", "--card-tasks", "20", "--probe-tasks", "2"),
    meta=("--validation-tasks", "30"),
    evaluate=("--methods", "core", "--n", "60", "--tune", "12"),
)


@dataclass(frozen=True)
class Job:
    """One command: its name, whose results it needs, and what puts it together once those are there."""

    name: str
    needs: tuple[str, ...]
    command: Callable[[], tuple[str, ...]]


def carry_out(jobs: Sequence[Job], run: Callable[[Job], None], at_once: int) -> None:
    """Run all jobs, `at_once` at a time: always the first one whose needs are done.

    The first failure is raised when the others that had begun have ended.
    """
    waiting, done, running = list(jobs), set[str](), dict[Future[None], str]()
    with ThreadPoolExecutor(at_once) as pool:
        while waiting or running:
            ready = [job for job in waiting if done.issuperset(job.needs)][: at_once - len(running)]
            for job in ready:
                waiting.remove(job)
                running[pool.submit(run, job)] = job.name
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for one in ended:
                one.result()
                done.add(running.pop(one))


class Reproduction:
    """One folder in which a plan is carried out."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        for name in ("results", "logs"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def run(self) -> dict[str, Any]:
        """Carry it out; the summary."""
        began = time.monotonic()
        carry_out(self._jobs(), lambda job: self._command(*job.command()), AT_ONCE)
        summary = {"minutes": round((time.monotonic() - began) / 60, 1), "seeds": self._figures()}
        (self.folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        return summary

    def _jobs(self) -> list[Job]:
        """Trainings before evaluations, but for the first seed's: it draws the figures too and takes longest."""
        first, *others = self.plan.seeds
        jobs = [Job("base", (), self._base), *self._trainings(first), self._judged(first)]
        jobs += [job for seed in others for job in self._trainings(seed)]
        return [*jobs, *map(self._judged, others)]

    def _trainings(self, seed: int) -> list[Job]:
        mass = {f"{recipe}-{seed}": partial(self._mass, recipe, seed) for recipe in self.plan.steps}
        rival = Job(f"{RIVAL}-{seed}", tuple(mass), partial(self._rival, seed))
        return [*(Job(name, ("base",), command) for name, command in mass.items()), rival]

    def _judged(self, seed: int) -> Job:
        return Job(f"evaluation-{seed}", (f"{RIVAL}-{seed}",), partial(self._evaluation, seed))

    def _base(self) -> tuple[str, ...]:
        return ("base", "train", "base", *self._place("base"), "--seed", "0", *self.plan.base)

    def _mass(self, recipe: str, seed: int) -> tuple[str, ...]:
        steps = self.plan.steps[recipe]
        return self._meta(recipe, seed, *(() if steps is None else ("--steps", str(steps))))

    def _rival(self, seed: int) -> tuple[str, ...]:
        flops = max(self._result(f"{recipe}-{seed}")["flops"] for recipe in self.plan.steps)
        return self._meta(RIVAL, seed, "--flops", str(flops))

    def _meta(self, recipe: str, seed: int, *more: str) -> tuple[str, ...]:
        name = f"{recipe}-{seed}"
        base = str(self.folder / "base" / "weights")
        given = ("--base", base, "--recipe", recipe, "--seed", str(seed), *more, *self.plan.meta)
        return (name, "train", "meta", *self._place(name), *given)

    def _evaluation(self, seed: int) -> tuple[str, ...]:
        weights = self.folder / f"weights-{seed}"
        shutil.rmtree(weights, ignore_errors=True)
        shutil.copytree(self.folder / "base" / "weights", weights / "base")
        for recipe in (*self.plan.steps, RIVAL):
            shutil.copytree(self.folder / f"{recipe}-{seed}" / "weights", weights / recipe)
        drawn = self.plan.figures and seed == self.plan.seeds[0]
        figures = ("--figures", str(self.folder / "figures")) if drawn else ()
        given = ("--weights", str(weights), "--seed", str(self.plan.evaluation), *self.plan.evaluate, *figures)
        return (f"evaluation-{seed}", "evaluate", *given)

    def _place(self, name: str) -> tuple[str, ...]:
        """The run folder, with --resume where there is something in it."""
        folder = self.folder / name
        begun = folder.is_dir() and any(folder.iterdir())
        return ("--out", str(folder), *(("--resume",) if begun else ()))

    def _command(self, name: str, *arguments: str) -> None:
        """Run one `mass-gov` command with its output into the folder, unless its result is there."""
        result = self.folder / "results" / f"{name}.json"
        if result.exists():
            return
        print(f"$ mass-gov {' '.join(arguments)} --json", file=sys.stderr, flush=True)
        partial = result.with_suffix(".part")
        log = self.folder / "logs" / f"{name}.log"
        with partial.open("w", encoding="utf-8") as out, log.open("a", encoding="utf-8") as err:
            command = [sys.executable, "-m", "mass_gov.cli.main", *arguments, "--json"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, stdout=out, stderr=err, env=environment, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{name} ended with exit status {done.returncode}. {log} says why; run it again to go on.")
        partial.replace(result)

    def _result(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "results" / f"{name}.json").read_text(encoding="utf-8"))
        return found

    def _figures(self) -> dict[str, Any]:
        """Training seed -> method -> accuracy and the paired difference to the base, with their intervals."""
        wanted = ("accuracy", "ci", "delta_vs_base")
        return {
            str(seed): {
                method: {name: row[name] for name in wanted}
                for method, row in self._result(f"evaluation-{seed}")["methods"].items()
            }
            for seed in self.plan.seeds
        }


def table(summary: Mapping[str, Any]) -> str:
    """Method by seed: percent right, and the difference to the base in points."""
    seeds = summary["seeds"]
    methods = list(next(iter(seeds.values())))
    lines = [f"{'method':16}" + "".join(f"{'seed ' + seed:>24}" for seed in seeds)]
    for method in methods:
        cells = [_cell(seeds[seed][method]) for seed in seeds]
        lines.append(f"{method:16}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join([*lines, f"{summary['minutes']} minutes"])


def _cell(row: Mapping[str, Any]) -> str:
    low, middle, high = (100 * value for value in row["delta_vs_base"])
    return f"{100 * row['accuracy']:.1f} {middle:+.1f} [{low:+.1f}, {high:+.1f}]"


def main() -> None:
    """Read the options, carry out the plan, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller one, under fifteen minutes")
    parser.add_argument("--out", type=Path, help="the folder (default: runs/reproduce or runs/reproduce-quick)")
    given = parser.parse_args()
    folder = given.out or RUNS / ("reproduce-quick" if given.quick else "reproduce")
    print(table(Reproduction(folder, QUICK if given.quick else FULL).run()))


if __name__ == "__main__":
    main()
