"""A server that is killed under load has lost nothing that it acknowledged; `bench/serving.py` does it thirty times."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from mass_gov.config import load_settings
from mass_gov.flows.audit import verify
from mass_gov.wiring import read_ledger
from tests.fakes.http_load import Load, missing
from tests.fakes.http_server import furnish, serving, wait_for
from tests.fakes.policies import lean_policy


@pytest.mark.slow
def test_no_answer_without_its_event_and_no_acknowledged_change_lost(tmp_path: Path) -> None:
    home = tmp_path / "home"
    tokens = furnish(home, lean_policy(tmp_path))
    given = []
    for enough in (2, 5):
        with serving(home, tokens) as server:
            server.ready()
            load = Load(server)
            with load.running():
                wait_for(lambda load=load, enough=enough: len(load.given) >= enough, 120, server.tail)
                assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        given += load.given
        assert missing(home, given) == []
    with read_ledger(load_settings(home=home)) as ledger:
        assert verify(ledger).first_wrong is None and len(given) >= 7
