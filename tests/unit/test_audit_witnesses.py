"""Attacks that only somebody outside can see: forks, rollbacks and stale heads, by the heads that others keep."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mass_gov.errors import InputError, IntegrityError, LedgerUnavailableError
from mass_gov.evidence.checkpoint import Checkpoint, open_note, sign_checkpoint
from mass_gov.evidence.cosignature import cosign, parse_lines, with_lines
from mass_gov.evidence.signing import Ed25519Signer
from mass_gov.evidence.witness_policy import parse_witness_policy
from mass_gov.flows.audit import VerificationReport, verify
from mass_gov.flows.heads import cosigned_head, keep_cosignatures, prove_growth
from mass_gov.flows.log_export import export_log
from mass_gov.flows.witness import Witness
from mass_gov.ledger import Ledger
from tests.fakes.engines import copy_home
from tests.fakes.ledger_world import LedgerWorld
from tests.fakes.neighbours import NOW, Neighbours
from tests.fakes.tamper import tampering

pytestmark = pytest.mark.both_engines

HOUR = 3600


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path / "home")
    made.record("one")
    yield made
    made.close()


@pytest.fixture
def neighbours(world: LedgerWorld, tmp_path: Path) -> Neighbours:
    return Neighbours.of(world.ledger, tmp_path / "neighbours")


def judged(world: LedgerWorld, neighbours: Neighbours, **options: Any) -> VerificationReport:
    """Verify a world as an auditor who knows the witnesses."""
    return verify(world.ledger, **({"witnesses": neighbours.policy, "now": NOW} | options))


def first(report: VerificationReport) -> tuple[int, int | None]:
    """Step and index of the first wrong thing."""
    assert report.first_wrong is not None and not report.ok
    return report.first_wrong.step, report.first_wrong.index


def fork(world: LedgerWorld, to: Path) -> LedgerWorld:
    """Take a world's home, log key and all, and go on with other events than it will have."""
    world.ledger.close()
    copy_home(world.folder, to)
    world.ledger = LedgerWorld.make(world.folder).ledger
    return LedgerWorld.make(to)


def auditors_folder(ledger: Ledger, to: Path) -> Path:
    """What an auditor has kept of a log: its cosigned heads, and nothing else."""
    to.mkdir()
    for path in ledger.checkpoints.glob("*.cosigned"):
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_a_head_that_a_quorum_cosigned_is_reported_with_who_and_when(
    world: LedgerWorld, neighbours: Neighbours
) -> None:
    neighbours.cosign(world.ledger, 0, now=NOW - 30)
    neighbours.cosign(world.ledger, 1, now=NOW - 20)
    report = judged(world, neighbours, max_age=HOUR)
    assert report.ok and report.witnessed is not None
    size = world.ledger.size
    assert (report.witnessed.size, report.witnessed.by) == (size, ("w1.example", "w0.example"))
    assert (report.witnessed.since, report.witnessed.age) == (NOW - 30, 30)
    assert not [what for what in report.not_checked if "witness" in what]


def test_without_a_policy_the_missing_witness_is_named_and_nobodys_word_counts(
    world: LedgerWorld, neighbours: Neighbours
) -> None:
    neighbours.cosign(world.ledger, 0, 1)
    report = verify(world.ledger)
    assert report.ok and report.witnessed is None
    (what,) = [what for what in report.not_checked if "step 12 (witnesses)" in what]
    assert "no witness policy was given" in what and "w0.example, w1.example" in what


@pytest.mark.parametrize("who", [(), (1,), (1, 1)])
def test_a_head_without_a_quorum_is_refused(world: LedgerWorld, neighbours: Neighbours, who: tuple[int, ...]) -> None:
    for one in who:
        neighbours.cosign(world.ledger, one)
    report = judged(world, neighbours)
    assert first(report) == (12, 0) and report.witnessed is None
    assert ("cosigned by w1.example" if who else "cosigned by nobody") in str(report.first_wrong)


def test_events_above_the_last_witnessed_head_are_said_to_be_replaceable(
    world: LedgerWorld, neighbours: Neighbours
) -> None:
    neighbours.cosign(world.ledger, 0, 2)
    size = world.ledger.size
    world.record("two")
    report = judged(world, neighbours)
    assert report.ok and report.witnessed is not None and report.witnessed.size == size
    above = f"vents {size} to {world.ledger.size - 1} stand above the newest head that a quorum has cosigned"
    assert any(above in what for what in report.not_checked) and any(above in text for text in report.warnings)


def test_a_head_older_than_the_verifiers_limit_is_refused(world: LedgerWorld, neighbours: Neighbours) -> None:
    neighbours.cosign(world.ledger, 0, now=NOW - 25 * HOUR)
    neighbours.cosign(world.ledger, 1, now=NOW)  # one fresh clock is no quorum
    report = judged(world, neighbours, max_age=24 * HOUR)
    assert first(report) == (12, world.ledger.size)
    assert "25 h 0 min ago, and the limit is 24 h 0 min" in str(report.first_wrong)
    assert judged(world, neighbours, max_age=25 * HOUR).ok


def test_a_cosignature_from_the_future_makes_no_quorum(world: LedgerWorld, neighbours: Neighbours) -> None:
    neighbours.cosign(world.ledger, 0)
    neighbours.cosign(world.ledger, 1, now=NOW + HOUR)
    report = judged(world, neighbours)
    assert first(report) == (12, 0)
    assert any("w1.example cosigned" in text and "still to come" in text for text in report.warnings)
    assert judged(world, neighbours, now=NOW + HOUR).ok


def test_a_fork_with_the_stolen_log_key_is_caught_by_a_cosignature(
    world: LedgerWorld, neighbours: Neighbours, tmp_path: Path
) -> None:
    neighbours.cosign(world.ledger, 0, 1)
    size = world.ledger.size
    thief = fork(world, tmp_path / "stolen")
    world.record("genuine")
    neighbours.cosign(world.ledger, 0, 1)
    kept = auditors_folder(world.ledger, tmp_path / "kept")
    for task in ("forged", "forged too"):
        thief.record(task)
    assert verify(thief.ledger).ok  # the thief's log is sound in itself, and signed
    report = judged(thief, neighbours, checkpoints=kept)
    assert first(report) == (12, size)
    assert "w0.example and w1.example cosigned it: it was forked" in str(report.first_wrong)
    thief.close()


def test_a_kept_copy_names_the_first_event_of_a_fork(
    world: LedgerWorld, neighbours: Neighbours, tmp_path: Path
) -> None:
    world.record("two")
    size = world.ledger.size
    thief = fork(world, tmp_path / "stolen")
    world.record("genuine")
    export_log(world.ledger, tmp_path / "copy.ndjson")
    thief.record("forged")
    report = verify(thief.ledger, checkpoints=tmp_path / "nothing", against=tmp_path / "copy.ndjson")
    assert first(report) == (6, size)
    assert f"log_events row {size}, against the copy copy.ndjson" in str(report.first_wrong)
    assert verify(world.ledger, against=tmp_path / "copy.ndjson").ok
    world.record("later")
    assert verify(world.ledger, against=tmp_path / "copy.ndjson").ok
    thief.close()


def test_an_altered_copy_accuses_nobody(world: LedgerWorld, tmp_path: Path) -> None:
    export_log(world.ledger, tmp_path / "copy.ndjson")
    lines = (tmp_path / "copy.ndjson").read_bytes().split(b"\n")
    forged = lines[2].replace(b'"index":2', b'"index":3')
    (tmp_path / "copy.ndjson").write_bytes(b"\n".join([*lines[:3], forged, *lines[4:]]))
    report = verify(world.ledger, against=tmp_path / "copy.ndjson")
    assert report.first_wrong is not None
    assert (report.first_wrong.where, report.first_wrong.index) == ("copy copy.ndjson", None)
    with pytest.raises(InputError):
        verify(world.ledger, against=tmp_path / "none.ndjson")


def test_a_fork_that_no_witness_saw_has_no_quorum_and_no_witness_cosigns_it(
    world: LedgerWorld, neighbours: Neighbours, tmp_path: Path
) -> None:
    thief = fork(world, tmp_path / "stolen")
    world.record("genuine")
    neighbours.cosign(world.ledger, 0, 1)
    thief.record("forged")
    assert first(judged(thief, neighbours)) == (12, 0)
    seen = world.ledger.size
    with pytest.raises(IntegrityError, match="forked"):
        neighbours.witnesses[0].add_checkpoint(prove_growth(thief.ledger, seen), NOW)
    with pytest.raises(IntegrityError, match="does not verify on none"):
        keep_cosignatures(thief.ledger, cosigned_head(world.ledger).note, neighbours.policy)
    thief.close()


def test_the_tail_taken_off_is_caught_by_a_cosigned_head_and_at_start_up(
    world: LedgerWorld, neighbours: Neighbours, tmp_path: Path
) -> None:
    neighbours.cosign(world.ledger, 0, 1)
    old = world.ledger.size
    shorter = fork(world, tmp_path / "shorter")
    world.record("two")
    neighbours.cosign(world.ledger, 0, 1)
    kept = auditors_folder(world.ledger, tmp_path / "kept")
    report = judged(shorter, neighbours, checkpoints=kept)
    assert first(report) == (12, old) and "Events were taken away" in str(report.first_wrong)
    shorter.close()
    for path in kept.iterdir():
        (shorter.folder / "checkpoints" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(IntegrityError, match="older than the checkpoint"):
        LedgerWorld.make(shorter.folder)


def test_events_taken_off_below_a_signed_head_in_the_database_are_seen_at_start_up(world: LedgerWorld) -> None:
    size = world.ledger.size
    world.record("two")
    world.ledger.outside.flush()
    with tampering(world.ledger.address) as thief:
        thief.execute('DELETE FROM log_events WHERE "index" >= ?', (size,))
    for path in world.ledger.checkpoints.iterdir():
        path.unlink()
    with pytest.raises(IntegrityError, match=f"has {size} events and a signed head of"):
        LedgerWorld.make(world.folder)


def test_a_restored_older_log_with_its_own_old_head_is_caught_by_the_age_of_its_cosignature(
    world: LedgerWorld, neighbours: Neighbours, tmp_path: Path
) -> None:
    """Database and folder both come from an old back-up: everything fits, and only the witnesses' clocks do not."""
    neighbours.cosign(world.ledger, 0, 1, now=NOW - 48 * HOUR)
    old = world.ledger.size
    replayed = fork(world, tmp_path / "replayed")
    world.record("two")
    neighbours.cosign(world.ledger, 0, 1)
    assert judged(replayed, neighbours).ok
    assert first(judged(replayed, neighbours, max_age=24 * HOUR)) == (12, old)
    replayed.close()


def test_an_old_genuine_head_under_a_newer_name_is_named(world: LedgerWorld, neighbours: Neighbours) -> None:
    world.ledger.outside.flush()
    old = world.ledger.head(world.ledger.head_sizes(9)[-1])
    (path,) = [p for p in world.ledger.checkpoints.iterdir() if int(p.stem) == world.ledger.size]
    path.write_bytes(old.note)
    report = verify(world.ledger)
    assert first(report)[0] == 6 and "an older one was put in its place" in str(report.first_wrong)
    with pytest.raises(IntegrityError):
        LedgerWorld.make(world.folder)


def test_a_cosigned_head_of_another_log_stops_start_up(world: LedgerWorld, neighbours: Neighbours) -> None:
    neighbours.cosign(world.ledger, 0, 1)
    (path,) = world.ledger.checkpoints.glob("*.cosigned")
    text = Checkpoint(world.ledger.origin, world.ledger.size, bytes(32))
    path.write_bytes(sign_checkpoint(text, world.keys.log_signer))
    with pytest.raises(IntegrityError, match="is another than the one whose head"):
        LedgerWorld.make(world.folder)
    assert first(judged(world, neighbours))[0] == 6


def test_a_bad_cosignature_by_a_known_witness_is_named(world: LedgerWorld, neighbours: Neighbours) -> None:
    neighbours.cosign(world.ledger, 0, 1)
    (path,) = world.ledger.checkpoints.glob("*.cosigned")
    note = path.read_bytes()
    other = cosign("elsewhere\n1\nAAAA\n", "w2.example", neighbours.witnesses[2]._signer, NOW)  # of another head
    path.write_bytes(with_lines(note, parse_lines(other.encode())))
    report = judged(world, neighbours)
    assert first(report)[0] == 12 and "The cosignature of w2.example does not verify" in str(report.first_wrong)
    assert verify(world.ledger).ok  # who does not know this witness cannot say


def test_a_strangers_cosignature_is_ignored(world: LedgerWorld, neighbours: Neighbours) -> None:
    neighbours.cosign(world.ledger, 0)
    (path,) = world.ledger.checkpoints.glob("*.cosigned")
    text = open_note(path.read_bytes())[0]
    strangers = [cosign(text, f"w{i}.example", Ed25519Signer.generate(), NOW) for i in (1, 2)]
    path.write_bytes(with_lines(path.read_bytes(), parse_lines("".join(strangers).encode())))
    assert first(judged(world, neighbours)) == (12, 0)
    neighbours.cosign(world.ledger, 2)
    assert judged(world, neighbours).ok


def test_a_policy_that_names_another_log_is_no_policy_for_this_one(
    world: LedgerWorld, neighbours: Neighbours, tmp_path: Path
) -> None:
    neighbours.cosign(world.ledger, 0, 1)
    other = LedgerWorld.make(tmp_path / "other")
    assert judged(world, neighbours, witnesses=neighbours.policy_for(world.ledger)).ok
    report = judged(world, neighbours, witnesses=neighbours.policy_for(other.ledger))
    assert first(report) == (12, 0) and "names other logs" in str(report.first_wrong)
    other.close()


def test_a_verifier_who_asks_for_nobody_needs_nobody(world: LedgerWorld) -> None:
    report = verify(world.ledger, witnesses=parse_witness_policy(b"quorum none\n"), now=NOW)
    assert report.ok and report.witnessed is None


def test_only_verified_cosignatures_of_known_witnesses_are_kept(
    world: LedgerWorld, neighbours: Neighbours, tmp_path: Path
) -> None:
    ledger = world.ledger
    stranger = Witness.create(tmp_path / "stranger", "stranger.example")
    stranger.follow(ledger.origin, ledger.log_key)
    line = stranger.add_checkpoint(prove_growth(ledger, 0), NOW)
    with pytest.raises(InputError, match=r"stranger\.example is no witness of your policy"):
        keep_cosignatures(ledger, line.encode(), neighbours.policy)
    genuine = neighbours.witnesses[0].add_checkpoint(neighbours.request(0, ledger), NOW).encode()
    altered = with_lines(cosigned_head(ledger).note, parse_lines(genuine)).replace(ledger.origin.encode(), b"x" * 9)
    for bad in (genuine.replace(b"w0.example", b"w1.example"), altered):
        with pytest.raises((InputError, IntegrityError)):
            keep_cosignatures(ledger, bad, neighbours.policy)
    assert not list(ledger.checkpoints.glob("*.cosigned"))


def test_cosignatures_gather_on_their_head_and_later_ones_find_theirs(
    world: LedgerWorld, neighbours: Neighbours
) -> None:
    ledger, size = world.ledger, world.ledger.size
    neighbours.cosign(ledger, 0)
    request = neighbours.request(1, ledger)
    world.record("two")  # the log goes on before the second witness has answered
    line = neighbours.witnesses[1].add_checkpoint(request, NOW)
    assert keep_cosignatures(ledger, line.encode(), neighbours.policy).head.size == size
    names = [signature.name for signature in open_note(cosigned_head(ledger, size).note)[1]]
    assert names == [ledger.origin, "w0.example", "w1.example"]
    with pytest.raises(IntegrityError, match="the head of size"):
        keep_cosignatures(ledger, line.encode(), neighbours.policy, size=ledger.size)
    assert judged(world, neighbours).witnessed == judged(world, neighbours).witnessed is not None


def test_cosigned_heads_outlive_the_pruning_of_plain_ones(world: LedgerWorld, neighbours: Neighbours) -> None:
    neighbours.cosign(world.ledger, 0, 1)
    note = world.ledger.outside.cosigned(world.ledger.size)
    for size in range(1000, 1100):
        world.ledger.outside._pending = (size, b"note")
        world.ledger.outside.flush()
    assert world.ledger.outside.cosigned(world.ledger.size) == note
    assert len(list(world.ledger.checkpoints.glob("*.checkpoint"))) == 64


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_is_an_outage(world: LedgerWorld, neighbours: Neighbours) -> None:
    line = neighbours.witnesses[0].add_checkpoint(neighbours.request(0, world.ledger), NOW)
    world.ledger.checkpoints.chmod(0o500)
    try:
        with pytest.raises(LedgerUnavailableError):
            keep_cosignatures(world.ledger, line.encode(), neighbours.policy)
    finally:
        world.ledger.checkpoints.chmod(0o700)
