"""A MASS core made on the spot over any model folder: nothing is learned, everything is set.

The learned start has a non-zero B, every module its own step size, and the scorer's head random weights, so that a path
that forgets any of them computes other numbers.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from mass_gov.mass.core import Core, write_core
from mass_gov.mass.learner import Learner
from mass_gov.mass.lora import module_of
from mass_gov.mass.scorer import feature_size, initial_head
from mass_gov.mass.values import Adapter, LoraSettings
from tests.fakes.tiny_models import make_model, make_tokenizer


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
    width = feature_size(learner._model.model)
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


TALKATIVE = {
    "chat": False,
    "marker": "^",
    "practise": "T {question}\nP ",
    "separator": "~",
    "solve": "Q {question}\nA ",
    "stop": ["|"],
}
_WANTED = "~^|0123456789"


def make_talkative(folder: Path, architecture: str) -> Path:
    """A tiny random model that writes hardly anything but digits, separators, markers and stops.

    Every hidden state is given a part in one direction, and the wanted characters' output rows the same, so that about
    every tenth sample parses although nothing was learned.
    """
    make_model(folder, architecture)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    wanted = [make_tokenizer().convert_tokens_to_ids(character) for character in _WANTED]
    inputs = next(name for name in tensors if name.endswith(("embed_tokens.weight", "wte.weight")))
    width = tensors[inputs].shape[1]
    direction = torch.ones(width) / width**0.5
    if architecture == "gpt2":  # its embedding is its head, but its last norm has a bias
        tensors["transformer.ln_f.bias"] = 4 * direction
        tensors[inputs][wanted] += 2 * direction
    else:
        tensors[inputs] += 8 * direction
        tensors["lm_head.weight"] *= 0.1
        tensors["lm_head.weight"][wanted] += 2 * direction
    save_file(tensors, path, metadata={"format": "pt"})
    (folder / "prompt_template.json").write_text(json.dumps(TALKATIVE, separators=(",", ":"), sort_keys=True))
    return folder
