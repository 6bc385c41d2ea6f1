"""Where files that travel with the program lie: beside it in a checkout, inside it in a wheel.

`policies/` and `migrations/` stand at the top of the checkout, where people look for them, and are copied to
`mass_gov/_data/` when a wheel is built. This module knows both places and nothing about what the files say.
"""

from __future__ import annotations

from pathlib import Path

from mass_gov.errors import SettingsError

_PACKAGE = Path(__file__).resolve().parent
DEFAULT_CLAUSES = "eu-ai-act"
"""The mapping of clauses, by name, that is used unless another one is named."""


def data_folder(name: str) -> Path:
    """Return the folder `name` ("policies", "migrations"): the wheel's copy, else the checkout's.

    Raises:
        SettingsError: neither exists, so the installation is broken.
    """
    for parent in (_PACKAGE / "_data", _PACKAGE.parent):
        if (parent / name).is_dir():
            return parent / name
    raise SettingsError(f"The folder `{name}` that belongs to mass-gov is missing. Install the package again.")
