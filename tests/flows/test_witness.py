"""A witness on its own: what it vouches for, what it refuses, and what it remembers after a crash."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from mass_gov.errors import InputError, IntegrityError, KeyUnavailableError, NotFoundError, RefusedError
from mass_gov.evidence import merkle
from mass_gov.evidence.add_checkpoint import encode_request, parse_request
from mass_gov.evidence.checkpoint import Checkpoint, sign_checkpoint
from mass_gov.evidence.cosignature import cosignatures, parse_lines, with_lines
from mass_gov.evidence.signing import Ed25519Signer
from mass_gov.flows import witness as witness_module
from mass_gov.flows.witness import Witness

ORIGIN = "example.org/log"
NOW = 1_800_000_000


class _Log:
    """A log of short texts with a real tree and real heads."""

    def __init__(self, signer: Ed25519Signer, texts: list[str]) -> None:
        self.signer = signer
        self.leaves = [merkle.leaf_hash(text.encode()) for text in texts]
        frontier, self.nodes = merkle.Frontier(), {}
        for leaf in self.leaves:
            self.nodes |= {(node.level, node.position): node.hash for node in frontier.append(leaf)}

    def head(self, size: int, origin: str = ORIGIN) -> bytes:
        return sign_checkpoint(Checkpoint(origin, size, merkle.root(self.leaves[:size])), self.signer)

    def request(self, old: int, new: int) -> bytes:
        proof = merkle.consistency_proof(old, new, lambda level, position: self.nodes[level, position])
        return encode_request(old, proof, self.head(new))


@pytest.fixture
def log() -> _Log:
    return _Log(Ed25519Signer.generate(), [f"event {i}" for i in range(20)])


@pytest.fixture
def witness(tmp_path: Path, log: _Log) -> Witness:
    made = Witness.create(tmp_path / "witness", "witness.example/w1")
    made.follow(ORIGIN, log.signer.public_key)
    return made


def _remembered(witness: Witness) -> int:
    return witness.followed()[0].size


def test_a_fork_is_refused_and_nothing_is_forgotten(witness: Witness, log: _Log) -> None:
    witness.add_checkpoint(log.request(0, 10), NOW)
    fork = _Log(log.signer, [f"event {i}" for i in range(9)] + ["another"] * 11)
    for request in (fork.request(10, 20), encode_request(10, [], fork.head(10))):
        with pytest.raises(IntegrityError, match=r"size 10 .* forked"):
            witness.add_checkpoint(request, NOW)
    assert _remembered(witness) == 10
    assert witness.add_checkpoint(log.request(10, 20), NOW)


def test_a_log_that_shrank_is_refused(witness: Witness, log: _Log) -> None:
    witness.add_checkpoint(log.request(0, 10), NOW)
    with pytest.raises(RefusedError, match="shrank"):
        witness.add_checkpoint(log.request(0, 9), NOW)
    assert _remembered(witness) == 10


def test_a_proof_from_another_size_names_the_size_to_prove_from(witness: Witness, log: _Log) -> None:
    witness.add_checkpoint(log.request(0, 10), NOW)
    with pytest.raises(RefusedError, match="prove --from 10"):
        witness.add_checkpoint(log.request(5, 20), NOW)
    with pytest.raises(InputError):
        witness.add_checkpoint(encode_request(15, [], log.head(10)), NOW)


def test_a_head_by_another_key_or_of_another_log_is_refused(witness: Witness, log: _Log) -> None:
    thief = _Log(Ed25519Signer.generate(), ["event 0"])
    with pytest.raises(IntegrityError, match="None of the keys"):
        witness.add_checkpoint(thief.request(0, 1), NOW)
    with pytest.raises(NotFoundError):
        witness.add_checkpoint(encode_request(0, [], log.head(3, "example.org/other")), NOW)
    assert _remembered(witness) == 0


def test_an_empty_log_has_one_root_only(witness: Witness, log: _Log) -> None:
    with pytest.raises(IntegrityError):
        witness.add_checkpoint(
            encode_request(0, [], sign_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)), log.signer)), NOW
        )
    assert witness.add_checkpoint(log.request(0, 0), NOW)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"old 1",
        b"old 01\n\nx",
        b"old -1\n\nx",
        b"new 1\n\nx",
        b"old 1\nAAAA\n\nx",
        b"old 1\n\n",
        b"old 1\n\nx" * 99,
    ],
)
def test_what_is_no_request_is_refused(witness: Witness, data: bytes) -> None:
    with pytest.raises((InputError, IntegrityError)):
        witness.add_checkpoint(data, NOW)


def test_a_proof_with_slack_bits_or_too_many_hashes_is_no_request(log: _Log) -> None:
    good = log.request(5, 20)
    assert parse_request(good).old == 5
    first = good.split(b"\n")[1]
    slack = first[:-2] + bytes([first[-2] + 1]) + b"="
    for bad in (good.replace(first, slack), good.replace(first, first + (b"\n" + first) * 63)):
        with pytest.raises(InputError):
            parse_request(bad)


def test_every_step_of_growth_is_cosigned_and_verifies(witness: Witness, log: _Log) -> None:
    old = 0
    for new in (1, 2, 7, 7, 8, 20):
        line = witness.add_checkpoint(log.request(old, new), NOW + new)
        found = cosignatures(with_lines(log.head(new), parse_lines(line.encode())), [witness.key])
        assert [(c.witness.name, c.time) for c in found] == [("witness.example/w1", NOW + new)]
        old = new


def test_a_witness_opened_again_remembers(witness: Witness, log: _Log) -> None:
    witness.add_checkpoint(log.request(0, 10), NOW)
    again = Witness.open(witness.folder)
    assert (again.key.vkey, _remembered(again)) == (witness.key.vkey, 10)
    with pytest.raises(RefusedError):
        again.add_checkpoint(log.request(0, 20), NOW)


def test_it_remembers_before_it_signs(witness: Witness, log: _Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness_module, "cosign", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        witness.add_checkpoint(log.request(0, 10), NOW)
    monkeypatch.undo()
    assert _remembered(witness) == 10
    assert Witness.open(witness.folder).add_checkpoint(log.request(10, 10), NOW)


def test_it_does_not_sign_what_it_could_not_remember(
    witness: Witness, log: _Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mass_gov.evidence.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        witness.add_checkpoint(log.request(0, 10), NOW)
    monkeypatch.undo()
    assert _remembered(witness) == 0
    assert not [path for path in (witness.folder / "logs").iterdir() if path.suffix == ".tmp"]


def test_requests_at_once_cannot_make_it_forget(witness: Witness, log: _Log) -> None:
    outcomes: list[int] = []

    def ask(new: int) -> None:
        try:
            Witness.open(witness.folder).add_checkpoint(log.request(0, new), NOW)
            outcomes.append(new)
        except RefusedError:
            pass

    threads = [threading.Thread(target=ask, args=(new,)) for new in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [_remembered(witness)]


def test_an_altered_memory_is_refused(witness: Witness, log: _Log) -> None:
    witness.add_checkpoint(log.request(0, 10), NOW)
    (path,) = (witness.folder / "logs").glob("*.json")
    fields = json.loads(path.read_text())
    for change in ({"size": -1}, {"size": "3"}, {"root": "AAAA"}, {"keys": ["x"]}, {"extra": 1}):
        path.write_text(json.dumps(fields | change, separators=(",", ":"), sort_keys=True) + "\n")
        with pytest.raises(IntegrityError):
            witness.add_checkpoint(log.request(10, 20), NOW)


def test_after_a_rotation_the_new_key_is_taken_and_the_memory_stays(witness: Witness, log: _Log) -> None:
    witness.add_checkpoint(log.request(0, 10), NOW)
    log.signer = Ed25519Signer.generate()
    with pytest.raises(IntegrityError):
        witness.add_checkpoint(log.request(10, 20), NOW)
    assert witness.follow(ORIGIN, log.signer.public_key).size == 10
    assert witness.add_checkpoint(log.request(10, 20), NOW)


def test_the_key_is_its_owners_alone_and_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    made = Witness.create(folder, "w.example", "correct horse")
    assert (folder / "witness-ed25519.pem").stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in (folder / "witness-ed25519.pem").read_bytes()
    assert (
        Witness.open(folder, "correct horse").key
        == made.key
        == Witness.create(folder, "w.example", "correct horse").key
    )
    for wrong in (None, "battery staple"):
        with pytest.raises(KeyUnavailableError):
            Witness.open(folder, wrong)


def test_a_witness_keeps_its_name(witness: Witness) -> None:
    with pytest.raises(InputError):
        Witness.create(witness.folder, "witness.example/w2")
    for name in ("", "a b", "a+b", "x" * 256):
        with pytest.raises(InputError):
            Witness.create(witness.folder.with_name("other"), name)
