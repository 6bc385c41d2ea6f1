"""A training run's state on disk, written so that a kill at any moment leaves the last good one.

Layout of a run folder: `snapshot/` (model.safetensors, optimizer.safetensors, progress.json). A new snapshot is
written whole to `snapshot.new/`, then swapped in by two renames; a kill between them leaves `snapshot.old/`, which
`load` accepts. No pickle. Does not know what is trained, or on what.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from mass_gov.errors import InputError

_CURRENT, _NEW, _OLD = "snapshot", "snapshot.new", "snapshot.old"


@dataclass(frozen=True)
class Snapshot:
    """Weights, optimizer tensors by flat name, and what else is needed to go on, as JSON values."""

    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    progress: dict[str, Any]


def save_snapshot(run_dir: Path, snapshot: Snapshot) -> None:
    """Replace the run folder's snapshot; after a crash either the old or the new one is whole."""
    new, current, old = (run_dir / name for name in (_NEW, _CURRENT, _OLD))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    save_file(snapshot.weights, new / "model.safetensors")
    save_file(snapshot.optimizer, new / "optimizer.safetensors")
    (new / "progress.json").write_text(json.dumps(snapshot.progress), encoding="utf-8")
    _sync(new)  # a crash up to here leaves `snapshot` as it was
    shutil.rmtree(old, ignore_errors=True)
    if current.exists():
        current.replace(old)  # a crash here leaves `snapshot.old`, which load_snapshot takes
    new.replace(current)
    shutil.rmtree(old, ignore_errors=True)


def load_snapshot(run_dir: Path) -> Snapshot | None:
    """The newest whole snapshot of a run folder; None where the run has not written one.

    Raises:
        InputError: the files are there and cannot be read.
    """
    folder = next((run_dir / name for name in (_CURRENT, _OLD) if (run_dir / name).is_dir()), None)
    if folder is None:
        return None
    try:
        return Snapshot(
            load_file(folder / "model.safetensors"),
            load_file(folder / "optimizer.safetensors"),
            json.loads((folder / "progress.json").read_text(encoding="utf-8")),
        )
    except Exception as error:  # safetensors, OSError and JSON errors share no base class
        raise InputError(f"the snapshot in {folder} cannot be read ({error}). Start in an empty folder.") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state as `{parameter index}.{name}` -> tensor (all of Adam's state is tensors)."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Inverse of `optimizer_tensors`, for an optimizer over the same parameters in the same order."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _sync(folder: Path) -> None:
    """Flush the folder's files and the folder itself to disk."""
    for path in (*folder.iterdir(), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
