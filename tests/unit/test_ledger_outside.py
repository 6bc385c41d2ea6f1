"""Checkpoints outside the database: never half written, never forgotten, never in the way of what is durable."""

from __future__ import annotations

from pathlib import Path

import pytest

from mass_gov.errors import LedgerUnavailableError
from mass_gov.ledger.outside import KEPT, OutsideCheckpoints
from tests.fakes.ledger_world import LedgerWorld

pytestmark = pytest.mark.both_engines


def quiet(step: str) -> None:
    """No step is watched."""


def test_an_append_is_not_denied_when_the_folder_fails_after_it_and_the_next_one_is(tmp_path: Path) -> None:
    home, gone = tmp_path / "home", tmp_path / "gone"
    LedgerWorld.make(home).close()
    folder = home / "checkpoints"
    failing: list[Path] = []

    def trip(step: str) -> None:
        if step == "committed" and failing:
            failing.pop().rename(gone)
            folder.write_text("a file where the folder was")

    world = LedgerWorld.make(home, trip=trip)
    failing.append(folder)
    change = world.record("durable")  # its checkpoint cannot be kept, and it is recorded all the same
    before = world.ledger.size
    with pytest.raises(LedgerUnavailableError, match="checkpoint folder"):
        world.record("next")
    assert world.ledger.size == before
    folder.unlink()
    gone.rename(folder)
    assert world.record("next").index > change.index
    world.close()
    assert OutsideCheckpoints(folder, quiet).sizes()[-1] == world_size(home)


def test_nothing_is_signed_while_the_folder_cannot_be_read(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home")
    folder, before = world.ledger.checkpoints, world.ledger.size
    folder.rename(tmp_path / "gone")
    with pytest.raises(LedgerUnavailableError, match="checkpoint folder"):
        world.record("without it")
    assert world.ledger.size == before
    (tmp_path / "gone").rename(folder)
    world.record("with it")
    world.close()


def world_size(home: Path) -> int:
    """The number of events of a home."""
    world = LedgerWorld.make(home)
    size = world.ledger.size
    world.close()
    return size


def test_writing_is_at_most_once_a_second_and_at_the_end(tmp_path: Path) -> None:
    outside = OutsideCheckpoints(tmp_path, quiet)
    for size in range(1, 50):
        outside.offer(size, b"note %d" % size)
    assert outside.sizes()[0] == 1
    assert len(outside.sizes()) < 10
    outside.flush()
    assert outside.note(outside.sizes()[-1]) == b"note 49"


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    outside = OutsideCheckpoints(tmp_path, quiet)
    for size in range(1, KEPT + 10):
        outside.offer(size, b"note")
        outside.flush()
    assert outside.sizes() == list(range(10, KEPT + 10))


def test_what_is_half_written_is_not_read(tmp_path: Path) -> None:
    (tmp_path / ".7-abcd.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_bytes(b"mine")
    assert OutsideCheckpoints(tmp_path, quiet).sizes() == []
    assert OutsideCheckpoints(tmp_path / "none", quiet).sizes() == []


def test_a_checkpoint_that_another_process_prunes_after_the_look_is_still_known(tmp_path: Path) -> None:
    outside = OutsideCheckpoints(tmp_path, quiet)
    outside.offer(7, b"note 7")
    reader = OutsideCheckpoints(tmp_path, quiet)
    assert reader.sizes() == [7]
    next(tmp_path.glob("*.checkpoint")).unlink()
    assert reader.note(7) == b"note 7"
    assert reader.sizes() == []
    with pytest.raises(LedgerUnavailableError, match="no checkpoint of size 7"):
        reader.note(7)


def test_a_name_without_a_file_is_an_outage_and_no_endless_look(tmp_path: Path) -> None:
    (tmp_path / f"{7:020d}.checkpoint").symlink_to(tmp_path / "nowhere")
    with pytest.raises(LedgerUnavailableError, match="vanish while they are read"):
        OutsideCheckpoints(tmp_path, quiet).sizes()
