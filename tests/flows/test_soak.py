"""The soak of `bench/soak.py`, shorter: processes append, half of them are killed, and the log is whole."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.contract.checkout import ROOT

pytestmark = pytest.mark.both_engines


@pytest.mark.slow
def test_writers_killed_at_random_leave_every_acknowledged_event_once_in_a_gapless_log(engine: str) -> None:
    command = [sys.executable, "-W", "ignore", "bench/soak.py", "--seconds", "5", "--engines", engine, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (left,) = json.loads(done.stdout)
    assert done.returncode == 0, left
    assert left["verified"] == "holds"
    assert (left["lost"], left["twice"], left["failures"], left["gapless"]) == (0, 0, 0, True)
    assert left["kills"] > 0
    assert left["acknowledged"] > 0
