"""What the contract tests look at: the checkout's tracked files and the program's own sources."""

from __future__ import annotations

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "mass_gov"


def tracked_files() -> list[str]:
    """Paths that git tracks, relative to the checkout; skips the test in an unpacked sdist, where there is none."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    return sorted(path for path in listing.split("\0") if path and (ROOT / path).exists())


def sources() -> list[tuple[str, ast.Module]]:
    """Every module of the package: path relative to the checkout, and its syntax tree."""
    files = sorted(PACKAGE.rglob("*.py"))
    return [(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))) for path in files]


def read(path: str) -> str:
    """A file of the checkout, as text."""
    return (ROOT / path).read_text("utf-8")
