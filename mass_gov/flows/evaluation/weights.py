"""Where the weights of a method lie: one folder holds a model folder per name.

    DIR/base                       plain base; without it the base that ships (or `--model`, its core left aside)
    DIR/mass-gold, mass-verifier   trained cores, and mass-gold-first-order, mass-gold-alignment-scorer; without a
                                   mass-gold of its own, `--model` where it has a core
    DIR/solver-sft, solver-grpo, rewrite-grpo, maml-demos   trained rivals

Rules: a missing folder is refused before anything is computed, with the command that trains it. Nothing falls back to
other weights than those that a method is named after.

Does not know how the models are trained or opened.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mass_gov.errors import ModelError
from mass_gov.flows.meta_recipes import RECIPES
from mass_gov.mass.model_folder import CORE_SETTINGS
from mass_gov.mass.rivals.catalogue import BASE, GOLD


@dataclass(frozen=True)
class Weights:
    """The folder of folders (None: nothing was trained here), and the base where it has none of its own."""

    folder: Path | None
    base: Path

    def of(self, name: str) -> Path:
        """The model folder of this name. Raises ModelError where it is not there."""
        own = self.folder / name if self.folder is not None else None
        if own is not None and own.is_dir():
            return own
        if name == BASE or (name == GOLD and self._base_has_core()):
            return self.base
        raise ModelError(f"there are no weights {name!r} in {self.folder or 'this package'}. {training_of(name)}")

    def has(self, name: str) -> bool:
        """Whether `of` would find it."""
        own = self.folder is not None and (self.folder / name).is_dir()
        return own or name == BASE or (name == GOLD and self._base_has_core())

    def _base_has_core(self) -> bool:
        return (self.base / CORE_SETTINGS).is_file()

    def require(self, names: Iterable[str]) -> None:
        """Raise ModelError for the first of these that is not there."""
        for name in dict.fromkeys(names):
            self.of(name)


def training_of(name: str) -> str:
    """The sentence that says how to get weights of this name."""
    recipe = next((recipe for recipe, one in RECIPES.items() if one.folder == name), name)
    return (
        f"Train them with `mass-gov train meta --recipe {recipe} --base FOLDER --out RUN_DIR`, put RUN_DIR/weights at "
        f"DIR/{name}, and give --weights DIR."
    )
