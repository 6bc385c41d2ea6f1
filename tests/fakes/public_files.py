"""Where the public benchmark files lie: they are never committed, so a test that needs one skips where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_FOLDER = Path(os.environ.get("MASS_GOV_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def public_file(name: str) -> Path:
    """The file of this name; skips the test, saying so, where it is not here."""
    path = _FOLDER / name
    if not path.exists():
        pytest.skip(f"{name} is not here: set MASS_GOV_TEST_DATA to the folder with the public benchmark files")
    return path
