"""The key store: what it refuses, what a crash leaves, and that an erased subject stays erased."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mass_gov.errors import InputError, KeyUnavailableError, NotFoundError, NotRetainedError, RefusedError
from mass_gov.evidence import keyfiles, keystore, master_key, signers
from mass_gov.evidence.keystore import SYSTEM_SUBJECT, KeyStore, new_subject_handle

HANDLE = "s-" + "0123456789abcdef" * 2
FILES = ("master.key", "log-ed25519.pem", "delta-p256.pem", "request.key")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    KeyStore.open(tmp_path / "keys", create=True)
    return tmp_path / "keys"


@pytest.fixture
def quick_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_key, "SCRYPT_N", 2**10)


def test_a_store_that_is_not_there_is_not_made_by_accident(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailableError, match="init"):
        KeyStore.open(tmp_path / "keys")
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("create", [False, True])
def test_a_lost_key_is_named_and_never_replaced(folder: Path, name: str, create: bool) -> None:
    (folder / name).unlink()
    if name == "request.key" and create:
        (folder / "master.key").unlink()  # the store looks half-made; without its master key it must stay that way
        name = "master.key"
    with pytest.raises(KeyUnavailableError, match=name):
        KeyStore.open(folder, create=create)
    assert not (folder / name).exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("length", [0, 1, 30])
def test_a_truncated_key_is_refused(folder: Path, name: str, length: int) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:length])
    with pytest.raises(KeyUnavailableError, match=name):
        KeyStore.open(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_key_that_others_may_read_is_refused(folder: Path, name: str) -> None:
    (folder / name).chmod(0o640)
    with pytest.raises(KeyUnavailableError, match=f"chmod 600 .*{name}"):
        KeyStore.open(folder)


@pytest.mark.parametrize("name", [".", "subjects"])
def test_a_folder_that_others_may_enter_is_refused(folder: Path, name: str) -> None:
    (folder / name).chmod(0o750)
    with pytest.raises(KeyUnavailableError, match="chmod 700"):
        KeyStore.open(folder)


def test_what_cannot_be_read_as_a_file_is_refused(folder: Path) -> None:
    (folder / "request.key").unlink()
    (folder / "request.key").mkdir()
    with pytest.raises(KeyUnavailableError, match=r"request\.key"):
        KeyStore.open(folder)
    (folder / "delta-p256.pem").write_bytes(b"x" * 20_000)
    with pytest.raises(KeyUnavailableError, match="not a key file"):
        KeyStore.open(folder)


@pytest.mark.parametrize("erased", [False, True])
def test_a_request_key_that_is_lost_from_a_used_store_is_not_replaced(folder: Path, erased: bool) -> None:
    """A new one would not find a task again: the task would be adapted and answered a second time."""
    store = KeyStore.open(folder)
    store.subject_key(HANDLE, create=True)
    if erased:
        store.destroy_subject(HANDLE)
    (folder / "request.key").unlink()
    with pytest.raises(KeyUnavailableError, match=rf"request\.key is missing while {HANDLE}"):
        KeyStore.open(folder, create=True)
    assert not (folder / "request.key").exists()


@pytest.mark.parametrize("name", [*FILES, f"subjects/{HANDLE}.key"])
def test_a_pipe_in_place_of_a_key_is_refused_and_does_not_hang(folder: Path, name: str) -> None:
    store = KeyStore.open(folder)
    store.subject_key(HANDLE, create=True)
    (folder / name).unlink()
    os.mkfifo(folder / name, 0o600)
    with pytest.raises(KeyUnavailableError, match="not a key file"):
        KeyStore.open(folder).subject_key(HANDLE)
    if name.startswith("subjects"):
        with pytest.raises(KeyUnavailableError, match="not a key file"):
            store.destroy_subject(HANDLE)


def test_a_link_in_place_of_a_key_is_neither_read_nor_overwritten(folder: Path, tmp_path: Path) -> None:
    store = KeyStore.open(folder)
    store.subject_key(HANDLE, create=True)
    path, elsewhere = folder / "subjects" / f"{HANDLE}.key", tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    for act in (store.subject_key, store.destroy_subject):
        with pytest.raises(KeyUnavailableError, match="no link"):
            act(HANDLE)
    assert elsewhere.read_bytes() == before


@pytest.mark.parametrize("name", [*FILES, ".", "subjects"])
def test_a_key_or_folder_of_another_user_is_refused(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, path = os.geteuid(), folder / name
    if mine == 0:
        os.chown(path, 12345, -1)
    else:  # only root gives files away: be another user instead, for every file alike
        monkeypatch.setattr(keyfiles.os, "geteuid", lambda: mine + 1)
    with pytest.raises(KeyUnavailableError, match=f"belongs to another user.*chown .*{folder.name}"):
        KeyStore.open(folder)


def test_the_system_subject_cannot_be_erased_and_a_mark_that_says_so_is_a_fault(folder: Path) -> None:
    """What is sealed for it decides: erased, every check that needs a policy or a suite would fall away."""
    store = KeyStore.open(folder)
    key = store.subject_key(SYSTEM_SUBJECT, create=True)
    with pytest.raises(RefusedError, match="system's own"):
        store.destroy_subject(SYSTEM_SUBJECT)
    assert store.subject_key(SYSTEM_SUBJECT) == key
    mark = folder / "subjects" / f"{SYSTEM_SUBJECT}.destroyed"
    mark.touch(0o600)
    with pytest.raises(KeyUnavailableError, match="never is"):
        store.subject_key(SYSTEM_SUBJECT)
    mark.unlink()
    assert store.subject_key(SYSTEM_SUBJECT) == key


def test_a_lost_system_key_is_not_replaced_by_one_that_opens_no_policy(folder: Path) -> None:
    store = KeyStore.open(folder)
    store.subject_key(SYSTEM_SUBJECT, create=True)
    store.subject_key(HANDLE, create=True)
    path = folder / "subjects" / f"{SYSTEM_SUBJECT}.key"
    path.unlink()
    with pytest.raises(KeyUnavailableError, match=rf"{SYSTEM_SUBJECT}\.key is missing"):
        store.subject_key(SYSTEM_SUBJECT, create=True)
    assert not path.exists()


def test_swapped_keys_are_refused(folder: Path, tmp_path: Path) -> None:
    log, delta = (folder / "log-ed25519.pem").read_bytes(), (folder / "delta-p256.pem").read_bytes()
    (folder / "log-ed25519.pem").write_bytes(delta)
    with pytest.raises(KeyUnavailableError, match="not an Ed25519 key"):
        KeyStore.open(folder)
    (folder / "log-ed25519.pem").write_bytes(log)
    (folder / "delta-p256.pem").write_bytes(log)
    with pytest.raises(KeyUnavailableError, match="not a P-256 key"):
        KeyStore.open(folder)
    (folder / "delta-p256.pem").write_bytes(delta)
    KeyStore.open(tmp_path / "other", create=True)
    (folder / "master.key").write_bytes((tmp_path / "other" / "master.key").read_bytes())
    with pytest.raises(KeyUnavailableError, match="master key"):
        KeyStore.open(folder)


@pytest.mark.usefixtures("quick_scrypt")
def test_a_wrong_missing_or_superfluous_passphrase_is_refused(tmp_path: Path, folder: Path) -> None:
    KeyStore.open(tmp_path / "locked", "correct horse", create=True)
    for passphrase, hint in (("wrong", "right one"), (None, "Give the passphrase"), ("", "Give the passphrase")):
        for create in (False, True):
            with pytest.raises(KeyUnavailableError, match=hint):
                KeyStore.open(tmp_path / "locked", passphrase, create=create)
    with pytest.raises(KeyUnavailableError, match="without"):
        KeyStore.open(folder, "superfluous")


@pytest.mark.usefixtures("quick_scrypt")
def test_a_passphrase_protects_every_key_and_is_stretched(tmp_path: Path) -> None:
    store = KeyStore.open(tmp_path / "locked", "correct horse", create=True)
    assert KeyStore.open(tmp_path / "locked", "correct horse").log_signer.keyid == store.log_signer.keyid
    for name in ("log-ed25519.pem", "delta-p256.pem"):
        pem = (store.folder / name).read_bytes()
        assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        with pytest.raises(ValueError, match=r"[Ii]ncorrect password"):  # the weak PKCS8 stretching never sees it
            load_pem_private_key(pem, b"correct horse")
    fields = json.loads((store.folder / "master.key").read_bytes())
    assert fields.keys() == {"format", "kdf", "n", "r", "p", "salt", "wrapped"}


@pytest.mark.usefixtures("quick_scrypt")
@pytest.mark.parametrize(
    "change", [{"n": 2**40}, {"n": 1000}, {"r": 10**9}, {"kdf": "none"}, {"salt": "zz"}, {"p": None}]
)
def test_an_altered_master_key_file_cannot_ask_for_all_memory(tmp_path: Path, change: dict[str, object]) -> None:
    KeyStore.open(tmp_path / "locked", "correct horse", create=True)
    path = tmp_path / "locked" / "master.key"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    with pytest.raises(KeyUnavailableError, match=r"master\.key"):
        KeyStore.open(tmp_path / "locked", "correct horse")


def test_scrypt_is_set_to_the_recommended_floor() -> None:
    assert (master_key.SCRYPT_N, master_key.SCRYPT_R, master_key.SCRYPT_P) == (2**17, 8, 1)


@pytest.mark.parametrize(
    "handle", ["", "s-", "../master", "s-" + "g" * 32, HANDLE + "\n", HANDLE.upper(), "s-/" + "0" * 31]
)
def test_a_handle_that_is_none_never_becomes_a_path(folder: Path, handle: str) -> None:
    store = KeyStore.open(folder)
    before = sorted(folder.rglob("*"))
    for act in (store.subject_key, store.destroy_subject, store.is_destroyed):
        with pytest.raises(InputError, match="handle"):
            act(handle)
    with pytest.raises(InputError):
        store.subject_key(handle, create=True)
    assert sorted(folder.rglob("*")) == before


def test_an_unknown_subject_has_no_key_and_cannot_be_erased(folder: Path) -> None:
    store = KeyStore.open(folder)
    with pytest.raises(KeyUnavailableError, match=HANDLE):
        store.subject_key(HANDLE)
    with pytest.raises(NotFoundError, match=HANDLE):
        store.destroy_subject(HANDLE)


def test_an_erased_subject_stays_erased_even_if_its_key_file_is_restored(folder: Path) -> None:
    store = KeyStore.open(folder)
    key = store.subject_key(HANDLE, create=True)
    path = folder / "subjects" / f"{HANDLE}.key"
    backup = path.read_bytes()
    store.destroy_subject(HANDLE)
    assert not path.exists()
    for attempt in (lambda: store.subject_key(HANDLE), lambda: store.subject_key(HANDLE, create=True)):
        with pytest.raises(NotRetainedError, match="erased"):
            attempt()
    path.write_bytes(backup)
    path.chmod(0o600)
    with pytest.raises(NotRetainedError, match="erased"):
        KeyStore.open(folder).subject_key(HANDLE)
    store.destroy_subject(HANDLE)
    assert not path.exists()
    assert store.is_destroyed(HANDLE)
    assert len(key) == 32


def test_destroying_overwrites_the_key_before_it_is_unlinked(folder: Path) -> None:
    store = KeyStore.open(folder)
    store.subject_key(HANDLE, create=True)
    path = folder / "subjects" / f"{HANDLE}.key"
    before = path.read_bytes()
    with path.open("rb") as held:  # the same blocks, still reachable through an open file
        store.destroy_subject(HANDLE)
        after = held.read()
    assert len(after) == len(before)
    assert after != before


class _Crash(BaseException):
    """What a power cut looks like from inside."""


@pytest.mark.parametrize("writes", range(4))
def test_a_crash_while_creating_leaves_a_store_that_the_next_start_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    real, done = keystore.create_secret, []

    def crashing(path: Path, data: bytes) -> bytes:
        if len(done) == writes:
            raise _Crash
        done.append((path, real(path, data)))
        return done[-1][1]

    for module in (keystore, master_key, signers):
        monkeypatch.setattr(module, "create_secret", crashing)
    with pytest.raises(_Crash):
        KeyStore.open(tmp_path / "keys", create=True)
    monkeypatch.undo()
    with pytest.raises(KeyUnavailableError, match="missing"):
        KeyStore.open(tmp_path / "keys")
    KeyStore.open(tmp_path / "keys", create=True)
    assert all(path.read_bytes() == data for path, data in done)


RACER = """
import sys
from pathlib import Path
from mass_gov.evidence.keystore import KeyStore
sys.stdin.readline()
store = KeyStore.open(Path(sys.argv[1]), create=True)
subject = store.subject_key(sys.argv[2], create=True)
print(store.log_signer.keyid, store.delta_signer.keyid, store.request_commitment(b"x"), hash(subject))
"""


def test_processes_that_create_at_once_agree_on_one_store(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACER, str(tmp_path / "keys"), HANDLE]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=60)[0] for racer in racers]
    assert all(racer.returncode == 0 for racer in racers)
    assert len(set(said)) == 1
    assert not [path for path in (tmp_path / "keys").rglob(".*") if path.is_file()]


def test_files_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        KeyStore.open(tmp_path / "keys", create=True).subject_key(HANDLE, create=True)
    finally:
        os.umask(old)
    for path in (tmp_path / "keys", *(tmp_path / "keys").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_store_opens_to_the_same_keys(folder: Path) -> None:
    first, second = KeyStore.open(folder), KeyStore.open(folder, create=True)
    assert first.log_signer.keyid == second.log_signer.keyid
    assert first.delta_signer.keyid == second.delta_signer.keyid
    assert first.request_commitment(b"text") == second.request_commitment(b"text") != first.request_commitment(b"other")
    assert (
        first.subject_key(HANDLE, create=True) == second.subject_key(HANDLE) == second.subject_key(HANDLE, create=True)
    )
    assert first.subject_key(new_subject_handle(), create=True) != first.subject_key(HANDLE)


def test_a_store_shows_no_key(folder: Path) -> None:
    store = KeyStore.open(folder)
    secret = store.subject_key(HANDLE, create=True)
    shown = repr(store) + repr(store.log_signer) + repr(store.delta_signer) + repr(store.log_signer.public_key)
    for hidden in (secret, store._master, store._request):
        assert hidden.hex() not in shown
        assert repr(hidden) not in shown
