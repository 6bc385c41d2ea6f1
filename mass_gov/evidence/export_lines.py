"""The log as a file: NDJSON, one event a line in order, and a closing line that says what the file should be.

    {"index":0,"leaf":{...},"note":"..."}                                   the event, its leaf as it was signed
    {"artifacts":{"<digest>":"<base64>"},"index":1,"leaf":{...}}            with --artifacts, the sealed bytes it names
    {"artifacts":false,"checkpoint":"...","count":2,"format":"mass-gov:export:v1","origin":"...","root":"<hex>"}

Every line is canonical JSON (RFC 8785) and a newline, so equal logs give equal files whatever database they lay in.
`note` is the signed note of the head that ends with this event, where one was signed: the log's own lines and then the
witnesses' cosignatures, in the order of their bytes. Rules for reading: lines have a bound; indexes run 0, 1, 2; the
closing line is the last, and its count is the number of events. Nothing here is verified but the form: `flows.
export_audit` does the rest. Memory holds one line.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.canonical import Json, canonical_bytes, parse_canonical

EXPORT_FORMAT = "mass-gov:export:v1"
MAX_LINE_BYTES = 256 * 1024 * 1024
"""The longest line: an event with all of its sealed artifacts in base64. A leaf alone takes less than 64 KiB."""
_EVENT, _CLOSING = {"index", "leaf"}, {"artifacts", "checkpoint", "count", "format", "origin", "root"}


@dataclass(frozen=True, slots=True)
class ExportedEvent:
    """One event as it stood in the log.

    Attributes:
        index: from 0.
        leaf: the signed bytes.
        note: the signed head that ends with this event; None where none was signed.
        artifacts: sealed bytes by the digest that the leaf names; empty in an export without artifacts.
    """

    index: int
    leaf: bytes = field(repr=False)
    note: bytes | None = field(default=None, repr=False)
    artifacts: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Closing:
    """The last line: which log, how many events, their root (hex), its signed head, whether artifacts came along."""

    origin: str
    count: int
    root: str
    checkpoint: bytes = field(repr=False)
    artifacts: bool


def encode_event(event: ExportedEvent) -> bytes:
    """One line, its newline included.

    Raises:
        InputError: it would be longer than a reader takes.
    """
    parts = []
    if event.artifacts:
        sealed = {digest: base64.b64encode(stored).decode("ascii") for digest, stored in event.artifacts.items()}
        parts.append(b'"artifacts":' + canonical_bytes(sealed))
    # The leaf is canonical JSON itself and goes in as it is: what is hashed is never written again.
    parts += [b'"index":%d' % event.index, b'"leaf":' + event.leaf]
    if event.note is not None:
        parts.append(b'"note":' + canonical_bytes(event.note.decode("utf-8")))
    line = b"{" + b",".join(parts) + b"}\n"
    if len(line) > MAX_LINE_BYTES:
        raise InputError(
            f"Event {event.index} takes {len(line):,} bytes with its artifacts, and a line of an export has at most "
            f"{MAX_LINE_BYTES:,}. Export without --artifacts, and keep a back-up of the database for them."
        )
    return line


def encode_closing(closing: Closing) -> bytes:
    """The last line, its newline included."""
    fields = {
        "artifacts": closing.artifacts,
        "checkpoint": closing.checkpoint.decode("utf-8"),
        "count": closing.count,
        "format": EXPORT_FORMAT,
        "origin": closing.origin,
        "root": closing.root,
    }
    return canonical_bytes(fields) + b"\n"


class ExportReader:
    """Reads an export line by line. Iterate over it once; `closing` is there when the iteration has ended.

    Every fault is an IntegrityError that names the line; `index` is then the event that was expected there.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.index = 0
        self.closing: Closing | None = None

    def __iter__(self) -> Iterator[ExportedEvent]:
        while self.closing is None:
            value = self._line()
            if "format" in value:
                self.closing = self._closing(value)
            else:
                yield self._event(value)
                self.index += 1
        if self._stream.read(1):
            raise self._refuse("bytes follow the closing line")

    def _line(self) -> dict[str, Json]:
        line = self._stream.readline(MAX_LINE_BYTES + 1)
        if not line:
            raise self._refuse("the file ends here, without its closing line")
        if len(line) > MAX_LINE_BYTES:
            raise self._refuse(f"it is longer than {MAX_LINE_BYTES:,} bytes")
        if not line.endswith(b"\n"):
            raise self._refuse("it is cut off")
        try:
            value = parse_canonical(line[:-1])
        except IntegrityError as error:
            raise self._refuse(f"it is not what was written ({error})") from error
        if not isinstance(value, dict):
            raise self._refuse("it is no JSON object")
        return value

    def _event(self, value: dict[str, Json]) -> ExportedEvent:
        if not _EVENT <= value.keys() <= _EVENT | {"artifacts", "note"}:
            raise self._refuse("it is neither an event nor a closing line")
        index, note, leaf = value["index"], value.get("note"), value["leaf"]
        if index != self.index or isinstance(index, bool):
            raise self._refuse(f"it is event {str(index)[:24]}, and {self.index} was expected")
        if not isinstance(leaf, dict) or not (note is None or isinstance(note, str)) or ("note" in value) != bool(note):
            raise self._refuse("its leaf or its note has another form")
        signed = None if note is None else note.encode("utf-8")
        return ExportedEvent(self.index, canonical_bytes(leaf), signed, self._artifacts(value))

    def _artifacts(self, value: dict[str, Json]) -> dict[str, bytes]:
        sealed = value.get("artifacts", {})
        if not isinstance(sealed, dict) or ("artifacts" in value and not sealed):
            raise self._refuse("its artifacts have another form")
        return {digest: self._unbase64(text) for digest, text in sealed.items()}

    def _unbase64(self, text: Json) -> bytes:
        try:
            data = base64.b64decode(text if isinstance(text, str) else "?", validate=True)
        except (binascii.Error, ValueError) as error:
            raise self._refuse("an artifact is not base64") from error
        if base64.b64encode(data).decode("ascii") != text:
            raise self._refuse("an artifact is base64 with slack")
        return data

    def _closing(self, value: dict[str, Json]) -> Closing:
        origin, count, root, note = (value.get(name) for name in ("origin", "count", "root", "checkpoint"))
        if value.keys() != _CLOSING or value["format"] != EXPORT_FORMAT:
            raise self._refuse(f"it closes no export of this form, {EXPORT_FORMAT}")
        artifacts = value["artifacts"]
        if not (isinstance(origin, str) and isinstance(root, str) and isinstance(note, str)):
            raise self._refuse("the closing line has another form")
        if count != self.index or isinstance(count, bool) or not isinstance(artifacts, bool):
            raise self._refuse(f"{self.index} events stand before it, and the closing line says {str(count)[:24]}")
        return Closing(origin, self.index, root, note.encode("utf-8"), artifacts)

    def _refuse(self, why: str) -> IntegrityError:
        return IntegrityError(f"The export is not whole at line {self.index + 1}: {why}. Get it again from the log.")
