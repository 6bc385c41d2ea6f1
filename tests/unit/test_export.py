"""The log as a file: it proves itself, it is the same from either engine, and no line of it can change unseen."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence import export_lines
from mass_gov.evidence.canonical import canonical_bytes
from mass_gov.evidence.export_lines import ExportedEvent, ExportReader, encode_event
from mass_gov.evidence.merkle import EMPTY_ROOT, Frontier
from mass_gov.evidence.signing import Ed25519Signer
from mass_gov.evidence.trust import TrustRoot
from mass_gov.flows.audit_report import VerificationReport
from mass_gov.flows.export_audit import verify_export
from mass_gov.flows.log_export import export_log
from mass_gov.ledger import Ledger, projector
from mass_gov.ledger.engines import open_database
from mass_gov.ledger.migrate import revision_of, upgrade
from mass_gov.ledger.store import LogHead, insert_artifact, insert_checkpoint, insert_event
from tests.fakes import engines
from tests.fakes.ledger_world import LedgerWorld
from tests.fakes.neighbours import NOW, Neighbours
from tests.fakes.tamper import tampering

Edit = Callable[[list[bytes]], list[bytes]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LedgerWorld, Neighbours]]:
    """One log with two changes, cosigned by two of three witnesses; nobody writes to it."""
    folder = tmp_path_factory.mktemp("export")
    with engines.using("sqlite"):
        world = LedgerWorld.make(folder / "home")
        world.record("one")
        neighbours = Neighbours.of(world.ledger, folder / "neighbours")
        neighbours.cosign(world.ledger, 0, 1, now=NOW - 60)
        world.record("two")
        neighbours.cosign(world.ledger, 0, 2, now=NOW)
        yield world, neighbours
        world.close()


@pytest.fixture(scope="module")
def whole(home: tuple[LedgerWorld, Neighbours], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Its export, with artifacts."""
    path = tmp_path_factory.mktemp("whole") / "log.ndjson"
    export_log(home[0].ledger, path, artifacts=True)
    return path.read_bytes()


@pytest.fixture
def judged(home: tuple[LedgerWorld, Neighbours], tmp_path: Path) -> Callable[[bytes], VerificationReport]:
    """Verify bytes as an export, under the log's key and the witnesses' policy."""
    world, neighbours = home

    def judge(data: bytes) -> VerificationReport:
        (tmp_path / "judged.ndjson").write_bytes(data)
        root = TrustRoot(world.ledger.log_key, world.ledger.origin)
        return verify_export(tmp_path / "judged.ndjson", public_key=root, witnesses=neighbours.policy, now=NOW)

    return judge


def test_a_genuine_export_verifies_and_says_what_it_cannot_show(
    home: tuple[LedgerWorld, Neighbours], whole: bytes, judged: Callable[[bytes], VerificationReport]
) -> None:
    report = judged(whole)
    assert report.ok, report.first_wrong
    size = home[0].ledger.size
    assert (report.size, report.trust, report.counts["events"]) == (size, "key given", size)
    assert report.witnessed is not None
    assert (report.witnessed.size, report.witnessed.by) == (size, ("w2.example", "w0.example"))
    assert [step.number for step in report.steps if step.verdict == "ok"] == [2, 3, 4, 5, 7, 12]
    assert any("restore the export" in what for what in report.not_checked)


def test_every_line_is_canonical_and_the_leaf_is_the_stored_bytes(
    home: tuple[LedgerWorld, Neighbours], whole: bytes
) -> None:
    lines = whole.splitlines()
    assert whole.endswith(b"\n") and all(canonical_bytes(json.loads(line)) == line for line in lines)
    events = list(ExportReader(io.BytesIO(whole)))
    assert [event.leaf for event in events] == [entry.leaf for entry in home[0].ledger.entries()]
    assert json.loads(lines[-1])["count"] == len(lines) - 1
    sealed = {digest: stored for event in events for digest, stored in event.artifacts.items()}
    assert all(home[0].ledger.stored_artifact(digest) == stored for digest, stored in sealed.items()) and sealed


def _swap(lines: list[bytes], a: int, b: int) -> list[bytes]:
    lines[a], lines[b] = lines[b], lines[a]
    return lines


def _renumbered(lines: list[bytes]) -> list[bytes]:
    """Indexes 0, 1, 2 again, and the closing line's count: what a careful thief would do."""
    events = [{**json.loads(line), "index": index} for index, line in enumerate(lines[:-1])]
    closing = json.loads(lines[-1]) | {"count": len(events)}
    return [canonical_bytes(value) for value in (*events, closing)]


def _without(lines: list[bytes], index: int) -> list[bytes]:
    return [line for place, line in enumerate(lines) if place != index]


def _leaf(lines: list[bytes], index: int, **fields: object) -> list[bytes]:
    value = json.loads(lines[index])
    lines[index] = canonical_bytes(value | {"leaf": value["leaf"] | fields})
    return lines


def _closing(lines: list[bytes], **fields: object) -> list[bytes]:
    return [*lines[:-1], canonical_bytes(json.loads(lines[-1]) | fields)]


def _no_artifact(lines: list[bytes], index: int) -> list[bytes]:
    value = json.loads(lines[index])
    value["artifacts"].popitem()
    lines[index] = canonical_bytes(value)
    return lines


def _other_artifact(lines: list[bytes], index: int) -> list[bytes]:
    value = json.loads(lines[index])
    name = next(iter(value["artifacts"]))
    value["artifacts"][name] = base64.b64encode(b"other").decode()
    lines[index] = canonical_bytes(value)
    return lines


def _older_note(lines: list[bytes]) -> list[bytes]:
    notes = {index: json.loads(line)["note"] for index, line in enumerate(lines[:-1]) if b'"note"' in line}
    oldest, newest = min(notes), max(notes)
    value = json.loads(lines[newest])
    lines[newest] = canonical_bytes(value | {"note": notes[oldest]})
    return lines


@pytest.mark.parametrize(
    ("edit", "step", "index", "named"),
    [
        (lambda lines: _leaf(lines, 2, payload="AAAA"), 3, 2, "event 2, leaf"),
        (lambda lines: _leaf(lines, 5, signatures=[]), 3, 5, "event 5, leaf"),
        (lambda lines: _leaf(lines, 5, payloadType="text/plain"), 3, 5, "event 5, leaf"),
        (lambda lines: _swap(lines, 4, 6), 3, 4, "it is event 6, and 4 was expected"),
        (lambda lines: _without(lines, 3), 3, 3, "it is event 4, and 3 was expected"),
        (lambda lines: [*lines[:4], lines[3], *lines[4:]], 3, 4, "it is event 3, and 4 was expected"),
        (lambda lines: _renumbered(_swap(lines, 4, 6)), 4, 4, "another root"),
        (lambda lines: _renumbered(_without(lines, 6)), 4, 6, "another root"),
        (lambda lines: _renumbered([*lines[:5], lines[4], *lines[5:]]), 4, 4, "another root"),
        (lambda lines: lines[:-1], 3, 8, "without its closing line"),
        (lambda lines: [*lines[:5], lines[-1]], 3, 5, "5 events stand before it, and the closing line says 8"),
        (lambda lines: _closing(lines[:5] + lines[-1:], count=5), 4, 4, "another root"),
        (lambda lines: [*lines, lines[-1]], 3, 8, "bytes follow the closing line"),
        (lambda lines: [*lines, b""], 3, 8, "bytes follow the closing line"),
        (lambda lines: _closing(lines, root="00" * 32), 4, 8, "another root"),
        (lambda lines: _closing(lines, count=7), 3, 8, "the closing line says 7"),
        (lambda lines: _closing(lines, count=True), 3, 8, "the closing line says True"),
        (lambda lines: _closing(lines, origin="example.org/other"), 5, 8, "It closes the log example.org/other"),
        (lambda lines: _closing(lines, checkpoint="x"), 5, 8, "not the signed head"),
        (lambda lines: _closing(lines, format="mass-gov:export:v2"), 3, 8, "of this form"),
        (lambda lines: _closing(lines, extra=1), 3, 8, "of this form"),
        (lambda lines: _closing(lines, artifacts=False), 7, None, "says that it has no artifacts"),
        (_older_note, 5, 7, "event 7, note"),
        (lambda lines: _no_artifact(lines, 4), 7, 4, "not those that its leaf names"),
        (lambda lines: _other_artifact(lines, 4), 7, 4, "not the bytes that its digest names"),
        (lambda lines: [lines[0].replace(b'"index":0', b'"index":0,"index":0'), *lines[1:]], 3, 0, "line 1"),
        (lambda lines: [lines[0].replace(b'"index":0', b'"index": 0'), *lines[1:]], 3, 0, "line 1"),
        (lambda lines: [b"\xff\xfe", *lines], 3, 0, "line 1"),
        (lambda lines: [b"[]", *lines], 3, 0, "no JSON object"),
        (lambda lines: [b'{"index":0}', *lines], 3, 0, "neither an event nor a closing line"),
        (lambda lines: [b"", *lines], 3, 0, "line 1"),
    ],
)
def test_a_file_that_was_tampered_with_is_refused_at_its_first_wrong_line(
    whole: bytes, judged: Callable[[bytes], VerificationReport], edit: Edit, step: int, index: int | None, named: str
) -> None:
    report = judged(b"\n".join(edit(whole.splitlines())) + b"\n")
    assert not report.ok and report.first_wrong is not None
    assert report.first_wrong.step == step and named in str(report.first_wrong)
    if index is not None:
        assert report.first_wrong.index == index


def test_a_renumbered_edit_is_named_at_the_first_head_that_it_breaks(
    whole: bytes, judged: Callable[[bytes], VerificationReport]
) -> None:
    report = judged(b"\n".join(_renumbered(_swap(whole.splitlines(), 4, 6))) + b"\n")
    broken = [fault for step in report.steps for fault in step.faults if step.number == 5]
    assert broken and broken[0].index is not None and broken[0].index >= 4


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b"\x00" * 100])
def test_what_is_no_export_is_refused(data: bytes, judged: Callable[[bytes], VerificationReport]) -> None:
    report = judged(data)
    assert not report.ok and report.first_wrong is not None
    assert (report.first_wrong.step, report.first_wrong.index) == (3, 0)


def test_a_file_cut_anywhere_is_refused(whole: bytes, judged: Callable[[bytes], VerificationReport]) -> None:
    for end in range(0, len(whole), max(1, len(whole) // 60)):
        assert not judged(whole[:end]).ok, end
    assert not judged(whole[:-1]).ok


def test_no_byte_can_change_unseen(whole: bytes, judged: Callable[[bytes], VerificationReport]) -> None:
    for position in range(0, len(whole), max(1, len(whole) // 150)):
        flipped = bytearray(whole)
        flipped[position] ^= 0x01
        assert not judged(bytes(flipped)).ok, (position, whole[position - 20 : position + 20])


def test_the_end_cut_off_at_an_earlier_head_is_seen_by_who_kept_the_later_one(
    home: tuple[LedgerWorld, Neighbours], whole: bytes, tmp_path: Path
) -> None:
    """Cut back to an older signed head and close it properly: a sound export of a shorter log."""
    world, neighbours = home
    lines = whole.splitlines()
    old = next(i + 1 for i, line in enumerate(lines[4:-1], start=4) if b'"note"' in line)
    head = world.ledger.head(old)
    note = json.loads(lines[old - 1])["note"]
    shorter = _closing([*lines[:old], lines[-1]], count=old, root=head.root, checkpoint=note)
    path = tmp_path / "shorter.ndjson"
    path.write_bytes(b"\n".join(shorter) + b"\n")
    trusted = {"public_key": world.ledger.log_key, "witnesses": neighbours.policy, "now": NOW}
    assert verify_export(path, **trusted).ok
    report = verify_export(path, checkpoints=world.ledger.checkpoints, **trusted)
    assert report.first_wrong is not None and report.first_wrong.index == old
    assert "Events were taken away" in str(report.first_wrong)
    late = verify_export(path, max_age=30, **trusted)
    assert late.first_wrong is not None and (late.first_wrong.step, late.first_wrong.index) == (12, old)


def test_the_attackers_own_log_is_refused_under_the_pinned_key(
    home: tuple[LedgerWorld, Neighbours], whole: bytes, tmp_path: Path
) -> None:
    (tmp_path / "log.ndjson").write_bytes(whole)
    report = verify_export(tmp_path / "log.ndjson", public_key=Ed25519Signer.generate().public_key)
    assert report.first_wrong is not None and (report.first_wrong.step, report.first_wrong.index) == (2, 0)
    pinned = TrustRoot(home[0].ledger.log_key, "example.org/other")
    assert not verify_export(tmp_path / "log.ndjson", public_key=pinned).ok
    unpinned = verify_export(tmp_path / "log.ndjson")
    assert (unpinned.ok, unpinned.trust) == (True, "consistency only")
    assert any("who wrote it" in what for what in unpinned.not_checked)


def test_without_artifacts_the_file_says_so(home: tuple[LedgerWorld, Neighbours], tmp_path: Path) -> None:
    world, _ = home
    export_log(world.ledger, tmp_path / "bare.ndjson")
    report = verify_export(tmp_path / "bare.ndjson", public_key=world.ledger.log_key)
    assert report.ok
    assert any("came without artifacts" in what for what in report.not_checked)
    claimed = (tmp_path / "bare.ndjson").read_bytes().replace(b'{"artifacts":false', b'{"artifacts":true')
    (tmp_path / "claimed.ndjson").write_bytes(claimed)
    report = verify_export(tmp_path / "claimed.ndjson", public_key=world.ledger.log_key)
    assert report.first_wrong is not None and report.first_wrong.step == 7


def test_a_long_line_is_refused_on_both_ends(monkeypatch: pytest.MonkeyPatch, whole: bytes) -> None:
    monkeypatch.setattr(export_lines, "MAX_LINE_BYTES", 4096)
    with pytest.raises(IntegrityError, match="longer than 4,096 bytes"):
        list(ExportReader(io.BytesIO(whole)))
    with pytest.raises(InputError, match="without --artifacts"):
        encode_event(ExportedEvent(0, b"{}", None, {"ab" * 32: bytes(5000)}))


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--export"):
        verify_export(tmp_path / "none")


@pytest.mark.both_engines
def test_a_log_that_is_not_what_its_head_says_is_not_exported(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home")
    world.record("one")
    (tmp_path / "kept.ndjson").write_bytes(b"the older export")
    with tampering(world.ledger.address) as thief:
        leaf = world.ledger.entry(4).leaf
        thief.execute('UPDATE log_events SET leaf = ? WHERE "index" = ?', (leaf.replace(b"e", b"f", 1), 4))
    with pytest.raises(IntegrityError, match="not those that the head"):
        export_log(world.ledger, tmp_path / "kept.ndjson")
    assert (tmp_path / "kept.ndjson").read_bytes() == b"the older export"
    assert not list(tmp_path.glob(".*tmp"))
    world.close()


@pytest.mark.both_engines
def test_an_export_is_its_owners_alone_and_the_same_every_time(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home")
    world.record("one")
    export_log(world.ledger, tmp_path / "a")
    export_log(world.ledger, tmp_path / "b")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    world.close()


@pytest.mark.skipif(bool(engines.missing()), reason="PostgreSQL is not installed")
def test_either_engine_gives_the_same_bytes_for_the_same_events(
    home: tuple[LedgerWorld, Neighbours], whole: bytes, tmp_path: Path
) -> None:
    world, _ = home
    with engines.using("postgresql"):
        address = engines.address_of(tmp_path / "other")
        _copied(world.ledger, address)
        other = Ledger.open(address, keys=world.keys, checkpoints=world.ledger.checkpoints)
        assert other.address.path is None
        export_log(other, tmp_path / "other.ndjson", artifacts=True)
        other.close()
    assert (tmp_path / "other.ndjson").read_bytes() == whole


def _copied(ledger: Ledger, to: object) -> None:
    """Write the same events, heads and artifacts into another database."""
    database = open_database(to, create=True)  # type: ignore[arg-type]  # an Address
    head = LogHead(Frontier(), EMPTY_ROOT)
    with database.write() as connection:
        if revision_of(connection) is None:
            upgrade(connection)
        for entry in ledger.entries():
            for ref in entry.predicate.artifacts:
                insert_artifact(connection, ref.digest, ledger.stored_artifact(ref.digest))
            insert_event(connection, entry, head)
            projector.apply(connection, entry)
            if entry.index + 1 in ledger.head_sizes(1000):
                insert_checkpoint(connection, head.size, ledger.head(head.size).note)
    database.close()
