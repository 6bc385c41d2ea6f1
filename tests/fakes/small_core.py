"""A MASS core made on the spot over any model folder: nothing is learned, everything is set.

The learned start has a non-zero B, every module its own step size, and the scorer's head random weights, so that a path
that forgets any of them computes other numbers.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from mass_gov.mass.core import Core, write_core
from mass_gov.mass.learner import Learner
from mass_gov.mass.lora import module_of
from mass_gov.mass.scorer import initial_head
from mass_gov.mass.values import Adapter, LoraSettings


def make_core(folder: Path, *, seed: int = 0, step_size: float = 0.05, scale: float = 0.01) -> Core:
    """A core that fits the model in `folder`; `scale` is how far its start lies from the base."""
    learner = Learner.open(folder)
    random = torch.Generator().manual_seed(seed)
    start = learner.initial_adapter(LoraSettings(rank=2, alpha=4, seed=seed))
    tensors = {
        name: scale * torch.randn(tensor.shape, generator=random) if ".lora_B." in name else tensor
        for name, tensor in start.tensors.items()
    }
    modules = sorted({module_of(name) for name in tensors})
    width = learner._model.model.get_input_embeddings().embedding_dim
    head = {
        name: tensor + torch.randn(tensor.shape, generator=random)
        for name, tensor in initial_head(width, 8, seed).items()
    }
    return Core(
        adapter=Adapter(replace(start.settings, seed=0), tensors),
        step_sizes={module: step_size * (1 + index / 7) for index, module in enumerate(modules)},
        scorer=head,
        steps=1,
        samples=4,
        temperature=1.25,
        max_new_tokens=40,
        softening=3.0,
    )


def with_core(source: Path, folder: Path, core: Core | None = None) -> Path:
    """Copy the model in `source` to `folder`, with `core` (or one made on the spot) beside its weights."""
    shutil.copytree(source, folder)
    write_core(core or make_core(source), folder)
    return folder
