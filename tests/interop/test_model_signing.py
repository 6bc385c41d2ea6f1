"""Bundles judged by the `model_signing` program of the OpenSSF, which this project never imports.

It is looked for in MASS_GOV_MODEL_SIGNING (a path), on PATH, and as a module of this interpreter.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mass_gov.evidence.delta_compression import CODEC_AGAINST
from mass_gov.evidence.model_signing import folder_digest, sign_folder, verify_folder
from mass_gov.evidence.signing import P256Signer
from mass_gov.flows.bundle_verify import verify_bundle
from tests.fakes.real_bundle import real_bundle

# Directories, and names that sort differently as strings than segment by segment.
FILES = {
    "adapter_config.json": b'{"peft_type":"LORA"}',
    "adapter_model.safetensors": bytes(range(256)),
    "a/x": b"1",
    "a-b/x": b"2",
    "a/B": b"",
}


def _program() -> list[str] | None:
    named = os.environ.get("MASS_GOV_MODEL_SIGNING") or shutil.which("model_signing")
    if named:
        return [named]
    return [sys.executable, "-m", "model_signing"] if importlib.util.find_spec("model_signing") else None


PROGRAM = _program()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no model_signing program: pip install model-signing, or set MASS_GOV_MODEL_SIGNING"
)


def _accepts(folder: Path) -> bool:
    assert PROGRAM is not None
    command = [*PROGRAM, "verify", "key", "--signature", "delta.sig", "--public_key", "key.pem", "delta"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode in (0, 1), run.stderr
    assert ("Verification succeeded" in run.stdout) == (run.returncode == 0)
    return run.returncode == 0


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    signer = P256Signer.generate()
    for path, contents in FILES.items():
        (tmp_path / "delta" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "delta" / path).write_bytes(contents)
    bundle = sign_folder(FILES, "delta", signer)
    assert verify_folder(FILES, bundle, signer.public_key) == folder_digest(FILES)
    (tmp_path / "delta.sig").write_bytes(bundle)
    (tmp_path / "key.pem").write_bytes(signer.public_key.pem)
    return tmp_path


def test_it_accepts_a_bundle_and_refuses_a_flipped_byte(signed: Path) -> None:
    assert _accepts(signed)
    tensors = signed / "delta" / "adapter_model.safetensors"
    tensors.write_bytes(b"\x01" + tensors.read_bytes()[1:])
    assert not _accepts(signed)


def test_it_refuses_an_added_file(signed: Path) -> None:
    (signed / "delta" / "extra.bin").write_bytes(b"")
    assert not _accepts(signed)


def test_it_refuses_another_key(signed: Path) -> None:
    (signed / "key.pem").write_bytes(P256Signer.generate().public_key.pem)
    assert not _accepts(signed)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]) -> Path:
    """A delta that the learner made, out of a bundle that the command line wrote."""
    folder = tmp_path_factory.mktemp("exported")
    with zipfile.ZipFile(real_bundle(folder, tiny_model("llama"), changes=2)) as archive:
        archive.extractall(folder / "open")
    return folder / "open"


def test_it_accepts_a_real_delta_and_refuses_a_flipped_byte_and_an_added_file(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported / "delta", tmp_path / "delta")
    shutil.copy(exported / "delta.sig", tmp_path / "delta.sig")
    shutil.copy(exported / "keys/delta-p256.pem", tmp_path / "key.pem")
    assert _accepts(tmp_path)
    tensors = tmp_path / "delta" / "adapter_model.safetensors"
    genuine = bytearray(tensors.read_bytes())
    tensors.write_bytes(genuine[:-1] + bytes([genuine[-1] ^ 1]))
    assert not _accepts(tmp_path)
    tensors.write_bytes(genuine)
    (tmp_path / "delta" / "evil.py").write_bytes(b"")
    assert not _accepts(tmp_path)


def test_a_delta_stored_against_its_parent_is_exported_whole(exported: Path) -> None:
    stored = next((exported / "artifacts").glob("*/delta.adapter_model.sealed"))
    assert stored.read_bytes()[5] == CODEC_AGAINST
    assert len(list((exported / "references").iterdir())) == 1
    report = verify_bundle((exported.parent / "change.zip").read_bytes())
    assert report.ok, report.first_wrong
