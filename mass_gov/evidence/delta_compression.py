"""Lossless compression of what is sealed: plain zstd, and for weights by byte planes, against an older delta or not.

The low bytes of a float are noise and the high ones are not, so the bytes of each element are grouped by significance
before zstd sees them. Where the delta that a change was made from is at hand, the two are first combined by exclusive
or of their bits: what an update left alone becomes zero. Bodies, by codec:

    0x00 raw       the plaintext
    0x01 zstd      one zstd frame that states its content size
    0x02 planes    1 byte element width w (1, 2, 4 or 8), then w + 2 parts, each 4 bytes length and a frame as in 0x01
    0x03 against   1 byte depth (1 to 8), 32 bytes SHA-256 of the reference's sealed bytes, 16 bytes id of its change,
                   32 bytes SHA-256 of its plaintext; then as 0x02, of plaintext XOR the reference's plaintext

Numbers are big-endian. The parts of 0x02: the head as it is (of a safetensors file all before the numbers), the first
byte of every element, the second of every one, and so on, and what is left over; each is a frame of its own, because
what suits exponents does not suit noise. Rules: any bytes go in and the same bytes come out; the smallest body wins;
nothing unpacks beyond the bound that the reader gives, and the bound is checked before memory is taken. A depth bounds
how many sealed artifacts have to be opened for one. This module knows no keys and no ledger.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import zstandard

CODEC_RAW, CODEC_ZSTD, CODEC_PLANES, CODEC_AGAINST = range(4)
CODECS = frozenset((CODEC_RAW, CODEC_ZSTD, CODEC_PLANES, CODEC_AGAINST))
MAX_DEPTH = 8
"""How many references may follow one another."""
WIDTHS = (1, 2, 4, 8)

_LEVEL = 9
_NAME_BYTES = 1 + 32 + 16 + 32
_MAX_HEAD = 1 << 24
_DTYPE = re.compile(rb'"dtype":"(F64|I64|U64|F32|I32|U32|BF16|F16|I16|U16)"')
_BYTES_OF = {b"64": 8, b"32": 4, b"16": 2}


@dataclass(frozen=True, slots=True)
class ReferenceName:
    """What a body of codec 0x03 stands on.

    Attributes:
        depth: how many references have to be opened one after another, this one included.
        stored: SHA-256 of the reference's sealed bytes, hex.
        change_id: the change that it was sealed for.
        plain: SHA-256 of its plaintext, hex.
    """

    depth: int
    stored: str
    change_id: str
    plain: str

    def encode(self) -> bytes:
        """The name as it stands at the start of the body."""
        return (
            bytes([self.depth])
            + bytes.fromhex(self.stored)
            + uuid.UUID(self.change_id).bytes
            + bytes.fromhex(self.plain)
        )


@dataclass(frozen=True, slots=True)
class Basis:
    """A reference and its plaintext, to compress against."""

    name: ReferenceName
    plaintext: bytes = field(repr=False)


def pack(plaintext: bytes, basis: Basis | None = None) -> tuple[int, bytes]:
    """(codec, body), the smallest that there is. A basis of another length, or beyond `MAX_DEPTH`, is not used."""
    codecs = [CODEC_RAW, CODEC_ZSTD]
    if layout_of(plaintext) is not None:
        codecs.append(CODEC_PLANES)
    if basis is not None and len(basis.plaintext) == len(plaintext) and 0 < basis.name.depth <= MAX_DEPTH:
        codecs.append(CODEC_AGAINST)
    return min(((codec, encode(codec, plaintext, basis)) for codec in codecs), key=lambda one: (len(one[1]), one[0]))


def encode(codec: int, plaintext: bytes, basis: Basis | None = None) -> bytes:
    """The body of any bytes by one codec; `CODEC_AGAINST` takes a basis of the same length.

    Raises:
        ValueError: there is no such codec, or it lacks its basis.
    """
    if codec == CODEC_RAW:
        return plaintext
    if codec == CODEC_ZSTD:
        return _squeeze(plaintext)
    layout = layout_of(plaintext) or (0, 1)
    if codec == CODEC_PLANES:
        return _planes(plaintext, *layout)
    if codec != CODEC_AGAINST or basis is None or len(basis.plaintext) != len(plaintext):
        raise ValueError(f"codec {codec} lacks a basis of the same length")
    return basis.name.encode() + _planes(xor(plaintext, basis.plaintext), *layout)


def unpack(codec: int, body: bytes, max_output: int, resolve: Callable[[ReferenceName], bytes]) -> bytes:
    """The plaintext of a body.

    Arguments:
        max_output: at most so many bytes come out.
        resolve: gives the plaintext of a reference; its digest is checked here.

    Raises:
        ValueError: the body is not of its codec's form, or would unpack to more; the message says which.
    """
    if codec == CODEC_RAW:
        _bound(len(body), max_output)
        return body
    if codec == CODEC_ZSTD:
        return _expand(body, max_output)
    if codec == CODEC_PLANES:
        return _unplanes(body, max_output)
    name = reference_of(codec, body)
    if name is None:
        raise ValueError(f"its codec is {codec}")
    difference = _unplanes(body[_NAME_BYTES:], max_output)
    reference = resolve(name)
    if hashlib.sha256(reference).hexdigest() != name.plain or len(reference) != len(difference):
        raise ValueError("what it was compressed against is another delta")
    return xor(difference, reference)


def reference_of(codec: int, body: bytes) -> ReferenceName | None:
    """What a body was compressed against; None for the other codecs.

    Raises:
        ValueError: the name is cut off, or its depth is out of bounds.
    """
    if codec != CODEC_AGAINST:
        return None
    name = body[:_NAME_BYTES]
    if len(name) != _NAME_BYTES or not 1 <= name[0] <= MAX_DEPTH:
        raise ValueError("it does not say what it was compressed against")
    return ReferenceName(name[0], name[1:33].hex(), str(uuid.UUID(bytes=name[33:49])), name[49:].hex())


def layout_of(plaintext: bytes) -> tuple[int, int] | None:
    """(head length, element width) of a safetensors file, in bytes; None for anything else."""
    length = int.from_bytes(plaintext[:8], "little")
    if len(plaintext) < 10 or plaintext[8:9] != b"{" or not 2 <= length <= min(len(plaintext) - 8, _MAX_HEAD - 8):
        return None
    kind = _DTYPE.search(plaintext, 8, 8 + length)
    return (8 + length, _BYTES_OF[kind[1][-2:]]) if kind is not None else None


def split(data: bytes, head: int, width: int) -> list[bytes]:
    """The head, the bytes of each element after it by significance, and the rest: `width` + 2 parts."""
    end = len(data) - (len(data) - head) % width
    return [data[:head], *(data[head + plane : end : width] for plane in range(width)), data[end:]]


def join(parts: Sequence[bytes]) -> bytes:
    """Undo `split`.

    Raises:
        ValueError: the parts are not those of equally long elements.
    """
    head, *planes, rest = parts
    width, count = len(planes), len(planes[0])
    if any(len(plane) != count for plane in planes) or len(rest) >= width:
        raise ValueError("its byte planes are not equally long")
    elements = bytearray(width * count)
    for number, plane in enumerate(planes):
        elements[number::width] = plane
    return b"".join((head, elements, rest))


def xor(left: bytes, right: bytes) -> bytes:
    """Exclusive or of two equally long byte strings."""
    return (int.from_bytes(left, "little") ^ int.from_bytes(right, "little")).to_bytes(len(left), "little")


def _planes(data: bytes, head: int, width: int) -> bytes:
    frames = [_squeeze(part) for part in split(data, head, width)]
    return bytes([width]) + b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def _unplanes(body: bytes, max_output: int) -> bytes:
    width, at, frames = body[0] if body else 0, 1, []
    if width not in WIDTHS:
        raise ValueError("its byte planes have another form")
    for _ in range(width + 2):
        end = at + 4 + int.from_bytes(body[at : at + 4], "big")
        frames.append(body[at + 4 : end])
        at = end
    if at != len(body):
        raise ValueError("its byte planes are cut off, or something stands behind them")
    _bound(sum(_size_of(frame) for frame in frames), max_output)
    return join([_expand(frame, max_output) for frame in frames])


def _squeeze(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(data)


def _expand(frame: bytes, max_output: int) -> bytes:
    size = _size_of(frame)
    _bound(size, max_output)
    try:
        # The size was read from the frame, so the output is allocated once and zstd stops at its end.
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError("it does not decompress") from error


def _size_of(frame: bytes) -> int:
    """What a frame says that it unpacks to, in bytes."""
    try:
        size = zstandard.frame_content_size(frame)
    except zstandard.ZstdError as error:
        raise ValueError("it does not decompress") from error
    if size < 0:
        raise ValueError("it does not say how much it unpacks to")
    return size


def _bound(size: int, max_output: int) -> None:
    if not 0 <= size <= max_output:
        raise ValueError(f"it would unpack to {size} bytes, more than {max_output}")
