"""One row of `bench/meta_gradient.py`, in a process of its own: one method, one model size; a line of JSON for each K.

    python bench/meta_gradient_cell.py METHOD SIZE K[,K...]

peak_mib: what one run adds at its highest to what the process held before it, from the kernel's own high-water mark
(VmHWM, set back before the run). It counts everything, the scratch space of kernels included. The bench fixes malloc's
mmap threshold low, so that a freed tensor goes back to the system at once and the mark is what was alive, not what
malloc kept. seconds: CPU time of one thread in user mode, so that neither a busy machine nor the page faults of that
threshold count. A run at K=1 that is not counted comes first.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from mass_gov.mass.adapter_losses import adapter_losses
from mass_gov.mass.bilevel import BilevelTask, SweepSettings
from mass_gov.mass.inner_loop import InnerOptimizer, gradient_descent, run_inner_loop
from mass_gov.mass.lora import LoraModel
from mass_gov.mass.losses import SolutionBatch, solution_batch
from mass_gov.mass.meta_gradient import meta_gradient
from mass_gov.mass.meta_gradient_oracles import naive_unroll
from mass_gov.mass.values import LoraSettings

SHAPES = {"3M": (256, 688, 4), "30M": (640, 1728, 6)}  # width, MLP width, layers
SAMPLES = {"3M": 12, "30M": 6}  # what the paper trains and tests with
PROMPT, SOLUTION, MICRO_BATCH, VOCABULARY, KIB = 16, 24, 3, 512, 1024.0


def build(size: str) -> BilevelTask:
    """A random Llama of that size with LoRA of rank 8 on the output projections, its samples and one gold solution."""
    torch.manual_seed(0)
    width, inner, layers = SHAPES[size]
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    model = LoraModel(LlamaForCausalLM(config).eval())
    adapter = model.initial(LoraSettings(rank=8, alpha=16))
    inner_losses, gold = (adapter_losses(model, adapter, batch(rows)) for rows in (SAMPLES[size], 1))
    return BilevelTask(
        inner_losses,
        lambda phi, theta: gold(phi, theta, slice(0, 1)).sum(),
        {name: tensor + 0.02 * torch.randn_like(tensor) for name, tensor in adapter.tensors.items()},
        {name: torch.tensor(0.1) for name in adapter.tensors},
        torch.softmax(torch.randn(SAMPLES[size]), dim=0),
    )


def batch(rows: int) -> SolutionBatch:
    """Random prompts and solutions, all of one length."""
    tokens = torch.randint(3, VOCABULARY, (rows, PROMPT + SOLUTION)).tolist()
    return solution_batch([(row[:PROMPT], row[PROMPT:]) for row in tokens], pad_id=0)


def plain_gradient(task: BilevelTask, steps: int) -> object:
    """The gradient of the inner loss, once per step: what any fine-tuning step costs."""

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return (task.scores * task.losses(parameters, {}, slice(None))).sum()

    def nowhere(gradients: dict[str, Tensor], state: Any, parameters: dict[str, Tensor]) -> Any:
        return {name: torch.zeros_like(tensor) for name, tensor in gradients.items()}, type(state)(state.step + 1)

    return run_inner_loop(loss, task.start, InnerOptimizer(gradient_descent({}).init, nowhere), steps)


def with_torchopt(task: BilevelTask, steps: int) -> object:
    """torchopt's functional SGD, differentiated as its documentation shows; its rate is a constant."""
    import torchopt  # noqa: PLC0415  (only this method needs it, in an environment of its own)

    start = {name: tensor.clone().requires_grad_() for name, tensor in task.start.items()}
    scores, optimizer = task.scores.clone().requires_grad_(), torchopt.sgd(0.1)
    phi, state = start, optimizer.init(start)
    for _ in range(steps):
        loss = (scores * task.losses(phi, {}, slice(None))).sum()
        found = torch.autograd.grad(loss, list(phi.values()), create_graph=True)
        updates, state = optimizer.update(dict(zip(phi, found, strict=True)), state, inplace=False)
        phi = torchopt.apply_updates(phi, updates, inplace=False)
    return torch.autograd.grad(task.outer(phi, {}), [scores, *start.values()])


METHODS: dict[str, Callable[[BilevelTask, int], object]] = {
    "gradient": plain_gradient,
    "attribution": lambda task, steps: meta_gradient(task, SweepSettings(steps, start_gradient=False)),
    "sweep": lambda task, steps: meta_gradient(task, SweepSettings(steps)),
    "sweep, micro-batched": lambda task, steps: meta_gradient(task, SweepSettings(steps, micro_batch=MICRO_BATCH)),
    "naive": lambda task, steps: naive_unroll(task, SweepSettings(steps)),
    "torchopt": with_torchopt,
}


def status(field: str) -> float:
    """A line of /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / KIB


def measure(run: Callable[[], object]) -> dict[str, float]:
    """MiB that the first run adds, and user CPU seconds: the least of as many runs as take three seconds together."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    spent, peaks = list[float](), list[float]()
    while sum(spent) < 3:
        started = getrusage(RUSAGE_SELF).ru_utime
        run()
        spent.append(getrusage(RUSAGE_SELF).ru_utime - started)
        peaks.append(status("VmHWM") - before)
    return {"peak_mib": peaks[0], "seconds": min(spent)}


def main() -> int:
    """Measure one row."""
    method, size, steps = sys.argv[1:]
    torch.set_num_threads(1)
    task, work = build(size), METHODS[method]
    work(task, 1)
    for k in map(int, steps.split(",")):
        print(json.dumps({"size": size, "method": method, "steps": k} | measure(lambda k=k: work(task, k))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
