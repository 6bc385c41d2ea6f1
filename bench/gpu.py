"""The meta-gradient of a 1B-parameter Llama in bfloat16 on a GPU: memory and time against naive unrolling.

    python bench/gpu.py [--steps 1,2,4,8,16] [--repeats 3] [--tasks 1,4,16] [--json]
    python bench/gpu.py --rehearse      every path, on a toy model without a GPU; its figures mean nothing

Random weights in the shape of Llama-3.2-1B (bfloat16, eager attention), LoRA r=8 on its output projections, six
samples of 128 + 128 tokens. Per K: peak memory above what the model holds, seconds of one meta-gradient, how far the
two ways' attributions are apart. Then whole adaptations (K = 1) per second, several tasks in one pass. Where naive
unrolling does not fit, that is the result. Without CUDA nothing is measured and the exit status is 3.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from mass_gov.mass.adapter_losses import NAMES, adapter_losses, stack
from mass_gov.mass.batched import run_inner_loops
from mass_gov.mass.bilevel import BilevelTask, MetaGradient, SweepSettings
from mass_gov.mass.inner_loop import Parameters, gradient_descent
from mass_gov.mass.lora import LoraModel
from mass_gov.mass.losses import SolutionBatch, solution_batch
from mass_gov.mass.meta_gradient import meta_gradient
from mass_gov.mass.meta_gradient_oracles import naive_unroll
from mass_gov.mass.values import Adapter, LoraSettings

NOTHING_MEASURED = 3
SAMPLES, PROMPT, SOLUTION = 6, 128, 128
STEP_SIZE = 1e-3


class Bench(NamedTuple):
    """The model with its adapter in place, and how long texts are."""

    model: LoraModel
    adapter: Adapter
    device: torch.device
    prompt: int
    solution: int
    vocabulary: int


class Run(NamedTuple):
    """One way to one meta-gradient. `gibibytes` is None where the device does not count its memory."""

    seconds: float
    gibibytes: float | None
    attribution: Tensor


def open_bench(device: torch.device, *, toy: bool) -> Bench:
    """A random Llama on `device` with LoRA slots; B is not zero, so that every second derivative is there."""
    shape = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "vocab_size": 128_256}
    if toy:
        shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 128}
    heads = {"num_attention_heads": 32 if not toy else 4, "num_key_value_heads": 8 if not toy else 2}
    library: Any = LlamaForCausalLM
    torch.manual_seed(0)
    config: Any = LlamaConfig(**shape, **heads, tie_word_embeddings=True, attn_implementation="eager")
    with device:
        model = LoraModel(library(config).to(torch.bfloat16).eval())
    initial = model.initial(LoraSettings(rank=8, alpha=16, targets=(), seed=1))
    tensors = {name: (t if ".lora_A." in name else torch.randn(t.shape) * 0.01) for name, t in initial.tensors.items()}
    adapter = Adapter(initial.settings, {name: tensor.to(device) for name, tensor in tensors.items()})
    lengths = (8, 8) if toy else (PROMPT, SOLUTION)
    return Bench(model, adapter, device, *lengths, shape["vocab_size"])


def samples(bench: Bench, count: int, seed: int) -> SolutionBatch:
    """`count` samples of random tokens."""
    generator = torch.Generator().manual_seed(seed)

    def draw(length: int) -> list[int]:
        return torch.randint(4, bench.vocabulary, (length,), generator=generator).tolist()

    return solution_batch([(draw(bench.prompt), draw(bench.solution)) for _ in range(count)], 0)


def placed(batch: SolutionBatch, device: torch.device) -> SolutionBatch:
    """The same batch on `device`."""
    return SolutionBatch(*(getattr(batch, name).to(device) for name in NAMES))


def one_task(bench: Bench) -> BilevelTask:
    """Six scored samples to practise on, two others to be judged by."""
    practice = placed(samples(bench, SAMPLES, 1), bench.device)
    gold = placed(samples(bench, 2, 2), bench.device)
    judged = adapter_losses(bench.model, bench.adapter, gold)
    scores = torch.full((SAMPLES,), 1.0 / SAMPLES, device=bench.device)
    return BilevelTask(
        adapter_losses(bench.model, bench.adapter, practice),
        lambda phi, theta: judged(phi, theta, slice(0, 2)).mean(),
        dict(bench.adapter.tensors),
        dict.fromkeys(bench.adapter.tensors, STEP_SIZE),
        scores,
    )


def measured(bench: Bench, work: Callable[[], MetaGradient], repeats: int) -> Run | None:
    """Median seconds and peak memory of `work`, after one run to warm up; None where it does not fit."""
    seconds: list[float] = []
    cuda = bench.device.type == "cuda"
    peak = 0
    try:
        for _ in range(repeats + 1):
            before = torch.cuda.memory_allocated() if cuda else 0
            if cuda:
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()
            started = time.perf_counter()
            attribution = work().scores
            if cuda:
                torch.cuda.synchronize()
                peak = max(peak, torch.cuda.max_memory_allocated() - before)
            seconds.append(time.perf_counter() - started)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    return Run(statistics.median(seconds[1:]), peak / 2**30 if cuda else None, attribution.double().cpu())


def meta_gradients(bench: Bench, steps: list[int], repeats: int) -> list[dict[str, Any]]:
    """One row per K: the sweep, the sweep in micro-batches of two samples, naive unrolling."""
    task, rows = one_task(bench), []
    for k in steps:
        ways = {
            "sweep": lambda k=k: meta_gradient(task, SweepSettings(k)),
            "sweep, 2 at once": lambda k=k: meta_gradient(task, SweepSettings(k, micro_batch=2)),
            "naive": lambda k=k: naive_unroll(task, SweepSettings(k)),
        }
        runs = {name: measured(bench, work, repeats) for name, work in ways.items()}
        row: dict[str, Any] = {"k": k}
        for name, run in runs.items():
            row[name] = None if run is None else {"seconds": run.seconds, "gibibytes": run.gibibytes}
        exact, judge = runs["sweep"], runs["naive"]
        if exact and judge:
            apart = (exact.attribution - judge.attribution).norm() / judge.attribution.norm()
            row["attribution apart"] = float(apart)
        rows.append(row)
    return rows


def adaptations(bench: Bench, tasks: list[int], repeats: int) -> list[dict[str, float]]:
    """Whole adaptations (six samples, one step) per second, for several tasks in one pass."""
    rows = []
    weights = torch.full((SAMPLES,), 1.0 / SAMPLES, device=bench.device)
    optimizer = gradient_descent(dict.fromkeys(bench.adapter.tensors, STEP_SIZE))
    for count in tasks:
        batch = placed(stack([samples(bench, SAMPLES, 10 + i) for i in range(count)], 0), bench.device)

        def loss(phi: Parameters, *tensors: Tensor) -> Tensor:
            losses = adapter_losses(bench.model, bench.adapter, SolutionBatch(*tensors))
            return (weights * losses(phi, {}, slice(0, SAMPLES))).sum()

        starts, inputs = [dict(bench.adapter.tensors)] * count, [getattr(batch, name) for name in NAMES]
        seconds = []
        for _ in range(repeats + 1):
            started = time.perf_counter()
            run_inner_loops(loss, starts, inputs, optimizer, 1)
            if bench.device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        rows.append({"tasks": count, "per second": count / statistics.median(seconds[1:])})
    return rows


def show(report: dict[str, Any]) -> None:
    """Two tables for people."""
    console, ways = Console(), ("sweep", "sweep, 2 at once", "naive")
    table = Table("K", *ways, "apart", title=f"one meta-gradient on {report['device']}: seconds, GiB above the model")
    for row in report["meta_gradient"]:
        apart = row.get("attribution apart")
        table.add_row(str(row["k"]), *(_cell(row[way]) for way in ways), "" if apart is None else f"{apart:.1e}")
    console.print(table)
    table = Table("tasks in one pass", "adaptations per second")
    for row in report["adaptations"]:
        table.add_row(str(row["tasks"]), f"{row['per second']:.2f}")
    console.print(table)


def _cell(run: dict[str, float | None] | None) -> str:
    if run is None:
        return "does not fit"
    memory = run["gibibytes"]
    return f"{run['seconds']:.3f} s" + ("" if memory is None else f", {memory:.2f} GiB")


def main() -> int:
    """Measure and print; 3 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", default="1,2,4,8,16")
    parser.add_argument("--tasks", default="1,4,16")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rehearse", action="store_true", help="a toy model on the CPU: every path, no figure")
    options = parser.parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        print("There is no CUDA device here, so nothing was measured. Run it on a machine with one.", file=sys.stderr)
        return NOTHING_MEASURED
    device = torch.device("cpu" if options.rehearse else "cuda")
    bench = open_bench(device, toy=options.rehearse)
    report = {
        "measured": not options.rehearse,
        "device": "a rehearsal" if options.rehearse else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "parameters": bench.model.parameter_count,
        "meta_gradient": meta_gradients(bench, [int(k) for k in options.steps.split(",")], options.repeats),
        "adaptations": adaptations(bench, [int(n) for n in options.tasks.split(",")], options.repeats),
    }
    if options.json:
        json.dump(report, sys.stdout)
    else:
        show(report)
    if options.rehearse:
        print("This was a rehearsal on a toy model without a GPU: nothing was measured.", file=sys.stderr)
        return NOTHING_MEASURED
    return 0


if __name__ == "__main__":
    sys.exit(main())
