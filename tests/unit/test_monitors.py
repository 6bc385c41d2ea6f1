"""Window monitors: what raises an alarm, what does not, and which changes a window holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from annotated_types import Le

from mass_gov.config_data import data_folder
from mass_gov.errors import TaskError
from mass_gov.flows.own_measures import own_measures
from mass_gov.policy import Policy, load_policy
from mass_gov.policy.gate_settings import FlipsGate
from mass_gov.policy.judgement import _measured
from mass_gov.policy.measures import KINDS
from mass_gov.policy.monitors.coverage import BITS, TAIL, density_ratio, shown_by, tail_coverage
from mass_gov.policy.monitors.flips import LARGEST, Flips, block_of, carried, e_value, share_of
from mass_gov.policy.monitors.windows import History, Past, measures_of, reach_of
from mass_gov.records.artifacts import SampleContent, SamplesContent
from mass_gov.records.change import Measure
from mass_gov.tasks.domains.base import in_suite_bucket
from mass_gov.tasks.kinds import practice_kind
from mass_gov.tasks.probes import MOST, SUITES, probe_cases
from mass_gov.tasks.registry import DOMAINS
from mass_gov.tasks.shipped_suites import questions_of, suite_names

GATES = {
    "window.flips": "{window: 3, limit: 20, cases: 50, tolerance: 0.0, on_fail: hold}",
    "window.distinct_2": "{window: 3, limit: 0.5, on_fail: hold}",
    "window.tail_coverage": "{window: 3, limit: 0.6, on_fail: hold}",
    "window.density_ratio": "{window: 3, limit: 8.0, on_fail: hold}",
    "window.generation_depth": "{window: 3, limit: 2.0, on_fail: hold}",
}
CHANGE, OTHER = "01930000-0000-7000-8000-000000000001", "01930000-0000-7000-8000-000000000002"


def watched() -> Policy:
    lines = (data_folder("policies") / "default" / "v1.yaml").read_text().splitlines()
    names = [line.strip().partition(":")[0] for line in lines]
    new = [f"  {name}: {GATES[name]}" if name in GATES else line for name, line in zip(names, lines, strict=True)]
    return load_policy("\n".join(new).encode())


def measure(name: str, value: float | None, n: int = 1) -> Measure:
    return Measure(name=name, value=value, n=n)


def probe(lost: int, gained: int, cases: int = 50) -> dict[str, Measure]:
    values = {"lost": lost, "gained": gained, "lost_to_base": lost, "gained_to_base": gained}
    return {f"window.flips.{name}": measure(f"window.flips.{name}", value, cases) for name, value in values.items()}


def own(**more: float) -> dict[str, Measure]:
    names = {"distinct": "window.distinct_2.own", "depth": "update.generation_depth"}
    values = {"distinct": 0.8, "depth": 1.0} | more
    return probe(0, 0) | {names[key]: measure(names[key], value) for key, value in values.items()}


def follow(*changes: Mapping[str, Measure], alarmed: tuple[int, ...] = ()) -> list[dict[str, Measure]]:
    """Judge changes one after the other; those at the places in `alarmed` count as alarms."""
    gates, past, found = watched().document.gates, [], []
    reach = reach_of(gates)
    assert reach is not None
    for place, change in enumerate(changes):
        window = reach.cut(History(tuple(past), tuple(past)))
        measures = dict(change) | {one.name: one for one in measures_of(gates, change, window)}
        past.append(Past(10 * place, "deployment", measures, place in alarmed))
        found.append(measures)
    return found


def test_lost_answers_raise_the_e_value_past_any_limit() -> None:
    assert e_value(Flips(12, 0, 50), 0.0) > 20
    assert e_value(Flips(50, 0, 50), 0.0) == LARGEST


@pytest.mark.parametrize("flips", [Flips(0, 0, 50), Flips(6, 6, 50), Flips(0, 12, 50), Flips(3, 0, 50)])
def test_what_chance_gives_stays_below_the_limit(flips: Flips) -> None:
    assert e_value(flips, 0.0) < 20


def test_losses_within_the_tolerance_are_no_evidence() -> None:
    assert e_value(Flips(40, 20, 2000), 0.0) > 1
    assert e_value(Flips(40, 20, 2000), 0.01) <= 1


def test_more_flips_than_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        e_value(Flips(30, 21, 50), 0.0)


def test_the_parts_of_the_capital_never_add_up_to_more_than_all_of_it() -> None:
    parts = [share_of(block) for block in range(1, 2000)]
    assert 0.999 < sum(parts) <= 1
    assert [block_of(probe, 3) for probe in range(1, 8)] == [1, 1, 1, 2, 2, 2, 3]
    assert carried(0.7, 2, 1.0) == pytest.approx(0.7), "a block that has won nothing leaves things as they were"


def test_a_loss_after_many_healthy_changes_is_still_noticed() -> None:
    changes = [own() | probe(1, 1)] * 30 + [own() | probe(12, 0)] * 3
    found = follow(*changes)
    assert all(one["window.flips"].value < 20 for one in found[:30])  # type: ignore[operator]
    assert found[-1]["window.flips"].value > 20  # type: ignore[operator]


def test_the_process_starts_from_one_after_an_alarm() -> None:
    found = follow(own() | probe(20, 0), own() | probe(0, 0), own(), alarmed=(0,))
    assert found[0]["window.flips"].value > 20  # type: ignore[operator]
    assert found[1]["window.flips"] == measure("window.flips", 1.0, 1)
    assert [one["window.head"].n for one in found] == [1, 1, 2]
    assert [one["window.since"].value for one in found] == [None, 0.0, 0.0]


def test_a_window_forgets_what_lies_further_back() -> None:
    found = follow(*[own(depth=9.0)] * 2, *[own(depth=1.0)] * 3)
    depths = [one["window.generation_depth"].value for one in found]
    assert depths == [9, 9, pytest.approx(19 / 3), pytest.approx(11 / 3), 1]


def test_a_fresh_deployment_is_not_stopped_by_its_first_change() -> None:
    (first,) = follow(own(distinct=0.2))
    assert first["window.distinct_2"].value > 0.9  # type: ignore[operator]
    assert first["window.tail_coverage"].value == first["window.density_ratio"].value == 1.0


def test_a_change_without_its_part_has_no_figure_and_fails() -> None:
    bare = {name: one for name, one in own().items() if not name.startswith("window.flips")}
    (found,) = follow(bare)
    assert "window.flips" not in found
    results = {gate.name: gate.verdict for gate in _measured("window", found, watched().document.gates)}
    assert results["window.flips"] == "fail"
    assert results["window.distinct_2"] == "pass"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("window.flips", 20.0, 20.1),
        ("window.distinct_2", 0.5, 0.49),
        ("window.tail_coverage", 0.6, 0.59),
        ("window.density_ratio", 8.0, 8.1),
        ("window.generation_depth", 2.0, 2.1),
    ],
)
def test_each_window_gate_alone_stops_passes_and_fails_without_a_number(name: str, good: float, bad: float) -> None:
    passing = {"window.flips": 1.0, "window.distinct_2": 0.9, "window.tail_coverage": 1.0, "window.density_ratio": 1.0}
    passing["window.generation_depth"] = 1.0
    gates = watched().document.gates

    def failed(value: float | None) -> list[str]:
        values: dict[str, float | None] = {**passing, name: value}
        measures = {one: measure(one, of) for one, of in values.items()}
        return [gate.name for gate in _measured("window", measures, gates) if gate.verdict == "fail"]

    assert failed(good) == []
    assert failed(bad) == [name]
    assert failed(None) == [name]
    assert [g.name for g in _measured("window", {}, gates) if g.verdict == "fail"] == list(passing)


def test_a_generator_that_writes_one_kind_loses_the_tail_and_crowds_a_kind() -> None:
    collapsed = {"nested": [shown_by("nested", ["1/0"] * 6)] * 50}
    assert tail_coverage(collapsed) < 0.6
    assert density_ratio(collapsed) > 1.5
    every = {"nested": [shown_by("nested", list(BITS["nested"]))] * 50}
    assert tail_coverage(every) == pytest.approx(1.0, abs=0.05)


def test_practice_that_repeats_a_task_is_not_a_lost_tail() -> None:
    # One change a kind: every kind was shown, by 24 samples that say the same.
    kinds = list(BITS["nested"])
    narrow = {"nested": [shown_by("nested", [kind] * 24) for kind in kinds]}
    assert tail_coverage(narrow) > 0.9
    # Of a deployment's first changes none happened to be of a rare kind: too little to say that they are gone.
    common = [kind for kind, bit in BITS["nested"].items() if bit not in TAIL["nested"]]
    assert tail_coverage({"nested": [shown_by("nested", common[:3] * 8)]}) > 0.75


def test_an_empty_window_says_nothing() -> None:
    assert tail_coverage({}) == density_ratio({}) == 1.0


def test_the_tail_is_the_rarer_half_of_every_shipped_domain() -> None:
    assert list(BITS) == list(DOMAINS) == [name.rpartition(".")[2] for name in KINDS]
    assert all(len(TAIL[name]) == len(BITS[name]) // 2 for name in BITS)
    assert max(len(bits) for bits in BITS.values()) < 52, "a set of bits is an exact float"


@pytest.mark.parametrize(
    ("task", "practice", "place"),
    [
        ("(3+4)+(5-2)", "3+4", ("nested", "1/2")),
        ("(3+4)+(5-2)", "nonsense", ("nested", None)),
        ("(3+4)+(5-2)", "max 3 8", ("largest", "1/8")),
        ("who was he?", "nobody", None),
        ("02 16 20 35 41 54 63: FF2", "F2", ("operator", "1/0")),
    ],
)
def test_practice_is_read_in_the_context_of_its_task(task: str, practice: str, place: object) -> None:
    assert practice_kind(task, practice) == place


def written(index: int, question: str, **how: Any) -> SampleContent:
    """A sample that was kept, unless `how` says otherwise."""
    fields = {"solution": "1", "answer": "1", "unparseable": None, "score": None, "weight": 0.5, "dropped_by": ()}
    return SampleContent(
        **({"index": index, "seed": str(index), "tokens": (1,), "text": question, "finished": True, "gates": ()}),
        **({"question": question} | fields | how),
    )


def measured(*samples: SampleContent) -> dict[str, Measure]:
    content = SamplesContent(prompt_tokens=(1,), batch_size=2, forced=False, samples=samples)
    return {one.name: one for one in own_measures("(3+4)+(5-2)", content, watched().document.gates)}


def test_anchors_do_not_hide_a_generator_that_collapsed() -> None:
    same = [written(index, "(1+1)+(1+1)") for index in range(4)]
    real = [written(4 + index, text, real=True) for index, text in enumerate(["max 3 8", "(9-2)+(7-3)", "min 1 6"])]
    collapsed = measured(*same)
    assert collapsed["window.distinct_2.own"].value == pytest.approx(0.25 * 6 / 10)
    assert measured(*same, *real) == collapsed
    mixed = measured(*same, *(one.model_copy(update={"real": False}) for one in real))
    assert mixed.keys() > collapsed.keys(), "as the model's own they would have counted"
    assert mixed["window.distinct_2.own"].value > collapsed["window.distinct_2.own"].value  # type: ignore[operator]
    assert measured(*same, written(4, "max 3 8", weight=0.0, dropped_by=("sample.secrets",))) == collapsed


def test_samples_without_a_pair_have_repeated_none() -> None:
    assert measured(written(0, "7"))["window.distinct_2.own"].value == 1.0


def test_no_case_of_a_probe_is_a_suites_or_asked_twice() -> None:
    assert sorted(SUITES) == suite_names(), "a suite that ships is not kept out of probes"
    suites = questions_of(tuple(suite_names()))
    for index in range(40):
        asked = [case.question for case in probe_cases(f"{CHANGE}/{index}", 50)]
        assert not suites & set(asked)
        assert len(set(asked)) == len(asked)


def test_probes_are_a_changes_own_and_nobody_elses() -> None:
    cases, again, others = probe_cases(CHANGE, 50), probe_cases(CHANGE, 50), probe_cases(OTHER, 50)
    assert cases == again
    shared = {case.question for case in cases} & {case.question for case in others}
    assert len(shared) <= 10, "chance repeats a few; a probe that is not drawn anew repeats all"
    assert all(in_suite_bucket(case.question) for case in cases)
    assert all(DOMAINS[case.domain].answer(DOMAINS[case.domain].read(case.question)) == case.answer for case in cases)
    domains = [case.domain for case in cases]
    assert {domains.count(name) for name in domains} == {12, 13}
    assert sum(case.split == "hard" for case in cases) == 12


def test_the_largest_probe_that_a_policy_can_ask_for_is_drawn() -> None:
    (limit,) = [part.le for part in FlipsGate.model_fields["cases"].metadata if isinstance(part, Le)]
    assert limit == MOST
    assert len({case.question for case in probe_cases(CHANGE, MOST)}) == MOST
    with pytest.raises(TaskError, match="at most 400"):
        probe_cases(CHANGE, MOST + 1)
