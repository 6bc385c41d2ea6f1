"""What is stored is what went in, whatever it was; and no stored bytes take more memory than the reader allows."""

from __future__ import annotations

import contextlib
import json
import os
import random
import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mass_gov.errors import IntegrityError
from mass_gov.evidence import delta_compression as dc
from mass_gov.evidence.canonical import sha256_hex
from mass_gov.evidence.sealing import Binding, Reference, Sealed, disclose, open_disclosed, seal, unseal

ONE, TWO = "0192f0c1-0000-7000-8000-000000000001", "0192f0c1-0000-7000-8000-000000000002"
KEY = bytes(range(64, 96))


def weights(seed: int, count: int = 4096, near: bytes | None = None) -> bytes:
    """A safetensors file of `count` float32; with `near`, a small step away from it."""
    rng = random.Random(seed)
    header = json.dumps(
        {"t": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}, separators=(",", ":")
    )
    head = struct.pack("<Q", len(header) + -len(header) % 8) + header.encode() + b" " * (-len(header) % 8)
    old = struct.unpack(f"<{count}f", near[len(head) :]) if near is not None else ()
    values = [x * (1 + rng.gauss(0, 1e-4)) for x in old] if old else [rng.gauss(0, 0.02) for _ in range(count)]
    return head + struct.pack(f"<{count}f", *values)


def basis(plaintext: bytes) -> dc.Basis:
    return dc.Basis(dc.ReferenceName(1, "0" * 64, ONE, sha256_hex(plaintext)), plaintext)


def no_reference(name: dc.ReferenceName) -> bytes:
    raise AssertionError(name)


@given(st.binary(max_size=300), st.binary(max_size=300), st.sampled_from(dc.WIDTHS), st.integers(0, 40))
def test_any_bytes_come_back(data: bytes, other: bytes, width: int, head: int) -> None:
    assert dc.join(dc.split(data, min(head, len(data)), width)) == data
    for codec in (dc.CODEC_RAW, dc.CODEC_ZSTD, dc.CODEC_PLANES):
        assert dc.unpack(codec, dc.encode(codec, data), len(data), no_reference) == data
    reference = (other * 300)[: len(data)].ljust(len(data), b"x")
    body = dc.encode(dc.CODEC_AGAINST, data, basis(reference))
    assert dc.unpack(dc.CODEC_AGAINST, body, len(data), lambda _: reference) == data
    codec, body = dc.pack(data, basis(other))
    assert dc.unpack(codec, body, len(data), lambda _: other) == data and len(body) <= len(data)


def test_weights_take_planes_and_near_a_parent_the_parent() -> None:
    parent = weights(1)
    child = weights(2, near=parent)
    zstd = len(dc.encode(dc.CODEC_ZSTD, child))
    planes, against = dc.pack(child), dc.pack(child, basis(parent))
    assert planes[0] == dc.CODEC_PLANES and against[0] == dc.CODEC_AGAINST
    assert len(against[1]) < 0.75 * len(planes[1]) < 0.75 * zstd
    assert dc.layout_of(child) == (len(child) - 4 * 4096, 4)


@pytest.mark.parametrize("noise", [b"", b"x", os.urandom(500), b'{"a":1}' * 30])
def test_what_is_no_weights_falls_back_to_what_is_smallest(noise: bytes) -> None:
    codec, body = dc.pack(noise)
    assert codec in (dc.CODEC_RAW, dc.CODEC_ZSTD) and len(body) <= len(noise)
    assert dc.layout_of(noise) is None


def test_a_bomb_is_refused_before_memory_is_taken() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(50_000_000))
    part = len(bomb).to_bytes(4, "big") + bomb
    empty = dc.encode(dc.CODEC_ZSTD, b"")
    nothing = len(empty).to_bytes(4, "big") + empty
    for codec, body in (
        (dc.CODEC_ZSTD, bomb),
        (dc.CODEC_PLANES, b"\x01" + nothing + part + nothing),
        (dc.CODEC_PLANES, b"\x04" + nothing + part * 4 + nothing),
        (dc.CODEC_AGAINST, basis(b"").name.encode() + b"\x01" + nothing + part + nothing),
    ):
        with pytest.raises(ValueError, match="would unpack to"):
            dc.unpack(codec, body, 1_000_000, no_reference)


@given(st.sampled_from([dc.CODEC_ZSTD, dc.CODEC_PLANES, dc.CODEC_AGAINST, 4, 255]), st.binary(max_size=200))
def test_noise_is_refused_and_nothing_else_happens(codec: int, body: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert len(dc.unpack(codec, body, 100, lambda _: b"")) <= 100


def test_every_cut_and_every_suffix_of_planes_is_refused() -> None:
    body = dc.encode(dc.CODEC_PLANES, weights(3, 64))
    for length in range(len(body)):
        with pytest.raises(ValueError, match=r"planes|decompress|unpacks"):
            dc.unpack(dc.CODEC_PLANES, body[:length], 1 << 20, no_reference)
    with pytest.raises(ValueError, match="stands behind"):
        dc.unpack(dc.CODEC_PLANES, body + b"x", 1 << 20, no_reference)


# --- sealed ----------------------------------------------------------------------------------------------------------


def binding(change_id: str) -> Binding:
    return Binding("acme", change_id, "delta.adapter_model")


@pytest.fixture(scope="module")
def chain() -> list[tuple[str, bytes, Sealed]]:
    """Deltas of one subject, each compressed against the one before."""
    made: list[tuple[str, bytes, Sealed]] = []
    plain = weights(0, 512)
    for number in range(dc.MAX_DEPTH + 3):
        change_id = f"0192f0c1-0000-7000-8000-{number:012d}"
        older = Reference(made[-1][0], made[-1][2].stored, made[-1][1]) if made else None
        made.append((change_id, plain, seal(plain, KEY, binding(change_id), older)))
        plain = weights(number + 1, 512, near=plain)
    return made


def codec_of(sealed: Sealed) -> int:
    return sealed.stored[5]


def test_a_chain_opens_to_the_last_byte_and_ends_at_its_bound(chain: list[tuple[str, bytes, Sealed]]) -> None:
    stored = {sealed.digest: sealed.stored for _, _, sealed in chain}
    wanted = [dc.CODEC_PLANES] + [dc.CODEC_AGAINST] * dc.MAX_DEPTH + [dc.CODEC_PLANES, dc.CODEC_AGAINST]
    assert [codec_of(sealed) for _, _, sealed in chain] == wanted
    for change_id, plain, sealed in chain:
        opened = unseal(sealed.stored, KEY, binding(change_id), sealed.commitment, fetch=stored.__getitem__)
        assert opened == plain


def test_anothers_delta_is_never_needed_to_read_ones_own(chain: list[tuple[str, bytes, Sealed]]) -> None:
    change_id, plain, sealed = chain[0]
    with pytest.raises(IntegrityError, match="subject's key"):
        seal(plain, os.urandom(32), binding(TWO), Reference(change_id, sealed.stored, plain))


def test_a_missing_an_altered_or_another_reference_is_refused(chain: list[tuple[str, bytes, Sealed]]) -> None:
    change_id, _, sealed = chain[1]
    altered = bytearray(chain[0][2].stored)
    altered[-1] ^= 1
    for fetch in (None, lambda _: b"", lambda _: bytes(altered), lambda _: chain[2][2].stored):
        with pytest.raises(IntegrityError, match="compressed against"):
            unseal(sealed.stored, KEY, binding(change_id), sealed.commitment, fetch=fetch)


def test_an_auditor_opens_one_artifact_with_its_own_key_and_the_reference_in_plain(
    chain: list[tuple[str, bytes, Sealed]],
) -> None:
    stored = {sealed.digest: sealed.stored for _, _, sealed in chain}
    change_id, plain, sealed = chain[2]
    place = binding(change_id)
    shown = disclose(sealed.stored, KEY, place, sealed.commitment, fetch=stored.__getitem__)
    assert (shown.plaintext, shown.reference) == (plain, chain[1][1])
    references = {sha256_hex(chain[1][1]): chain[1][1]}
    opened = open_disclosed(sealed.stored, shown.data_key, place, sealed.commitment, reference=references.__getitem__)
    assert opened == plain
    with pytest.raises(IntegrityError, match="another delta"):
        open_disclosed(sealed.stored, shown.data_key, place, sealed.commitment, reference=lambda _: plain)
    with pytest.raises(IntegrityError, match="is not here"):
        open_disclosed(sealed.stored, shown.data_key, place, sealed.commitment)
    with pytest.raises(IntegrityError, match="committed to"):
        open_disclosed(sealed.stored, os.urandom(32), place, sealed.commitment)


def test_a_reference_of_another_length_is_left_alone() -> None:
    parent, child = weights(1, 1024), weights(2, 1025)
    older = Reference(ONE, seal(parent, KEY, binding(ONE)).stored, parent)
    assert codec_of(seal(child, KEY, binding(TWO), older)) == dc.CODEC_PLANES
