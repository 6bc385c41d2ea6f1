"""Where the models that ship with the package lie: the plain base, and what meta-training made of it. Without torch."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from mass_gov.errors import ModelError

SHIPPED = "mass-gold"
SHIPPED_DIGEST = "6f6bcc5fd779f8129ac5125af75edc3b0b3314562277b17ba7758d3a4df868c2"
"""Of its folder as it was released: what is there with another digest was altered since."""


def reference_folder() -> Path:
    """The plain base model: pretrained, not meta-trained. Raises ModelError as `trained_folder`."""
    return _folder("reference")


def trained_folder() -> Path:
    """What `solve` runs unless told otherwise: the meta-trained model with its core.

    Raises ModelError where the package was unpacked without it (a zip import, a stripped install).
    """
    return _folder("trained") / SHIPPED


def trained_folders() -> Path:
    """The folder of all meta-trained models that ship, by the names that `mass-gov evaluate --weights` uses."""
    return _folder("trained")


def _folder(name: str) -> Path:
    folder = Path(str(files("mass_gov.mass"))) / name
    if not folder.is_dir():
        raise ModelError(f"the reference model is not at {folder}. Reinstall mass-gov, or give --model a folder.")
    return folder
