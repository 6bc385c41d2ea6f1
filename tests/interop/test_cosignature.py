"""Cosignatures against what others published: a real head with four real witnesses, and the words of the specification.

The head is that of arche2025h1.staging.ct.transparency.dev as its witnesses signed it, with the verifier keys that they
publish; the shorter vectors are those of transparency-dev/formats (note/note_cosigv1_test.go) and of
c2sp.org/tlog-cosignature.
"""

from __future__ import annotations

import base64
import hashlib
import struct

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mass_gov.errors import IntegrityError
from mass_gov.evidence.checkpoint import open_note
from mass_gov.evidence.cosignature import cosign, cosignatures, parse_lines, parse_witness_vkey
from mass_gov.evidence.signing import Ed25519Signer
from mass_gov.evidence.witness_policy import parse_witness_policy

REAL = """arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
""".encode()  # noqa: E501 - as published
REAL_TIME = 0x6A122120
VKEYS = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
]
WITNESSES = [parse_witness_vkey(vkey) for vkey in VKEYS]


# An independent judge: the specification's format in a few lines, with nothing of ours.
def _spec_verifies(text: str, line: str, name: str, public: bytes) -> int | None:
    """The time of a cosignature line that verifies under c2sp.org/tlog-cosignature; None for one that does not."""
    dash, named, blob = line.split(" ")
    raw = base64.b64decode(blob, validate=True)
    identifier = hashlib.sha256(name.encode() + b"\n\x04" + public).digest()[:4]
    if (dash, named, raw[:4], len(raw)) != ("—", name, identifier, 4 + 8 + 64):
        return None
    (time,) = struct.unpack(">Q", raw[4:12])
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(raw[12:], f"cosignature/v1\ntime {time}\n{text}".encode())
    except InvalidSignature:
        return None
    return int(time)


def test_a_real_head_is_cosigned_by_its_four_real_witnesses() -> None:
    found = cosignatures(REAL, WITNESSES)
    assert [(c.witness.name, c.time) for c in found] == [(witness.name, REAL_TIME) for witness in WITNESSES]
    assert [witness.vkey for witness in WITNESSES] == VKEYS


@pytest.mark.parametrize(
    "old, new", [(b"1432088532", b"1432088533"), (b"U7WM", b"U7WN"), (b"arche2025h1", b"arche2025h2")]
)
def test_the_same_cosignatures_are_refused_on_another_head(old: bytes, new: bytes) -> None:
    with pytest.raises(IntegrityError):
        cosignatures(REAL.replace(old, new, 1), WITNESSES)


def test_a_real_quorum_in_the_standard_policy_format_is_met_and_missed() -> None:
    lines = [f"witness w{i} {vkey}" for i, vkey in enumerate(VKEYS)]
    other = Ed25519Signer.generate().public_key
    lines.append(f"witness absent {parse_witness_vkey(_vkey('absent.example', other.raw)).vkey}")
    met = "\n".join([*lines, "group some 3 w0 w1 w2 absent", "group all-of-it all some w3", "quorum all-of-it\n"])
    missed = "\n".join([*lines, "group some 4 w0 w1 w2 absent", "group all-of-it all some w3", "quorum all-of-it\n"])
    for text, expected in ((met, True), (missed, False)):
        policy = parse_witness_policy(text.encode())
        judged = policy.judge(cosignatures(REAL, policy.witnesses.values()), REAL_TIME + 10)
        assert (judged.quorum, judged.since) == (expected, REAL_TIME if expected else None)


def test_the_published_times_are_read() -> None:
    published = (
        "ZGhGuQAAAABm/qTPeyKXD+R2rzyQsxPiP8mXum7qq/iF0u4vanlqJyocWODBt97w9uL+8qT7S5gxEHWWOworDcFiEBYJXORmnFBOBA=="
    )
    lines = parse_lines(f"— example.com {published}\n".encode())
    assert int.from_bytes(lines[0].signature[:8], "big") == 1727964367


def test_what_this_program_signs_verifies_by_the_words_of_the_specification() -> None:
    signer = Ed25519Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    text, _ = open_note(REAL)
    line = cosign(text, "witness.example/w1", signer, 1679315147).rstrip("\n")
    public = signer.public_key.raw
    assert _spec_verifies(text, line, "witness.example/w1", public) == 1679315147
    assert _spec_verifies(text.replace("1432088532", "1432088533"), line, "witness.example/w1", public) is None
    assert _spec_verifies(text, line, "witness.example/w2", public) is None
    forged = line[:-8] + ("A" if line[-8] != "A" else "B") + line[-7:]
    assert _spec_verifies(text, forged, "witness.example/w1", public) is None


def _vkey(name: str, public: bytes) -> str:
    identifier = hashlib.sha256(name.encode() + b"\n\x04" + public).digest()[:4]
    return f"{name}+{identifier.hex()}+{base64.b64encode(bytes([4]) + public).decode()}"
