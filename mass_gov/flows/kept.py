"""What a replay needs and this release does not bring: models and anchors of earlier ones, found by digest.

    HOME/kept/ANY_NAME/        a model folder, as a release shipped it or `--model` named it
    HOME/kept/ANY_NAME.jsonl   a file of anchors

Rules: a thing is what its digest says, whatever it is called, and is hashed before a library opens it. Where nothing
has the digest, nothing else takes its place. Policies and suites need no keeping: the ledger holds them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from mass_gov.flows.suite_runs import SuiteRunners
from mass_gov.flows.workbench import Workbench
from mass_gov.mass.learner import Learner
from mass_gov.mass.model_folder import CONFIG, base_digest
from mass_gov.tasks.anchors import MAX_BYTES, AnchorPool, parse_pool, shipped_pool


@dataclass
class Kept:
    """Looks in one folder of the user's, and among the models that ship.

    Attributes:
        folder: where the user keeps things; it need not be there.
        shipped: model folders that this release brings.
        open_model: opens a model folder.
    """

    folder: Path
    shipped: tuple[Path, ...]
    open_model: Callable[[Path], Learner]
    _runners: dict[str, SuiteRunners] = field(default_factory=dict)

    def lay(self, bench: Workbench, base_model: str) -> Workbench:
        """The bench with the model of this digest; the same bench where that is on it already, or is nowhere.

        Raises:
            ModelError: it is kept, and cannot be opened.
        """
        if base_model == bench.learner.base_digest:
            return bench
        if base_model not in self._runners:
            found = next((folder for folder in self._models() if base_digest(folder) == base_model), None)
            if found is None:
                return bench
            self._runners[base_model] = SuiteRunners(self.open_model(found), bench.runners.load)
        runners = self._runners[base_model]
        return replace(bench, learner=runners.learner, runners=runners)

    def anchors(self, digest: str) -> AnchorPool | None:
        """The anchors of this digest."""
        if digest == shipped_pool().digest:
            return shipped_pool()
        for path in self._inside():
            if path.suffix == ".jsonl" and path.is_file() and path.stat().st_size <= MAX_BYTES:
                source = path.read_bytes()
                if hashlib.sha256(source).hexdigest() == digest:
                    return parse_pool(source, str(path))
        return None

    def _models(self) -> Iterator[Path]:
        return (folder for folder in (*self._inside(), *self.shipped) if (folder / CONFIG).is_file())

    def _inside(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []
