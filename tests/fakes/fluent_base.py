"""A tiny base that writes practice which mostly parses, made on the spot: nothing is learned, everything is set.

One layer of width 16 that hardly does anything; the embedding of a character names its class, and the output head says
which classes follow: a question of 0-2, "~", working of 3-5, "#", an answer of 6-8, the end. Random parts are small, so
that gradients are not zero and some samples do not parse.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.fakes.tiny_models import SPECIAL, make_model, make_tokenizer

_CLASSES = (" ", "012", "~", "345", "#", "678")
_FOLLOWS = {0: (1,), 1: (1, 2), 2: (3,), 3: (3, 4), 4: (5,), 5: (5,)}
_END = 5  # the class that the end token follows
_OTHERS = len(_CLASSES)
_LIKELY = 9.0  # logit over everything else's 0
_TEMPLATE = {
    "chat": False,
    "marker": "#",
    "practise": "T {question}\nP ",
    "separator": "~",
    "solve": "Q {question}\nA ",
    "stop": [],
}


def make_fluent(folder: Path, seed: int = 0) -> Path:
    """Write the model into `folder` and return it."""
    make_model(folder, "llama", seed=seed, width=16, layers=1)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    size, width = tensors["model.embed_tokens.weight"].shape
    noise = torch.Generator().manual_seed(seed)
    inputs = 0.05 * torch.randn(size, width, generator=noise)
    outputs = 0.05 * torch.randn(size, width, generator=noise)
    ids = [[make_tokenizer().convert_tokens_to_ids(character) for character in group] for group in _CLASSES]
    inputs[:, _OTHERS] += 1.0
    for place, group in enumerate(ids):
        inputs[group, _OTHERS] -= 1.0
        inputs[group, place] += 1.0
        for following in _FOLLOWS[place]:
            outputs[ids[following], place] += _LIKELY / width**0.5
    outputs[SPECIAL.index("<eos>"), _END] += (_LIKELY + 1.0) / width**0.5
    tensors["model.embed_tokens.weight"], tensors["lm_head.weight"] = inputs, outputs
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        tensors[f"model.layers.0.{name}.weight"] *= 0.5
    save_file(tensors, path, metadata={"format": "pt"})
    (folder / "prompt_template.json").write_text(json.dumps(_TEMPLATE, separators=(",", ":"), sort_keys=True))
    return folder
