"""The default executor: the learner lives in this process, each model folder opened once."""

from __future__ import annotations

from pathlib import Path

from mass_gov.mass.learner import Learner
from mass_gov.mass.numerics import Numerics


class InlineExecutor:
    """Keeps opened models resident."""

    def __init__(self, threads: int, numerics: Numerics = "native") -> None:
        self._threads = threads
        self._numerics: Numerics = numerics
        self._learners: dict[Path, Learner] = {}

    def learner(self, folder: Path) -> Learner:
        """Open the model in `folder`, once.

        Raises:
            ModelError: the folder cannot be loaded safely; the message says what to do.
            SettingsError: portable numerics was asked for, and this process was not started for it.
        """
        key = folder.resolve()
        if key not in self._learners:
            self._learners[key] = Learner.open(key, threads=self._threads, numerics=self._numerics)
        return self._learners[key]
