"""A bundle's file: a zip archive in one form, so that no byte of it can say something that is not verified.

Members stand one after another in the order of their names, stored and not compressed, then the central directory, then
its end; nothing before, between or behind. Times are 1980-01-01 00:00, modes 0600, every other field fixed. Rules:

    (a) the file has at most 512 MiB and 4,096 members
    (b) it ends with the end of a central directory of one disk, without a comment, and that directory fills the bytes
        before it
    (c) names are relative paths of plain segments that do not start with a dot, ascending, none twice, and none is
        another's folder: nothing leads out of a folder, and nothing unpacks over anything else
    (d) every member is stored (nothing can unpack to more than is there), not encrypted, a plain file, stands right
        behind the one before, and has its CRC-32
    (e) written again from names and contents, it gives the same bytes: whatever else could be hidden in a zip (extra
        fields, zip64, links, a second entry for the same bytes, junk before or between) is thereby refused

Reading writes nothing to disk. Any zip program opens what this writes. Source: PKWARE APPNOTE 6.3.10, sections 4.3.7,
4.3.12 and 4.3.16. This module does not know what the members mean.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

from mass_gov.errors import InputError, IntegrityError

MAX_BUNDLE_BYTES = 512 << 20
MAX_MEMBERS = 4096
MAX_NAME = 240

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION, _MADE_BY = 20, (3 << 8) | 20
"""2.0 to extract; made on Unix, so that the mode means something."""
_DATE = (1 << 5) | 1
_MODE = 0o100600 << 16
_ENCRYPTED, _METHOD_STORED = 1, 0


def write_bundle(members: Mapping[str, bytes]) -> bytes:
    """The archive of {name: contents}: equal members give equal bytes.

    Raises:
        InputError: a name that is not lawful, too many members, or too many bytes.
    """
    names = sorted(members)
    fault = _names_fault(names)
    size = _END.size + sum(_LOCAL.size + _CENTRAL.size + 2 * len(n) + len(members[n]) for n in names)
    if fault or size > MAX_BUNDLE_BYTES:
        why = fault or f"it would take {size:,} bytes, and a bundle has at most {MAX_BUNDLE_BYTES:,}"
        raise InputError(f"The bundle cannot be written: {why}. Export with --sealed, or the log instead.")
    return b"".join(_parts(names, members))


def read_file(path: Path) -> bytes:
    """The bytes of a bundle's file, one more than there may be at most.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        raise InputError(f"The bundle {path} cannot be read: {error.strerror}. Check --bundle.") from error


def read_bundle(data: bytes) -> dict[str, bytes]:
    """{name: contents} of an archive, steps (a) to (e).

    Raises:
        IntegrityError: one of the steps fails; the message names the member.
    """
    if len(data) > MAX_BUNDLE_BYTES:  # (a)
        raise _refuse(f"it has more than {MAX_BUNDLE_BYTES:,} bytes")
    count, start = _end(data)  # (a), (b)
    members: dict[str, bytes] = {}
    at, place = start, 0
    for _ in range(count):
        name, contents, at = _member(data, at, start, place)  # (d)
        place += _LOCAL.size + len(name) + len(contents)
        if name in members:
            raise _refuse(f"two members are called {name[:80]!r}")  # (c)
        members[name] = contents
    if at != len(data) - _END.size:  # (b)
        raise _refuse("its directory does not fill the bytes before its end")
    if fault := _names_fault(list(members)):  # (c)
        raise _refuse(fault)
    if write_bundle(members) != data:  # (e)
        raise _refuse("it is not written in its one form: bytes, fields or entries are hidden in it")
    return members


def _end(data: bytes) -> tuple[int, int]:
    """(a), (b) Number of members and where the directory starts."""
    if len(data) < _END.size or not data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        raise _refuse("it is no zip archive, or something stands before it")
    mark, disk, first, here, count, length, start, comment = _END.unpack_from(data, len(data) - _END.size)
    if mark != b"PK\x05\x06":
        raise _refuse("it does not end with a directory: it is cut off, or something stands behind it")
    if disk or first or here != count or comment or 0xFFFF in (count, here) or 0xFFFFFFFF in (length, start):
        raise _refuse("its end has another form (several disks, zip64 or a comment)")
    if count > MAX_MEMBERS:
        raise _refuse(f"it has {count} members, and a bundle has at most {MAX_MEMBERS}")
    if start + length != len(data) - _END.size:
        raise _refuse("its directory does not fill the bytes before its end")
    return count, start


def _member(data: bytes, at: int, limit: int, place: int) -> tuple[str, bytes, int]:
    """(d) One entry of the directory, which must stand at `place`: name, contents, and where the next entry starts."""
    if at + _CENTRAL.size > len(data) or data[at : at + 4] != b"PK\x01\x02":
        raise _refuse("its directory is cut off")
    fields = _CENTRAL.unpack_from(data, at)
    flags, method, crc, packed, size, name_length = fields[3], fields[4], *fields[7:11]
    mode, offset = fields[15] >> 16, fields[16]
    raw = data[at + _CENTRAL.size : at + _CENTRAL.size + name_length]
    name = raw.decode("ascii", "replace")
    if flags & _ENCRYPTED:
        raise _refuse(f"the member {name[:80]!r} is encrypted")
    if method != _METHOD_STORED or packed != size:
        raise _refuse(f"the member {name[:80]!r} is compressed, and members are stored as they are")
    if mode >> 12 != 0o10:
        raise _refuse(f"the member {name[:80]!r} is a link or no plain file")
    start = offset + _LOCAL.size + name_length
    if offset != place or start + size > limit or data[offset + _LOCAL.size : start] != raw:
        raise _refuse(f"the member {name[:80]!r} overlaps another, or does not stand where the directory says")
    contents = data[start : start + size]
    if zlib.crc32(contents) != crc:
        raise _refuse(f"the member {name[:80]!r} was altered (CRC-32)")
    return name, contents, at + _CENTRAL.size + name_length


def _parts(names: list[str], members: Mapping[str, bytes]) -> list[bytes]:
    parts, directory, offset = [], [], 0
    for name in names:
        contents, raw = members[name], name.encode("ascii")
        crc, size = zlib.crc32(contents), len(contents)
        common = (_VERSION, 0, _METHOD_STORED, 0, _DATE, crc, size, size, len(raw), 0)
        parts += [_LOCAL.pack(b"PK\x03\x04", *common) + raw, contents]
        directory.append(_CENTRAL.pack(b"PK\x01\x02", _MADE_BY, *common, 0, 0, 0, _MODE, offset) + raw)
        offset += _LOCAL.size + len(raw) + size
    length = sum(map(len, directory))
    end = _END.pack(b"PK\x05\x06", 0, 0, len(names), len(names), length, offset, 0)
    return [*parts, *directory, end]


def _names_fault(names: list[str]) -> str | None:
    """(c) What is wrong with the members' names; None when nothing is."""
    if not 0 < len(names) <= MAX_MEMBERS:
        return f"it has {len(names)} members"
    for name in names:
        if len(name) > MAX_NAME or not _NAME.fullmatch(name):
            return f"{name[:80]!r} is not the name of a member: it could lead out of a folder"
    if names != sorted(names):
        return "its members are not in order"
    folders = {name[:at] for name in names for at, letter in enumerate(name) if letter == "/"}
    clash = next((name for name in names if name in folders), None)
    return f"{clash!r} is a file and a folder" if clash else None


def _refuse(why: str) -> IntegrityError:
    return IntegrityError(f"The bundle cannot be trusted: {why}. Ask for it again from whoever exported it.")
