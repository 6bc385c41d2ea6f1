"""What a meta-training run says of its steps: one line each in `progress.jsonl`, and the same as TensorBoard events.

Rules: a resumed run drops the lines of steps that its snapshot does not know and writes them again, so that the file
reads as if nothing had happened (`seconds` apart); TensorBoard is told by `purge_step`. NaN and infinity are written
as null. Does not know what the numbers mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter

from mass_gov.errors import InputError

PROGRESS, TENSORBOARD = "progress.jsonl", "tensorboard"


class MetaLog:
    """The two records of a run folder, opened after `done` steps; a context manager."""

    def __init__(self, run_dir: Path, done: int) -> None:
        self._path = run_dir / PROGRESS
        lines = kept_lines(self._path, done)
        self._path.write_text("".join(lines), encoding="utf-8")
        self._file = self._path.open("a", encoding="utf-8")
        self._events: Any = SummaryWriter(str(run_dir / TENSORBOARD), purge_step=done + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._events.close()

    def step(self, step: int, measured: Mapping[str, float]) -> None:
        """Record what step number `step` (from 1) measured."""
        finite = {name: value if math.isfinite(value) else None for name, value in measured.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()
        for name, value in finite.items():
            if value is not None:
                self._events.add_scalar(f"step/{name}", value, step)

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """Record a validation: TensorBoard only, its place on disk is the snapshot's."""
        for name, value in values.items():
            self._events.add_scalar(f"validation/{name}", value, step)
        self._events.flush()


def kept_lines(path: Path, done: int) -> list[str]:
    """The lines of the first `done` steps. Raises InputError where one of them is not there."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[:done] if path.exists() else []
    try:
        steps = [json.loads(line)["step"] for line in lines]
    except (ValueError, KeyError, TypeError):
        steps = []
    if steps != list(range(1, done + 1)):
        raise InputError(f"{path} does not hold the {done} steps that the snapshot has done. Start in an empty folder.")
    return lines


def read_progress(run_dir: Path) -> list[dict[str, Any]]:
    """Every line of the run, in order."""
    return [json.loads(line) for line in (run_dir / PROGRESS).read_text(encoding="utf-8").splitlines()]
