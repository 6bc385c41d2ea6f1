"""kill -9 at every write step of an adaptation: the log verifies afterwards, and no answer is out without its event."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mass_gov.config import Settings, load_settings
from mass_gov.flows.adapt import adapt
from mass_gov.flows.audit import verify
from mass_gov.flows.exchange import Request
from mass_gov.ledger import Ledger
from mass_gov.ledger.writing import STEPS
from mass_gov.records.settings import AdaptationSpec, AnswerSpec, SamplingSpec, UpdateSpec
from mass_gov.stages.synthesis import ForcedSample
from mass_gov.wiring import address, initialise, open_keys, open_workbench
from tests.fakes.policies import lean_policy

SPEC = AdaptationSpec(
    sampling=SamplingSpec(max_new_tokens=8), update=UpdateSpec(step_size=0.02), answer=AnswerSpec(max_new_tokens=8)
)

pytestmark = [pytest.mark.both_engines, pytest.mark.usefixtures("engine_settings")]


def solve_and_die(settings: Settings, step: str, answers: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Adapt in a child process that kills itself at `step`; return how the child ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        armed = [False]

        def trip(name: str) -> None:
            if armed[0] and name == step:
                os.kill(os.getpid(), signal.SIGKILL)

        opened = Ledger.open
        monkeypatch.setattr(Ledger, "open", lambda *a, **k: opened(*a, **{**k, "trip": trip}))
        bench = open_workbench(settings, SPEC)
        armed[0] = True
        marker = bench.learner.template.marker
        answered = adapt(Request("what is 7?", "t", forced=[ForcedSample("2+1", f"so {marker} 3")]), bench)
        answers.write_text(answered.change.change_id)
    finally:
        os._exit(0)


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_write_step_the_log_verifies_and_no_answer_lacks_its_event(
    step: str, tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(home=tmp_path / "home", model=tiny_model("llama"))
    initialise(settings, lean_policy(tmp_path))[0].close()
    open_workbench(settings, SPEC).ledger.close()
    answers = tmp_path / "answer"
    ended = solve_and_die(settings, step, answers, monkeypatch)
    assert ended == -signal.SIGKILL, f"step {step} never came: the child ended with {ended}"
    assert not answers.exists(), "an answer left before the ledger was done"

    bench = open_workbench(settings, SPEC)
    try:
        marker = bench.learner.template.marker
        answered = adapt(Request("what is 7?", "t", forced=[ForcedSample("2+1", f"so {marker} 3")]), bench)
        durable = STEPS.index(step) >= STEPS.index("committed")
        assert answered.repeated == durable, "a change is durable from the commit on, and not before"
    finally:
        bench.ledger.close()
    report = verify(
        address(settings), keys=open_keys(settings), public_key=None, checkpoints=settings.checkpoint_folder
    )
    assert report.ok, report.first_wrong
