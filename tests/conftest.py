"""Shared fixtures: tiny random models on disk, and workbenches over throw-away homes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ARCHITECTURES = ("llama", "qwen2", "gpt2")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make a tiny random model of an architecture, once per run."""
    from tests.fakes.tiny_models import make_model

    made: dict[str, Path] = {}

    def make(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = make_model(tmp_path_factory.mktemp("models") / architecture, architecture)
        return made[architecture]

    return make


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No test reads the developer's ledger or environment."""
    import os

    for name in [name for name in os.environ if name.startswith("MASS_GOV_")]:
        if name not in ("MASS_GOV_TEST_DATA", "MASS_GOV_MODEL_SIGNING"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("MASS_GOV_HOME", str(home))
    yield home
