"""Cosignatures and witness policies: what is refused, whose word counts, and how old a head is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.checkpoint import (
    MAX_NOTE_SIGNATURES,
    Checkpoint,
    key_id,
    open_note,
    parse_vkey,
    sign_checkpoint,
    verify_checkpoint,
    vkey,
)
from mass_gov.evidence.cosignature import (
    Cosignature,
    WitnessKey,
    cosign,
    cosignatures,
    parse_lines,
    parse_witness_vkey,
    with_lines,
    without,
)
from mass_gov.evidence.signing import Ed25519Signer, P256Signer
from mass_gov.evidence.witness_policy import FUTURE_TOLERANCE, WitnessPolicy, parse_witness_policy, read_witness_policy

ORIGIN = "example.org/log"
LOG = Ed25519Signer.generate()
NOTE = sign_checkpoint(Checkpoint(ORIGIN, 7, bytes(32)), LOG)
TEXT = open_note(NOTE)[0]
SIGNERS = [Ed25519Signer.generate() for _ in range(4)]
NAMES = [f"w{i}.example" for i in range(4)]
KEYS = [WitnessKey(name, signer.public_key) for name, signer in zip(NAMES, SIGNERS, strict=True)]
NOW = 1_800_000_000


def _line(witness: int, time: int = NOW, text: str = TEXT) -> bytes:
    return cosign(text, NAMES[witness], SIGNERS[witness], time).encode()


def _cosigned(*lines: bytes) -> bytes:
    return with_lines(NOTE, [one for line in lines for one in parse_lines(line)])


def _policy(*lines: str) -> WitnessPolicy:
    witnesses = [f"witness {chr(97 + i)} {key.vkey}" for i, key in enumerate(KEYS)]
    return parse_witness_policy("\n".join([*witnesses, *lines]).encode())


def test_a_cosignature_by_a_stranger_is_ignored() -> None:
    assert cosignatures(_cosigned(_line(0), _line(1)), [KEYS[1]]) == (Cosignature(KEYS[1], NOW),)


def test_a_line_that_bears_a_known_witness_and_does_not_verify_spoils_the_note() -> None:
    for bad in (_line(0, text=TEXT.replace("7", "8", 1)), _forged_time(_line(0))):
        with pytest.raises(IntegrityError, match=r"w0\.example does not verify"):
            cosignatures(_cosigned(bad, _line(1)), KEYS)


def test_no_byte_of_a_cosignature_can_change() -> None:
    line = _line(0)
    for position in range(len(line)):
        flipped = bytearray(line)
        flipped[position] ^= 0x01
        try:
            found = cosignatures(NOTE + bytes(flipped), KEYS)
        except IntegrityError:
            continue
        assert found == ()  # another name or key id: a stranger's line, which proves nothing


def test_the_logs_own_key_is_no_witness_and_a_witness_no_log() -> None:
    with pytest.raises(InputError):
        parse_witness_vkey(vkey(ORIGIN, LOG.public_key))
    with pytest.raises(InputError):
        parse_vkey(KEYS[0].vkey)
    assert parse_witness_vkey(KEYS[0].vkey) == KEYS[0]
    plain = key_id("w0.example", SIGNERS[0].public_key)
    assert plain != KEYS[0].key_id


def test_the_logs_signature_copied_under_a_cosignature_key_id_does_not_count() -> None:
    signature = open_note(NOTE)[1][0].signature
    witness = WitnessKey(ORIGIN, LOG.public_key)  # even a log that is its own witness signs another message
    blob = type(open_note(NOTE)[1][0])(ORIGIN, witness.key_id, bytes(8) + signature)
    with pytest.raises(IntegrityError):
        cosignatures(with_lines(NOTE, [blob]), [witness])


def test_cosignatures_leave_the_logs_signature_as_it_was() -> None:
    note = _cosigned(_line(0), _line(1))
    assert verify_checkpoint(note, ORIGIN, LOG.public_key).size == 7
    alone, others = without(note, ORIGIN, key_id(ORIGIN, LOG.public_key))
    assert alone == NOTE and [line.name for line in others] == NAMES[:2]
    assert with_lines(alone, others) == note == with_lines(note, others)


def test_a_note_takes_no_more_than_64_signatures() -> None:
    lines = [_line(0, NOW + i) for i in range(MAX_NOTE_SIGNATURES)]
    with pytest.raises(IntegrityError):
        _cosigned(*lines)
    assert len(cosignatures(_cosigned(*lines[1:]), KEYS)) == MAX_NOTE_SIGNATURES - 1


@pytest.mark.parametrize("data", [b"", b"\n", b"no line\n", _line(0)[:-1], NOTE, b"\xff\n", _line(0) * 65])
def test_an_answer_that_is_not_signature_lines_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        parse_lines(data)


@pytest.mark.parametrize("time", [-1, 2**63])
def test_a_time_out_of_range_is_not_signed(time: int) -> None:
    with pytest.raises(InputError):
        cosign(TEXT, NAMES[0], SIGNERS[0], time)


def test_only_ed25519_keys_cosign() -> None:
    with pytest.raises(InputError):
        cosign(TEXT, NAMES[0], P256Signer.generate(), NOW)


def test_a_quorum_counts_witnesses_and_not_signatures() -> None:
    policy = _policy("group g 2 a b c", "quorum g")
    same = [Cosignature(KEYS[0], NOW - i) for i in range(5)]
    assert not policy.judge(same, NOW).quorum
    assert policy.judge([*same, Cosignature(KEYS[2], NOW)], NOW).quorum
    assert len(policy.judge(same, NOW).counted) == 1


def test_one_fresh_clock_does_not_make_an_old_head_young() -> None:
    policy = _policy("group g 2 a b c", "quorum g")
    given = [Cosignature(KEYS[0], NOW), Cosignature(KEYS[1], NOW - 500), Cosignature(KEYS[2], NOW - 900)]
    assert policy.judge(given, NOW).since == NOW - 500
    assert policy.judge(given[:1], NOW).since is None


def test_a_cosignature_from_the_future_does_not_count() -> None:
    policy = _policy("quorum a")
    late = policy.judge([Cosignature(KEYS[0], NOW + FUTURE_TOLERANCE + 1)], NOW)
    assert (late.quorum, late.counted, len(late.early)) == (False, (), 1)
    assert policy.judge([Cosignature(KEYS[0], NOW + FUTURE_TOLERANCE)], NOW).quorum


def test_groups_of_groups_follow_the_specification() -> None:
    policy = _policy("group ab 1 a b", "group cd all c d", "group both all ab cd", "quorum both")
    ids = [key.key.keyid for key in KEYS]
    assert policy.satisfied({ids[1], ids[2], ids[3]})
    assert not policy.satisfied({ids[0], ids[1], ids[2]})
    assert parse_witness_policy(b"quorum none\n").satisfied(set())


def test_comments_white_space_urls_and_logs_are_read() -> None:
    text = (
        f"# ours\n\n\t log {vkey(ORIGIN, LOG.public_key)} https://log.example\n witness x {KEYS[0].vkey} \t\nquorum x"
    )
    policy = parse_witness_policy(text.encode())
    assert policy.logs == ((ORIGIN, LOG.public_key),) and policy.quorum == "x"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["quorum nobody"],
        ["quorum a", "quorum a"],
        ["quorum a b"],
        ["group g 2 a", "quorum g"],
        ["group g 0 a b", "quorum g"],
        ["group g 02 a b", "quorum g"],
        ["group g some a b", "quorum g"],
        ["group g all a a", "quorum g"],
        ["group g any a", "group h any a", "quorum h"],
        ["group g all none", "quorum g"],
        ["group a all b", "quorum a"],
        ["group g all h", "group h all a", "quorum g"],
        ["group g any", "quorum a"],
        [f"witness again {KEYS[0].vkey}", "quorum a"],
        ["witness e not-a-key", "quorum a"],
        [f"witness none {WitnessKey('other.example', Ed25519Signer.generate().public_key).vkey}", "quorum a"],
        [f"log {KEYS[0].vkey}", "quorum a"],
        [f"witness z {vkey(ORIGIN, LOG.public_key)}", "quorum a"],
        ["trust everybody", "quorum a"],
        ["quorum\ta\r"],
        ["quorum a\x00"],
    ],
)
def test_a_policy_that_says_something_else_is_refused(lines: list[str]) -> None:
    with pytest.raises(InputError):
        _policy(*lines)


def test_the_same_witness_under_two_names_is_refused() -> None:
    renamed = WitnessKey("other.example", SIGNERS[0].public_key)
    with pytest.raises(InputError, match="count twice"):
        _policy(f"witness e {renamed.vkey}", "quorum a")


def test_a_policy_file_is_bounded_and_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_witness_policy(tmp_path / "none")
    big = tmp_path / "big"
    big.write_bytes(b"#" * (64 * 1024 + 1))
    with pytest.raises(InputError):
        read_witness_policy(big)


def _forged_time(line: bytes) -> bytes:
    """The same signature under another time."""
    one = parse_lines(line)[0]
    later = (int.from_bytes(one.signature[:8], "big") + 1).to_bytes(8, "big")
    return type(one)(one.name, one.key_id, later + one.signature[8:]).line().encode()
