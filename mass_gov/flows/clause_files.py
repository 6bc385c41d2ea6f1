"""Where mappings of clauses come from: those that ship, by name, and for whoever sits at the machine any file."""

from __future__ import annotations

from pathlib import Path

from mass_gov.config_data import data_folder
from mass_gov.errors import NotFoundError, PolicyError
from mass_gov.evidence.files import read_at_most
from mass_gov.policy.clauses import Clauses, load_clauses
from mass_gov.policy.strict_yaml import MAX_BYTES


def shipped_clauses(name: str) -> Clauses:
    """Load a mapping that ships; a name is never a path.

    Raises:
        NotFoundError: no such mapping.
    """
    files = {file.stem: file for file in (data_folder("policies") / "clauses").glob("*.yaml")}
    if name not in files:
        names = ", ".join(sorted(files))
        raise NotFoundError(f"there is no mapping {name[:60]!r}. Use one of {names}, or a path to a .yaml file.")
    return _read(files[name])


def find_clauses(name_or_path: str) -> Clauses:
    """Load a mapping that ships by name, or a file by path.

    Raises:
        PolicyError: the file does not validate, or cannot be read.
        NotFoundError: no such mapping.
    """
    path = Path(name_or_path)
    return _read(path) if path.suffix in (".yaml", ".yml") else shipped_clauses(name_or_path)


def _read(path: Path) -> Clauses:
    try:
        return load_clauses(read_at_most(path, MAX_BYTES + 1), str(path))
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}; give a readable file.") from None
