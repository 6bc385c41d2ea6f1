"""What of a meta-training run goes into its snapshot, and whether what comes out of one may be trusted.

Rules: a snapshot carries a digest over everything it says; tensors must be this model's, shape by shape, and finite.
The digest has no key: it holds off damage and mixed-up files, not somebody who can compute SHA-256. Does not know when
snapshots are written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import rfc8785
import torch
from safetensors.torch import save
from torch import Tensor

from mass_gov.errors import InputError
from mass_gov.mass.snapshot import Snapshot, restore_optimizer

_EXACT = 2**53  # whole numbers past it are not JSON's as RFC 8785 has it


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, off the graph."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def sealed(weights: dict[str, Tensor], optimizer: dict[str, Tensor], progress: dict[str, Any]) -> Snapshot:
    """A snapshot with its digest."""
    return Snapshot(weights, optimizer, {**progress, "digest": _digest(weights, optimizer, progress)})


def opened(snapshot: Snapshot, names: set[str]) -> dict[str, Any]:
    """What a sealed snapshot says besides its tensors: exactly `names`. Raises InputError where it is not whole."""
    progress = {name: value for name, value in snapshot.progress.items() if name != "digest"}
    digest = _digest(snapshot.weights, snapshot.optimizer, progress)
    if set(progress) != names or snapshot.progress.get("digest") != digest:
        raise refused("its parts do not belong together")
    return progress


def put(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors` into `own`, in place. Raises InputError for names, shapes or values that do not fit."""
    if set(tensors) != set(own):
        raise refused(f"its tensors are not this model's ({sorted(set(tensors) ^ set(own))[0]})")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape or tensor.dtype != own[name].dtype or not tensor.isfinite().all():
            raise refused(f"its {name} has another shape or type, or is not finite")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def put_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore an optimizer's state. Raises InputError where it is of other parameters."""
    shapes = [tuple(p.shape) for group in optimizer.param_groups for p in group["params"]]
    for key, tensor in tensors.items():
        index = int(key.partition(".")[0])
        if index >= len(shapes) or tuple(tensor.shape) not in ((), shapes[index]):
            raise refused(f"its optimizer's {key} is not of this model")
    restore_optimizer(optimizer, tensors)


def refused(why: str) -> InputError:
    """The error for a snapshot that cannot be gone on from."""
    return InputError(f"the snapshot is not one of this run: {why}. Start in an empty folder.")


def differences(there: Any, asked: Any, path: str = "") -> Iterator[str]:
    """`name is this there and that here` for every leaf of two JSON values that differs."""
    if isinstance(there, dict) and isinstance(asked, dict):
        for name in sorted({*there, *asked}):
            yield from differences(there.get(name), asked.get(name), f"{path}.{name}" if path else name)
    elif there != asked:
        yield f"{path} is {there} there and {asked} here"


def _digest(weights: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], progress: Mapping[str, Any]) -> str:
    """SHA-256 (hex) over both sets of tensors and everything else that a snapshot says."""
    digest = hashlib.sha256(rfc8785.dumps(_listed(progress)))
    for tensors in (weights, optimizer):
        digest.update(hashlib.sha256(save(dict(sorted(tensors.items())))).digest())
    return digest.hexdigest()


def _listed(value: Any) -> Any:
    """JSON values with whole numbers past _EXACT as text and tuples as lists."""
    if isinstance(value, Mapping):
        return {name: _listed(one) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_listed(one) for one in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _EXACT else value
