"""A model folder is checked here before any library opens it.

Rules: weights are safetensors whose header and length add up; a pickle is never opened; a folder that wants to run
code of its own is refused; nothing is looked up outside the folder; the weights that are checked, and that the digest
covers, are the ones that a library would load: whatever could make it load others is refused. No torch. Each refusal
is a ModelError that says what to do next.

Does not know what the weights mean, or whether an architecture is supported: loading finds that out.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import rfc8785

from mass_gov.errors import ModelError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
OTHER_WEIGHTS = "transformers_weights"
CORE_SETTINGS = "core.json"
CORE_TENSORS = "core.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",))
# What determines behaviour, and so the base digest. Cards, curves and licences may change freely.
_BEHAVIOUR = (
    CONFIG,
    INDEX,
    "*.safetensors",  # the weights, and a trained core's tensors
    CORE_SETTINGS,
    "tokenizer*.json",
    "tokenizer.model",
    "vocab*",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "generation_config.json",
    "prompt_template.json",
    "chat_template*",
    "chat_templates/*",
    "additional_chat_templates/*",
)
_ITEM_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F4", "F6_E2M3", "F6_E3M2"), 0),  # packed; their sizes are not checked against the shape
}
_LARGEST_HEADER = 100_000_000  # the format's own limit


def check_model_folder(folder: Path) -> None:
    """Refuse a folder that cannot be loaded safely, for the first of these reasons that holds.

    (1) it is not a folder with a readable config.json; (2) it is an adapter, not a model; (3) it brings code, or names
    other weights than those that lie there; (4) it holds no safetensors, or two sets of them; (5) a weight file is
    truncated or corrupt, or the index names what is not there or no safetensors; (6) it holds no tokenizer.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise ModelError(f"the model folder {folder} {what}. Give the path of a Hugging Face model folder.")
    if (folder / ADAPTER_CONFIG).exists():  # (2) before (1): an adapter often has no config.json
        raise ModelError(f"{folder} holds an adapter, not a model. Merge it into its base, or give the base.")
    if not (folder / CONFIG).is_file():  # (1)
        raise ModelError(f"{folder} has no {CONFIG}. Give the folder that `save_pretrained` wrote.")
    _refuse_code(folder)  # (3)
    _refuse_other_weights(folder)  # (3)
    _check_weights(folder)  # (4) (5)
    if not any(all((folder / name).is_file() for name in names) for names in _TOKENIZERS):  # (6)
        raise ModelError(f"{folder} has no tokenizer. Save the tokenizer into it (tokenizer.json).")


def base_digest(folder: Path) -> str:
    """SHA-256 (hex) of the canonical JSON {relative path: SHA-256 hex} of the files that determine behaviour."""
    manifest = {path.relative_to(folder).as_posix(): _sha256(path) for path in _behaviour_files(folder)}
    return hashlib.sha256(rfc8785.dumps(manifest)).hexdigest()


def check_safetensors(header: bytes, length: int, name: str) -> dict[str, dict[str, Any]]:
    """Check a safetensors file by its first bytes and its length; return its tensors' entries.

    `header` holds at least the 8 length bytes and the JSON they announce; `length` is the whole file's, in bytes.
    Raises ModelError if the tensors are not exactly contiguous up to the end of the file.
    """
    announced = int.from_bytes(header[:8], "little")
    if length < 8 or announced > min(length - 8, _LARGEST_HEADER):
        hint = " It is a Git LFS pointer: run `git lfs pull`." if header.startswith(b"version https://git") else ""
        raise ModelError(f"{name} is truncated or not a safetensors file.{hint} Copy or download it again.")
    try:
        entries: dict[str, Any] = json.loads(header[8 : 8 + announced])
        tensors = {key: entry for key, entry in entries.items() if key != "__metadata__"}
        end = _check_offsets(tensors)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{name} has a corrupt header ({error}). Copy or download it again.") from error
    if 8 + announced + end != length:
        raise ModelError(
            f"{name} is truncated or has extra bytes: {length} bytes, its header announces {8 + announced + end}. "
            "Copy or download it again."
        )
    return tensors


def _check_offsets(tensors: Mapping[str, Any]) -> int:
    """Every tensor starts where the one before it ended and is as long as its shape says; returns the last end."""
    position = 0
    for key, entry in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = entry["data_offsets"]
        bits = _ITEM_BITS[entry["dtype"]]
        if start != position or end < start:
            raise ValueError(f"tensor {key!r} overlaps or leaves a gap")
        if bits and (end - start) * 8 != math.prod(entry["shape"]) * bits:
            raise ValueError(f"tensor {key!r} does not have the size of its shape")
        position = end
    return position


def _refuse_code(folder: Path) -> None:
    for name in (CONFIG, "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and "auto_map" in read_json(path):
            raise ModelError(
                f"{path} wants to run code of its own (auto_map), which is never allowed. "
                "Use a model of an architecture that transformers knows by itself."
            )


def _refuse_other_weights(folder: Path) -> None:
    """transformers follows this key before it looks for the usual names, out of the folder and to pickles too."""
    if any(OTHER_WEIGHTS in part for part in _parts(read_json(folder / CONFIG))):
        raise ModelError(
            f"{folder / CONFIG} names other weights than those in the folder ({OTHER_WEIGHTS}). Load the model where "
            "you trust it and `save_pretrained` it into a folder of its own."
        )


def _parts(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A config and those of its parts: a composite model has one for each."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += [value for value in part.values() if isinstance(value, dict)]


def _check_weights(folder: Path) -> None:
    if (folder / INDEX).is_file() and (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder} has both {WEIGHTS} and {INDEX}, and only one is loaded. Remove the other.")
    if (folder / INDEX).is_file():
        _check_shards(folder)
    elif (folder / WEIGHTS).is_file():
        _check_weight_file(folder / WEIGHTS)
    elif any(True for pattern in _PICKLES for _ in folder.glob(pattern)):
        raise ModelError(
            f"{folder} has its weights as a pickle, which can run code and is never opened. Convert them first: "
            "load the model where you trust it and `save_pretrained(folder, safe_serialization=True)`."
        )
    else:
        raise ModelError(f"{folder} has no {WEIGHTS}. Save or download the weights as safetensors.")


def _check_shards(folder: Path) -> None:
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{folder / INDEX} has no weight_map. Download it again.")
    for shard in sorted(set(map(str, weight_map.values()))):
        if Path(shard).name != shard or shard in ("..", "."):
            raise ModelError(f"{folder / INDEX} points outside its folder ({shard!r}). Do not use this model.")
        if not shard.endswith(".safetensors"):
            raise ModelError(f"{folder / INDEX} names a shard that is no safetensors ({shard!r}). Convert it first.")
        if not (folder / shard).is_file():
            raise ModelError(f"{folder} lacks the shard {shard} that its index names. Download it again.")
        held = _check_weight_file(folder / shard)
        absent = [name for name, where in weight_map.items() if where == shard and name not in held]
        if absent:
            raise ModelError(f"{folder / shard} lacks the tensor {absent[0]!r} of its index. Download it again.")


def _check_weight_file(path: Path) -> dict[str, dict[str, Any]]:
    with path.open("rb") as file:
        start = file.read(8)
        rest = file.read(min(int.from_bytes(start, "little"), _LARGEST_HEADER))
    return check_safetensors(start + rest, path.stat().st_size, str(path))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the folder; ModelError if it is not one."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_HEADER + 1)
        if len(content) > _LARGEST_HEADER:
            raise ValueError(f"it has more than {_LARGEST_HEADER} bytes")
        value = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not readable JSON ({error}). Copy or download it again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a JSON object. Copy or download it again.")
    return value


def _behaviour_files(folder: Path) -> Iterator[Path]:
    yield from sorted({path for pattern in _BEHAVIOUR for path in folder.glob(pattern) if path.is_file()})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
