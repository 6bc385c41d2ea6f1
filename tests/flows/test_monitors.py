"""Window monitors in the sentence: what they record, what an alarm stops, and how an auditor finds it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from mass_gov.config import load_settings
from mass_gov.errors import RefusedError
from mass_gov.evidence.canonical import parse_canonical
from mass_gov.flows.adapt import adapt
from mass_gov.flows.approve import approve
from mass_gov.flows.audit import verify
from mass_gov.flows.bundle_export import export_change
from mass_gov.flows.bundle_verify import verify_bundle
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.freeze import SYSTEM, unfreeze
from mass_gov.flows.rebase import rebase
from mass_gov.flows.replay import replay
from mass_gov.flows.workbench import Workbench
from mass_gov.mass.learner import Learner
from mass_gov.policy.monitors.windows import alarm_of
from mass_gov.records.artifacts import RegressionContent
from mass_gov.records.change import ChangeBody
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, ChangeRecorded, ControlFrozen
from mass_gov.records.settings import AdaptationSpec, AnswerSpec, SamplingSpec, UpdateSpec
from mass_gov.stages.synthesis import ForcedSample
from mass_gov.tasks.probes import probe_cases
from mass_gov.wiring import initialise, open_workbench
from tests.fakes.policies import lean_source

SPEC = AdaptationSpec(
    sampling=SamplingSpec(max_new_tokens=12), update=UpdateSpec(step_size=0.02), answer=AnswerSpec(max_new_tokens=8)
)
GATES = {
    "window.flips": "{window: 4, limit: 40, cases: 6, tolerance: 0.0, scopes: [deployment], on_fail: hold}",
    "window.distinct_2": "{window: 4, limit: 0.3, on_fail: hold}",
    "window.tail_coverage": "{window: 4, limit: 0.3, on_fail: hold}",
    "window.density_ratio": "{window: 4, limit: 9.0, on_fail: hold}",
}
OUTSIDE = "{limit: 0.0, on_fail: hold}"
"""Every update is held for a person."""
OF_A_WINDOW = ("window.distinct_2", "window.tail_coverage", "window.density_ratio", "window.flips")
Open = Callable[..., Workbench]
pytestmark = [pytest.mark.both_engines, pytest.mark.usefixtures("engine_settings")]


@pytest.fixture
def open_bench(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Iterator[Open]:
    opened: list[Workbench] = []

    def make(**gates: str) -> Workbench:
        document = yaml.safe_load(lean_source(scopes=("instance", "deployment")))
        for name, settings in (GATES | {key.replace("__", "."): value for key, value in gates.items()}).items():
            document["gates"][name] = yaml.safe_load(settings)
        path = tmp_path / "watched.yaml"
        path.write_text(yaml.safe_dump(document))
        settings = load_settings(home=tmp_path / "home", model=tiny_model("llama"), principal="alice")
        initialise(settings, str(path))[0].close()
        opened.append(open_workbench(settings, SPEC))
        return opened[-1]

    yield make
    for bench in opened:
        bench.ledger.close()


def practise(bench: Workbench, name: str, scope: str = "instance", *questions: str) -> Answered:
    marker = bench.learner.template.marker
    samples = tuple(ForcedSample(question, f"so {marker} 3") for question in questions or (f"{name}+1", "20-5"))
    return adapt(Request(f"what is {name}?", name, seed=7, forced=samples, scope=scope), bench)  # type: ignore[arg-type]


def values(body: ChangeBody) -> dict[str, tuple[float | None, int]]:
    return {measure.name: (measure.value, measure.n) for measure in body.measures or ()}


def events(bench: Workbench) -> list[str]:
    return [bench.ledger.entry(index).predicate.body.type for index in range(bench.ledger.size)]


def test_an_alarm_holds_the_change_and_freezes_learning_in_the_same_append(open_bench: Open) -> None:
    bench = open_bench(window__distinct_2="{window: 4, limit: 1.5, on_fail: hold}")
    answered = practise(bench, "7", "deployment")
    assert answered.change.status == "held"
    assert alarm_of(answered.change.body) == "window.distinct_2"
    frozen = bench.ledger.entry(answered.change.index + 1).predicate
    assert isinstance(frozen.body, ControlFrozen)
    assert (frozen.body.cause, frozen.body.monitor) == ("monitor", "window.distinct_2")
    assert frozen.actor.role == "system"
    why = parse_canonical(bench.ledger.artifact(bench.ledger.entry(answered.change.index + 1), "reason"))
    assert "window.distinct_2 is" in why["text"]
    assert answered.served is not None, "serving goes on"
    assert verify(bench.ledger).first_wrong is None


@pytest.mark.parametrize(("limit", "alarm"), [(0.3, None), (1.5, "window.distinct_2")], ids=["healthy", "alarm"])
def test_a_stale_change_that_is_made_again_is_watched_like_any_other(
    open_bench: Open, limit: float, alarm: str | None
) -> None:
    bench = open_bench(window__distinct_2=f"{{window: 4, limit: {limit}, on_fail: hold}}", update__step_norm=OUTSIDE)
    operator, place = Actor(principal="bob", role="operator"), (bench.tenant, bench.deployment)
    held = []
    for name in ("7", "8"):
        held.append(practise(bench, name, "deployment").change)
        unfreeze(bench.ledger, operator, "looked at", *place)
    approve(bench.ledger, held[1].change_id, operator, "moves the pointer")
    done = rebase(held[0].change_id, bench, operator, "the pointer moved")
    assert (done.old.status, done.new.status) == ("rejected", "held")
    assert "window.head" in values(done.new.body) and alarm_of(done.new.body) == alarm
    frozen = bench.ledger.frozen(*place)
    assert (frozen.index if frozen is not None else None) == (done.new.index + 1 if alarm is not None else None)
    report = verify(bench.ledger)
    assert report.first_wrong is None, report.first_wrong


def test_a_policy_without_window_gates_records_and_freezes_nothing(open_bench: Open) -> None:
    bench = open_bench(**dict.fromkeys((name.replace(".", "__") for name in GATES), "unused"))
    answered = practise(bench, "7", "deployment")
    assert answered.change.body.measures is None
    assert "control.frozen" not in events(bench)


def test_a_window_of_generations_measures_what_it_is_made_of(open_bench: Open) -> None:
    """Without the generations of this change the gate fails on a missing value, and learning stops at once."""
    unused = dict.fromkeys((name.replace(".", "__") for name in GATES), "unused")
    bench = open_bench(**unused, window__generation_depth="{window: 4, limit: 3.0, on_fail: hold}")
    first, second = (practise(bench, name, "deployment").change.body for name in ("7", "8"))
    assert values(first)["window.generation_depth"] == (1.0, 1)
    assert values(second)["window.generation_depth"] == (1.5, 2), "the second stands on the first"
    assert "control.frozen" not in events(bench)
    assert verify(bench.ledger).first_wrong is None


def test_windows_grow_over_changes_and_an_auditor_finds_them_again(open_bench: Open) -> None:
    bench = open_bench()
    bodies = [practise(bench, str(n), "deployment" if n % 2 else "instance").change.body for n in range(5)]
    assert [values(body)["window.head"][1] for body in bodies] == [1, 2, 3, 4, 5]
    assert [values(body)["window.distinct_2"][1] for body in bodies] == [1, 2, 3, 4, 4], "the window holds four"
    probed = [body for body in bodies if body.identity.scope == "deployment"]
    assert [values(body)["window.flips"][1] for body in probed] == [1, 2]
    assert all("window.flips" not in values(body) for body in bodies[::2])
    assert all(gate.verdict == "pass" for body in bodies for gate in body.gates if gate.level == "window")
    report = verify(bench.ledger)
    assert report.first_wrong is None, report.first_wrong
    alone = verify_bundle(export_change(bench.ledger, bench.ledger.change(bodies[-1].identity.change_id)).archive)
    assert alone.first_wrong is None, alone.first_wrong
    assert any("follow from changes before it" in warning for warning in alone.warnings)


def test_each_change_is_asked_its_own_probe_and_no_other_changes(
    open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, asked, answer = open_bench(), list[tuple[str, ...]](), Learner.answer

    def listen(learner: Learner, questions: Sequence[str], *args: Any, **named: Any) -> Any:
        asked.append(tuple(questions))
        return answer(learner, questions, *args, **named)

    monkeypatch.setattr(Learner, "answer", listen)
    changes = [practise(bench, name, "deployment").change for name in ("7", "8")]
    probes = [tuple(case.question for case in probe_cases(change.change_id, 6)) for change in changes]
    assert probes[0] != probes[1]
    assert [asked.count(probe) for probe in probes] == [2, 3], "base, new state, and a parent where there is one"
    for change, probe in zip(changes, probes, strict=True):
        content = RegressionContent.model_validate(parse_canonical(bench.ledger.artifact(change.entry, "regression")))
        assert [case.case_id for case in content.probe or ()] == [f"probe/{place}" for place in range(len(probe))]


@pytest.mark.parametrize("start", ["scratch", "samples", "delta"])
def test_a_watched_change_replays_in_the_window_that_it_had(start: str, open_bench: Open) -> None:
    bench = open_bench()
    practise(bench, "6", "deployment")
    watched = practise(bench, "7", "deployment").change
    practise(bench, "8", "deployment")
    replayed = replay(watched.change_id, start, bench)  # type: ignore[arg-type]
    assert replayed.verdict == "equal", replayed


def test_an_alarm_without_its_freeze_is_refused(open_bench: Open) -> None:
    bench = open_bench(window__distinct_2="{window: 4, limit: 1.5, on_fail: hold}")
    seen: list[list[EventDraft]] = []
    append = bench.ledger.append

    def keep(drafts: list[EventDraft]) -> object:
        seen.append(drafts)
        kept = [draft for draft in drafts if not isinstance(draft.body, ControlFrozen)]
        return append(kept)

    bench.ledger.append = keep  # type: ignore[method-assign, assignment]
    with pytest.raises(RefusedError, match="alarm"):
        practise(bench, "7")
    assert any(isinstance(draft.body, ChangeRecorded) for draft in seen[0])
    assert "change.recorded" not in events(bench)


def test_a_freeze_for_an_alarm_that_nobody_raised_is_refused(open_bench: Open) -> None:
    bench = open_bench()
    body = ControlFrozen(extent="deployment", cause="monitor", monitor="window.flips", policy=bench.policy.digest)
    with pytest.raises(RefusedError, match="raised none"):
        bench.ledger.append([EventDraft(SYSTEM, bench.tenant, bench.deployment, body)])
