"""What a bench is measured on is a ledger: every row that the seeder wrote in bulk is the one that the log gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import seeded
from bench.seed_ledger import seed_ledger
from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.audit import verify
from tests.fakes.engines import engine


@pytest.mark.both_engines
def test_rows_written_in_bulk_are_those_that_the_log_gives(tmp_path: Path) -> None:
    folder = tmp_path / "seeded"
    seed_ledger(folder, 900, seed=1, engine=engine(), crowd=10)
    with seeded.address_of(folder) as address:
        found = verify(address, keys=KeyStore.open(folder / "keys"), checkpoints=folder / "checkpoints")
    steps = {step.title: step for step in found.steps}
    assert found.size >= 900 and steps["projections"].checked > 900
    assert {step.title for step in found.steps if step.verdict == "wrong"} == {"artifacts"}, "none were made"
    assert (folder / "token").stat().st_mode & 0o077 == 0
    assert (folder / "tokens.json").stat().st_mode & 0o077 == 0
