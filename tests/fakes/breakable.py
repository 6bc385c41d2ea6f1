"""A deployment whose regression suite can be broken at will: a tiny base that answers 6, and a suite that wants 6.

A gentle step leaves every answer, a rough one changes them all. Weights, adapters, ledger and policy are real; the
suite is made here and takes the place of the ones that ship.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from mass_gov import wiring
from mass_gov.config import Settings, load_settings
from mass_gov.evidence.canonical import canonical_bytes
from mass_gov.flows.adapt import adapt
from mass_gov.flows.approve import approve
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.workbench import Workbench
from mass_gov.ledger import ChangeView
from mass_gov.records.change import Scope
from mass_gov.records.events import Actor
from mass_gov.records.settings import AdaptationSpec, AnswerSpec, SamplingSpec, UpdateSpec
from mass_gov.stages.synthesis import ForcedSample
from mass_gov.wiring import initialise, open_workbench
from tests.fakes.fluent_base import make_fluent
from tests.fakes.policies import lean_source

GENTLE, ROUGH = 0.001, 0.5
"""Step sizes."""
ALICE, BOB = Actor(principal="alice", role="operator"), Actor(principal="bob", role="operator")
CASES = 60
SUITE = b"".join(
    canonical_bytes(
        {
            "case_id": f"own-{i:02}",
            "domain": "nested",
            "split": "hard",
            "question": f"What is {i} + 6 - {i}?",
            "answer": "6",
            "critical": False,
        }
    )
    + b"\n"
    for i in range(CASES)
)


def policy_source() -> bytes:
    """The lean solo policy, which lets a rough step go as far as its regression gates."""
    document = yaml.safe_load(lean_source())
    for part, limit in (("step_norm", 10.0), ("cumulative_norm", 10.0)):
        document["envelope"][part] = limit
        document["gates"][f"update.{part}"]["limit"] = limit
    return yaml.safe_dump(document).encode()


def spec(step_size: float) -> AdaptationSpec:
    """Settings with one step of this size."""
    return AdaptationSpec(
        sampling=SamplingSpec(max_new_tokens=12),
        update=UpdateSpec(step_size=step_size),
        answer=AnswerSpec(max_new_tokens=8),
    )


class Deployment:
    """One home with its open bench."""

    def __init__(self, folder: Path, model: Path, policy: bytes) -> None:
        self.settings: Settings = load_settings(home=folder / "home", model=model, principal="alice")
        path = folder / "policy.yaml"
        path.write_bytes(policy)
        initialise(self.settings, str(path))[0].close()
        self.bench: Workbench = open_workbench(self.settings, spec(GENTLE))

    def ask(self, name: str, step_size: float = GENTLE, scope: Scope = "deployment") -> Answered:
        """Adapt to one task with supplied samples."""
        from dataclasses import replace

        marker = self.bench.learner.template.marker
        samples = tuple(ForcedSample(f"{name}+{i}", f"3{marker}{7 + i % 2}") for i in range(2))
        request = Request(f"what is {name}?", name, scope=scope, seed=7, forced=samples)
        return adapt(request, replace(self.bench, spec=spec(step_size)))

    def active(self, name: str, step_size: float = GENTLE) -> ChangeView:
        """A deployment-scope change that was approved and is the pointer's state."""
        change = self.ask(name, step_size).change
        approve(self.bench.ledger, change.change_id, ALICE, "looked at it")
        return self.bench.ledger.change(change.change_id)


@contextmanager
def breakable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A deployment under the lax policy."""
    monkeypatch.setattr(wiring, "suite_bytes", lambda name: SUITE)
    model = folder / "model"
    model.mkdir()
    made = Deployment(folder, make_fluent(model), policy_source())
    try:
        yield made
    finally:
        made.bench.ledger.close()
