"""The bytes that are hashed are the bytes that are loaded: one buffer from the ledger to the learner, on every path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mass_gov.config import load_settings
from mass_gov.evidence.delta_compression import CODEC_AGAINST
from mass_gov.evidence.model_signing import delta_digest
from mass_gov.flows import workbench
from mass_gov.flows.adapt import adapt
from mass_gov.flows.approve import approve
from mass_gov.flows.audit import verify
from mass_gov.flows.exchange import Request
from mass_gov.flows.replay import replay
from mass_gov.flows.respond import respond
from mass_gov.flows.workbench import Workbench, current_origin
from mass_gov.ledger import ChangeView
from mass_gov.mass.learner import Learner
from mass_gov.records.events import Actor
from mass_gov.records.settings import AdaptationSpec, AnswerSpec, SamplingSpec, UpdateSpec
from mass_gov.stages.synthesis import ForcedSample
from mass_gov.wiring import initialise, open_workbench
from tests.fakes.policies import lean_policy

SPEC = AdaptationSpec(
    sampling=SamplingSpec(count=2, max_new_tokens=12),
    update=UpdateSpec(steps=1, step_size=0.02),
    answer=AnswerSpec(max_new_tokens=8),
)
BOB = Actor(principal="bob", role="operator")
SUBJECTS = ("s-" + "1" * 32, "s-" + "2" * 32)


@pytest.fixture
def bench(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Iterator[Workbench]:
    chosen = load_settings(model=tiny_model("llama"))
    initialise(chosen, lean_policy(tmp_path))[0].close()
    made = open_workbench(chosen, SPEC)
    yield made
    made.ledger.close()


def stand_on(bench: Workbench, name: str, subject: str) -> ChangeView:
    """A change of a subject that the pointer then stands on."""
    samples = tuple(
        ForcedSample(q, f"so {bench.learner.template.marker} {a}")
        for q, a in (("1+1", "2"), ("2+7", "9"), ("20-5", "15"))
    )
    request = Request(question=f"max 4 {name}", task_id=name, scope="deployment", forced=samples, subject=subject)
    change = adapt(request, bench).change
    approve(bench.ledger, change.change_id, BOB, "looked at")
    return bench.ledger.change(change.change_id)


@pytest.fixture
def hashed_and_loaded(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[Any]]:
    """The very objects whose digest was compared with a leaf, and those that the learner read weights from."""
    hashed: list[Any] = []
    loaded: list[Any] = []
    read = Learner.read_adapter

    def digest(files: Mapping[str, bytes]) -> str:
        hashed.append(dict(files))
        return delta_digest(files)

    def reading(self: Learner, files: Mapping[str, bytes]) -> Any:
        loaded.append(dict(files))
        return read(self, files)

    monkeypatch.setattr(workbench, "delta_digest", digest)
    monkeypatch.setattr(Learner, "read_adapter", reading)
    return hashed, loaded


def test_every_path_from_the_ledger_to_the_learner_loads_what_was_hashed(
    bench: Workbench, hashed_and_loaded: tuple[list[Any], list[Any]]
) -> None:
    change = stand_on(bench, "1", SUBJECTS[0])
    hashed, loaded = hashed_and_loaded
    current_origin(bench)
    respond(Request(question="max 4 9", task_id="answer"), bench)
    replay(change.change_id, "delta", bench)
    stand_on(bench, "2", SUBJECTS[0])
    assert len(loaded) >= 4
    for files in loaded:
        assert any(all(files[name] is known[name] for name in files) for known in hashed)


def test_a_ledger_that_answers_otherwise_the_second_time_is_asked_once(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_on(bench, "1", SUBJECTS[0])
    asked: list[str] = []
    genuine = type(bench.ledger).artifact

    def artifact(self: Any, entry: Any, role: Any, index: int = 0) -> bytes:
        asked.append(role)
        return genuine(self, entry, role, index) if asked.count(role) == 1 else b"swapped after the check"

    monkeypatch.setattr(type(bench.ledger), "artifact", artifact)
    assert current_origin(bench).adapter is not None
    assert sorted(asked) == ["delta.adapter_config", "delta.adapter_model"]


def codec(bench: Workbench, change: ChangeView) -> int:
    ref = next(ref for ref in change.entry.predicate.artifacts if ref.role == "delta.adapter_model")
    return bench.ledger.stored_artifact(ref.digest)[5]


def test_only_the_same_subjects_parent_is_compressed_against_and_erasing_one_leaves_the_other(
    bench: Workbench,
) -> None:
    first = stand_on(bench, "1", SUBJECTS[0])
    own = stand_on(bench, "2", SUBJECTS[0])
    other = stand_on(bench, "3", SUBJECTS[1])
    assert codec(bench, own) == CODEC_AGAINST
    assert CODEC_AGAINST not in (codec(bench, first), codec(bench, other))
    assert verify(bench.ledger).ok
    bench.keys.destroy_subject(SUBJECTS[0])
    assert bench.ledger.artifact(other.entry, "delta.adapter_model")
