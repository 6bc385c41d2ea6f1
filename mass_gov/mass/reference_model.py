"""Where the model that ships with the package lies. Importable without torch."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from mass_gov.errors import ModelError


def reference_folder() -> Path:
    """The folder of the reference model, inside the installed package.

    Raises ModelError where the package was unpacked without it (a zip import, a stripped install).
    """
    folder = Path(str(files("mass_gov.mass"))) / "reference"
    if not folder.is_dir():
        raise ModelError(f"the reference model is not at {folder}. Reinstall mass-gov, or give --model a folder.")
    return folder
