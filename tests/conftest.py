"""Shared fixtures: tiny random models on disk, throw-away homes, a clock, and the engine that ledgers lie on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes import engines
from tests.fakes.clock import Clock
from tests.fakes.compiled import compile_once
from tests.fakes.memory import folder_in_memory

ARCHITECTURES = ("llama", "qwen2", "gpt2")
compile_once()
if (memory := folder_in_memory()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked `both_engines` once per engine."""
    marked = metafunc.definition.get_closest_marker
    if marked("both_engines") and not marked("sqlite_only"):
        metafunc.parametrize("engine", engines.ENGINES, indirect=True)


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The engine on which this test's ledgers lie."""
    name = str(getattr(request, "param", "sqlite"))
    if name == "postgresql" and (why := engines.missing()):
        pytest.skip(f"PostgreSQL is not tested: {why}")
    with engines.using(name):
        yield name


@pytest.fixture
def clock() -> Clock:
    """The time, as this test moves it."""
    return Clock()


@pytest.fixture(autouse=True, scope="session")
def _no_server_left() -> Iterator[None]:
    """A server that a test started ends with the run."""
    yield
    if "tests.fakes.postgres_server" in sys.modules:
        sys.modules["tests.fakes.postgres_server"].stop_server()


@pytest.fixture
def engine_settings(engine: str, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings read from the environment lead to this engine: on PostgreSQL to one database for the whole test."""
    if engine == "postgresql":
        monkeypatch.setenv("MASS_GOV_DATABASE_URL", engines.address_of(tmp_path / "database").url)


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
    for name in [name for name in os.environ if name.startswith("MASS_GOV_")]:
        if name not in ("MASS_GOV_TEST_DATA", "MASS_GOV_TEST_DATABASE_URL", "MASS_GOV_MODEL_SIGNING"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("MASS_GOV_HOME", str(home))
    yield home
