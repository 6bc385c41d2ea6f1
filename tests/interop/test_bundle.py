"""A real change, made with the learner and exported by the command line, judged by programs that are not ours.

PEFT loads the folder, `model_signing` accepts it (in tests/interop/test_model_signing.py), securesystemslib and openssl
verify the event, and a few lines of RFC 6962 that import nothing of ours lead from the event to the signed root.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import shutil
import subprocess
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from peft import PeftModel
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey
from transformers import AutoModelForCausalLM

from tests.fakes.real_bundle import real_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]) -> Path:
    """An unpacked bundle."""
    folder = tmp_path_factory.mktemp("bundle")
    with zipfile.ZipFile(real_bundle(folder, tiny_model("llama"))) as archive:
        archive.extractall(folder / "open")
    return folder / "open"


def test_peft_loads_the_exported_folder(bundle: Path, tiny_model: Callable[[str], Path]) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model("llama")).eval()
    ids = torch.arange(4, 20).reshape(1, 16)
    with torch.no_grad():
        before = base(input_ids=ids).logits.clone()
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            adapted = PeftModel.from_pretrained(base, bundle / "delta").eval()
        assert not torch.equal(adapted(input_ids=ids).logits, before)


def test_securesystemslib_verifies_the_event_and_refuses_it_altered(bundle: Path) -> None:
    document = json.loads((bundle / "event.dsse.json").read_bytes())
    public = load_pem_public_key((bundle / "keys/log-ed25519.pem").read_bytes())
    key = SSlibKey.from_crypto(public, keyid=document["signatures"][0]["keyid"])
    assert list(Envelope.from_dict(copy.deepcopy(document)).verify([key], 1)) == [key.keyid]
    payload = json.loads(base64.b64decode(document["payload"]))
    assert payload["predicate"]["body"]["type"] == "change.recorded"
    document["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()  # the same, in another form
    with pytest.raises(VerificationError):
        Envelope.from_dict(document).verify([key], 1)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl program is not installed")
def test_openssl_verifies_the_signature_over_the_pre_authentication_bytes(bundle: Path, tmp_path: Path) -> None:
    document = json.loads((bundle / "event.dsse.json").read_bytes())
    kind, payload = document["payloadType"].encode(), base64.b64decode(document["payload"])
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    (tmp_path / "sig").write_bytes(base64.b64decode(document["signatures"][0]["sig"]))
    for content, status in ((message, 0), (message[:-1] + b" ", 1)):
        (tmp_path / "message").write_bytes(content)
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(bundle / "keys/log-ed25519.pem"), "-rawin"]
        command += ["-in", "message", "-sigfile", "sig"]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == status


def test_every_inclusion_proof_leads_to_the_root_by_rfc_6962(bundle: Path) -> None:
    note = (bundle / "checkpoint.txt").read_text().split("\n")
    size, root = int(note[1]), base64.b64decode(note[2])
    folders = [bundle, *(bundle / "events").iterdir()]
    assert len(folders) >= 5
    for folder in folders:
        lines = (folder / "inclusion.tlog-proof").read_text().split("\n\n")[0].split("\n")
        assert lines[0] == "c2sp.org/tlog-proof@v1"
        index, path = int(lines[1].removeprefix("index ")), [base64.b64decode(line) for line in lines[2:]]
        leaf = hashlib.sha256(b"\x00" + (folder / "event.dsse.json").read_bytes()).digest()
        assert _root(leaf, index, size, path) == root
        assert _root(leaf, (index + 1) % size, size, path) != root


def test_what_is_shown_is_what_the_leaf_commits_to(bundle: Path) -> None:
    predicate = json.loads((bundle / "leaf.json").read_bytes())["statement"]["predicate"]
    index = json.loads((bundle / "leaf.json").read_bytes())["index"]
    for ref in predicate["artifacts"]:
        sealed = (bundle / "artifacts" / str(index) / f"{ref['role']}.sealed").read_bytes()
        assert hashlib.sha256(sealed).hexdigest() == ref["digest"] and len(sealed) == ref["size"]
    names = ("adapter_config.json", "adapter_model.safetensors")
    digests = [hashlib.sha256((bundle / "delta" / name).read_bytes()).digest() for name in names]
    assert hashlib.sha256(b"".join(digests)).hexdigest() == predicate["body"]["change"]["update"]["delta"]


def _root(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """RFC 6962 section 2.1.1 read backwards: PATH(m, D[n]) to MTH(D[n]), by its own recursion."""
    if size == 1:
        return leaf if not path else b""
    if not path:
        return b""
    k = 1
    while k * 2 < size:
        k *= 2
    rest, sibling = path[:-1], path[-1]
    if index < k:
        return hashlib.sha256(b"\x01" + _root(leaf, index, k, rest) + sibling).digest()
    return hashlib.sha256(b"\x01" + sibling + _root(leaf, index - k, size - k, rest)).digest()
