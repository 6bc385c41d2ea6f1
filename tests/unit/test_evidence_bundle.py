"""The zip around a bundle: one form, and everything else that a zip can be is refused before anything is unpacked."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence import bundle
from mass_gov.evidence.bundle import read_bundle, write_bundle
from tests.fakes.bundles import patched, place_of

MEMBERS = {"README.md": b"read me" * 40, "artifacts/4/answer.plain": b"{}", "delta/adapter.bin": bytes(range(256))}
DATA = write_bundle(MEMBERS)
SEGMENT = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,12}", fullmatch=True)


@given(st.dictionaries(SEGMENT, st.binary(max_size=64), min_size=1, max_size=6))
def test_what_is_written_is_read_and_other_programs_read_it(members: dict[str, bytes]) -> None:
    data = write_bundle(members)
    assert read_bundle(data) == members == read_bundle(write_bundle(dict(reversed(members.items()))))
    with zipfile.ZipFile(io.BytesIO(data)) as theirs:
        assert theirs.testzip() is None
        assert {name: theirs.read(name) for name in theirs.namelist()} == members
        assert all(info.external_attr >> 16 == 0o100600 for info in theirs.infolist())


def test_every_flipped_bit_is_refused() -> None:
    small = write_bundle({"a": b"one", "b/c": b"two"})
    for at in range(len(small)):
        for bit in range(8):
            flipped = bytearray(small)
            flipped[at] ^= 1 << bit
            with pytest.raises(IntegrityError):
                read_bundle(bytes(flipped))


def test_every_cut_is_refused() -> None:
    for length in range(len(DATA)):
        with pytest.raises(IntegrityError):
            read_bundle(DATA[:length])


NAMES = ("../x", "/etc/passwd", "a//b", "a/./b", ".hidden", "a\\b", "C:/x", "a/../../b", "ü", "a/", "x" * 300)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="name of a member"):
        write_bundle({name: b""})
    with pytest.raises(IntegrityError):
        read_bundle(_zip((name, b"x")))


def test_a_file_that_is_a_folder_too_is_refused() -> None:
    with pytest.raises(IntegrityError, match="a file and a folder"):
        read_bundle(_by_hand([("a", b"1"), ("a/b", b"2")]))


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(IntegrityError, match="two members"):
        read_bundle(_by_hand([("a", b"1"), ("a", b"2")]))


def test_members_out_of_order_are_refused() -> None:
    with pytest.raises(IntegrityError, match="not in order"):
        read_bundle(_by_hand([("b", b"1"), ("a", b"2")]))


ENTRY = place_of(DATA, "README.md")
FIELDS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "encrypted": (lambda d: patched(d, ENTRY + 8, "<H", 1), "encrypted"),
    "deflated": (lambda d: patched(d, ENTRY + 10, "<H", 8), "compressed"),
    "a link": (lambda d: patched(d, ENTRY + 38, "<L", 0o120777 << 16), "a link"),
    "a folder": (lambda d: patched(d, ENTRY + 38, "<L", 0o040755 << 16), "no plain file"),
    "larger than packed": (lambda d: patched(d, ENTRY + 24, "<L", 1 << 30), "compressed"),
    "zip64 count": (lambda d: patched(patched(d, len(d) - 12, "<H", 0xFFFF), len(d) - 14, "<H", 0xFFFF), "zip64"),
    "several disks": (lambda d: patched(d, len(d) - 18, "<H", 1), "several disks"),
    "a comment": (lambda d: patched(d, len(d) - 2, "<H", 5) + b"hello", "behind it"),
    "a suffix": (lambda d: d + b"junk", "behind it"),
    "a prefix": (lambda d: b"#!/bin/sh\n" + d, "before it"),
    "a hidden gap": (lambda d: d.replace(b"PK\x01\x02", b"junkPK\x01\x02", 1), "directory"),
    "a time": (lambda d: patched(d, ENTRY + 12, "<H", 77), "one form"),
    "another crc": (lambda d: patched(d, ENTRY + 16, "<L", 1), "CRC-32"),
    "a local name": (lambda d: d.replace(b"README.md", b"README.mD", 1), "where the directory says"),
}


@pytest.mark.parametrize("what", FIELDS)
def test_a_trick_of_the_format_is_refused(what: str) -> None:
    change, why = FIELDS[what]
    with pytest.raises(IntegrityError, match=why):
        read_bundle(change(DATA))


def test_entries_that_overlap_are_refused_before_their_bytes_are_taken() -> None:
    one = write_bundle({"a": bytes(1000)})
    entry, end = one[-22 - 47 : -22], one[-22:]
    twice = one[: -22 - 47] + entry + entry.replace(b"a", b"b") + end
    twice = patched(patched(twice, len(twice) - 12, "<H", 2), len(twice) - 14, "<H", 2)
    with pytest.raises(IntegrityError, match="overlaps"):
        read_bundle(patched(twice, len(twice) - 10, "<L", 94))


def test_a_bomb_is_refused_by_method_count_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IntegrityError, match="compressed"):
        read_bundle(_zip(("a", bytes(10_000_000)), zipfile.ZIP_DEFLATED))
    monkeypatch.setattr(bundle, "MAX_MEMBERS", 2)
    with pytest.raises(IntegrityError, match="at most 2"):
        read_bundle(DATA)
    monkeypatch.setattr(bundle, "MAX_MEMBERS", 4096)
    monkeypatch.setattr(bundle, "MAX_BUNDLE_BYTES", 100)
    with pytest.raises(IntegrityError, match="more than 100 bytes"):
        read_bundle(DATA)
    with pytest.raises(InputError, match="at most 100"):
        write_bundle(MEMBERS)


@given(st.binary(max_size=400))
def test_no_bytes_are_anything_but_a_bundle_or_refused(noise: bytes) -> None:
    for data in (noise, b"PK\x03\x04" + noise, b"PK\x03\x04" + noise + DATA[-22:]):
        with pytest.raises(IntegrityError):
            read_bundle(data)


def _zip(member: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        info = zipfile.ZipInfo(member[0])
        info.external_attr = 0o100600 << 16
        info.compress_type = method
        archive.writestr(info, member[1])
    return stream.getvalue()


def _by_hand(members: list[tuple[str, bytes]]) -> bytes:
    """As `write_bundle` writes, without its rules."""
    parts, directory, offset = b"", b"", 0
    for name, content in members:
        crc, size = zlib.crc32(content), len(content)
        common = struct.pack("<5H3L2H", 20, 0, 0, 0, 33, crc, size, size, len(name), 0)
        local = b"PK\x03\x04" + common + name.encode() + content
        directory += b"PK\x01\x02" + struct.pack("<H", (3 << 8) | 20) + common
        directory += struct.pack("<3H2L", 0, 0, 0, 0o100600 << 16, offset) + name.encode()
        parts, offset = parts + local, offset + len(local)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(members), len(members), len(directory), offset, 0)
    return parts + directory + end
