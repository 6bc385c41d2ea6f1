"""Several processes on one meta-training run: each takes its slice of every step's tasks, gradients are averaged.

Rules: Accelerate says which process this is and starts the process group (gloo on CPU, NCCL on CUDA); the loss is a
mean over tasks and slices are equally long, so that the mean of the slices' gradients is that of the whole step. One
process needs none of it, and then nothing is started. Process 0 writes; everything else is computed everywhere, from
the same numbers, so that no decision has to be sent.

Does not know what is trained.
"""

from __future__ import annotations

import torch
from accelerate import PartialState
from torch import Tensor, distributed

from mass_gov.errors import InputError


class Processes:
    """This process among those of the run. Made once per process, before the model is loaded."""

    def __init__(self, device: str) -> None:
        state = PartialState(cpu=device == "cpu")
        self.index: int = state.process_index
        self.count: int = state.num_processes
        self.device: torch.device = state.device if device == "cuda" else torch.device(device)

    @property
    def is_first(self) -> bool:
        """Whether this one writes."""
        return self.index == 0

    def slice(self, tasks: int) -> slice:
        """Which of a step's tasks are this process's. Raises InputError where they cannot be shared out equally."""
        if tasks % self.count:
            raise InputError(f"{tasks} tasks a step cannot be shared by {self.count} processes. Give a multiple.")
        each = tasks // self.count
        return slice(self.index * each, (self.index + 1) * each)

    def average(self, tensors: list[Tensor]) -> None:
        """Replace every tensor by its mean over the processes, in place; all get the same bits."""
        if self.count == 1:
            return
        for tensor in tensors:
            distributed.all_reduce(tensor)
            tensor.div_(self.count)

    def means(self, values: dict[str, float]) -> dict[str, float]:
        """Figures averaged over the processes; one that a process lacks counts where it is there."""
        if self.count == 1:
            return values
        gathered: list[dict[str, float] | None] = [None] * self.count
        distributed.all_gather_object(gathered, values)
        rows = [row for row in gathered if row is not None]
        names = dict.fromkeys(name for row in rows for name in row)
        found = {name: [row[name] for row in rows if name in row] for name in names}
        return {name: sum(all_) / len(all_) for name, all_ in found.items()}

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier()

    def close(self) -> None:
        """Leave the process group. Calling it twice does nothing."""
        if self.count > 1 and distributed.is_initialized():
            distributed.destroy_process_group()
