"""Evaluation for real: the shipped model, a core made on the spot, every kind of method on a few tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from mass_gov import wiring
from mass_gov.cli.main import run
from mass_gov.config import Settings
from mass_gov.flows.evaluation import governed
from mass_gov.flows.evaluation import run as run_module
from mass_gov.flows.evaluation.engines import Engines
from mass_gov.flows.evaluation.figures import Sizes, figures
from mass_gov.flows.evaluation.plots import draw
from mass_gov.flows.evaluation.problems import from_benchmark, from_tasks, held_out
from mass_gov.flows.evaluation.report import document, task_rows
from mass_gov.flows.evaluation.run import Request, Row, evaluate
from mass_gov.flows.evaluation.surroundings import DomainSurroundings
from mass_gov.flows.evaluation.weights import Weights
from mass_gov.flows.exchange import Answered
from mass_gov.mass.reference_model import reference_folder
from mass_gov.mass.rivals.mass import accumulated
from mass_gov.mass.rivals.values import Setup
from mass_gov.records.artifacts import AnswerContent, AnswerText
from mass_gov.tasks.grading import BenchmarkGrader
from mass_gov.tasks.readers import BenchmarkTask
from mass_gov.tasks.registry import DOMAINS, sample_tasks
from tests.fakes.policies import lean_source
from tests.fakes.small_core import make_core, with_core

N = 6
SETUP = Setup(samples=3, answer_tokens=40, practice_tokens=40)
BUDGET = {"changes_per_hour": 1, "flops_per_hour": 1e14, "on_fail": "hold"}
PARTS = ("no-adaptation", "uniform", "other-task-delta", "random-delta", "corrupted-answers", "accumulated", "k=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    core = replace(make_core(reference_folder(), step_size=1.0), samples=3, temperature=1.0)
    with_core(reference_folder(), folder / "mass-gold", core)
    return folder


def rows_of(folder: Path, *methods: str, tasks: list | None = None) -> dict[str, Row]:
    evaluation = from_tasks(sample_tasks(N, 0) if tasks is None else tasks)
    request = Request(methods, setup=SETUP, batch=4)
    return evaluate(request, evaluation, DomainSurroundings(list(DOMAINS)), Weights(folder, reference_folder()))


@pytest.fixture(scope="module")
def rows(folder: Path) -> dict[str, Row]:
    others = ("majority-vote", "generator-vote", "tt-ss", "ttt-demos", "slow-think", "mass-gold/oracle-practice")
    return rows_of(folder, "mass-gold", *others, *(f"mass-gold/{part}" for part in PARTS))


def test_every_method_answers_every_task(rows: dict[str, Row]) -> None:
    assert list(rows)[:2] == ["base", "mass-gold"]
    for name, row in rows.items():
        assert len(row.replies.answers) == len(row.outcomes) == N, name
        assert row.flops > 0 and row.seconds > 0, name


def test_the_governed_row_counts_only_what_was_served(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--methods", "base", "--n", "6", "--tune", "0", "--governed", "default", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    decisions, row = report["governed"], report["methods"]["governed"]
    by_verdict = decisions["by_verdict"]
    assert sum(one["n"] for one in by_verdict.values()) == report["n"] == 6
    # What is not applied is answered by the base under this policy, so only applied changes gain or lose anything.
    applied = by_verdict["apply"]
    assert row["right"] == decisions["right"]["base"] + applied["gained"] - applied["lost"]
    everything = sum(one["gained"] - one["lost"] for one in by_verdict.values())
    assert decisions["right"]["adapted"] == decisions["right"]["base"] + everything
    assert all(sum(one["violated"].values()) >= one["n"] for name, one in by_verdict.items() if name == "hold")
    assert row["flops_per_task"] > report["methods"]["base"]["flops_per_task"]


def test_a_policy_that_nobody_has_is_refused_before_anything_is_answered(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "evaluate", lambda *_: pytest.fail("the methods ran first"))
    assert run(["evaluate", "--methods", "base", "--n", "2", "--governed", "nobodys"]) == 2
    assert "there is no policy 'nobodys'" in capsys.readouterr().err


def test_what_is_governed_is_the_core_that_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--weights DIR` holds a core that moves nowhere: what the shipped one would gain is nobody's then."""
    core = replace(make_core(reference_folder(), step_size=0.0, scale=0.0), samples=2)
    folder = with_core(reference_folder(), tmp_path / "weights" / "mass-gold", core)
    opened: list[Path | None] = []
    open_model = wiring.open_model

    def watched(settings: Settings) -> Any:
        opened.append(settings.model)
        return open_model(settings)

    monkeypatch.setattr(wiring, "open_model", watched)
    given = ["--weights", str(tmp_path / "weights"), "--methods", "base,mass-gold", "--n", "6", "--tune", "0"]
    assert run(["evaluate", *given, "--governed", "default", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert opened == [folder]
    assert report["methods"]["governed"]["weights"] == report["methods"]["mass-gold"]["weights"] == "mass-gold"
    assert report["governed"]["right"]["adapted"] == report["governed"]["right"]["base"]
    assert report["governed"]["changes"] == 6


def test_a_spent_budget_and_a_question_that_cannot_be_read_cost_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "one-an-hour.yaml"
    policy.write_bytes(lean_source({"update.budget": BUDGET}, base="default"))
    data = tmp_path / "problems.jsonl"
    lines = [{"question": question, "answer": "#### 1"} for question in ("1 + 0", "1 * 1", "x" * 5000)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = ["--data", str(data), "--methods", "base", "--answer-tokens", "12", "--samples", "2"]
    assert run(["evaluate", *given, "--governed", str(policy), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    found, row = report["governed"], report["methods"]["governed"]
    assert (report["n"], found["changes"], found["unadapted"]) == (3, 1, 1)
    assert sum(one["n"] for one in found["by_verdict"].values()) == 1
    assert row["right"] + row["wrong"] + row["unparseable"] == 3
    assert row["flops_per_task"] > 0


def test_what_the_governed_would_have_been_worth_is_graded_from_the_whole_text() -> None:
    """A file's answers are graded so, and an answer that was cut off is none, as for every other method."""

    def said(text: str, answer: str | None, finished: bool = True) -> AnswerText:
        return AnswerText(state="0" * 64, tokens=(), text=text, answer=answer, finished=finished)

    right, wrong = said("1+1 is\n#### 2", "2"), said("#### 3", "3")
    cut = said("#### 2", "2", finished=False)
    with BenchmarkGrader() as grader:
        evaluation = from_benchmark([BenchmarkTask("t", "1+1?", "2", "own.jsonl", 1)] * 3, grader)
        answers = [
            AnswerContent(adapted=right, parent=wrong, base=wrong),
            AnswerContent(adapted=None, parent=right, base=right),
            AnswerContent(adapted=cut, parent=wrong, base=right),
        ]
        pairs = [governed._would(Answered(cast(Any, None), one, None, "adapted", False)) for one in answers]
        adapted, bases = (evaluation.grade(part) for part in zip(*pairs, strict=True))
        assert adapted == ["right", "right", "right"]
        assert bases == ["wrong", "right", "right"]
        assert [one.key for one, _ in pairs] == ["2", "2", None]


def test_ablations_change_what_they_say_and_nothing_else(rows: dict[str, Row]) -> None:
    mass = rows["mass-gold"].replies

    def texts(name: str) -> list[list[str]]:
        return [[one.text for one in task] for task in rows[f"mass-gold/{name}"].replies.samples]

    written = [[one.text for one in task] for task in mass.samples]
    for name in ("uniform", "random-delta", "corrupted-answers", "k=2"):
        assert texts(name) == written, name
        assert rows[f"mass-gold/{name}"].replies.deltas != mass.deltas, name
    assert texts("other-task-delta") != written
    assert len(set(rows["mass-gold/no-adaptation"].replies.deltas)) == 1, "nothing has moved"
    weights = [one.weight for task in rows["mass-gold/uniform"].replies.samples for one in task if one.weight]
    assert all(weight in (1.0, 0.5, pytest.approx(1 / 3)) for weight in weights)
    for right, wrong in zip(mass.samples, rows["mass-gold/corrupted-answers"].replies.samples, strict=True):
        pairs = [(a, b) for a, b in zip(right, wrong, strict=True) if a.solution is not None]
        assert all(a.answer != b.answer and a.weight == b.weight and a.question == b.question for a, b in pairs)


def test_votes_spend_what_mass_spends(rows: dict[str, Row]) -> None:
    for name in ("majority-vote", "generator-vote"):
        assert rows[name].fitted.equal_to == "flops of mass-gold"
        # Votes are fitted on the first batch, four of these six tasks; a batch costs what its longest row costs.
        assert 0.5 < rows[name].flops / rows["mass-gold"].flops < 1.5, name


@pytest.mark.slow
def test_gold_answers_reach_nothing_but_the_grading(folder: Path, rows: dict[str, Row]) -> None:
    """The threat: a label that leaks into samples, weights, deltas or answers."""
    asked = [name for name in rows if name != "base"]
    tasks = [
        replace(task, answer=f"{i}{i}", solution=f"#{i}{i}") for i, task in enumerate(sample_tasks(N, 0), start=77)
    ]
    blind = rows_of(folder, *asked, tasks=tasks)
    for name, row in rows.items():
        assert blind[name].replies == row.replies, name
        assert "right" not in blind[name].outcomes, "the golds that grade were exchanged"
    assert any("right" in row.outcomes for row in rows.values())


def test_each_method_practises_as_its_own_core_says(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mass-gold").symlink_to(folder / "mass-gold")
    with_core(reference_folder(), tmp_path / "mass-verifier", replace(make_core(reference_folder()), samples=2))
    found = rows_of(tmp_path, "mass-gold", "mass-verifier", "mass-verifier/uniform", "tt-ss", tasks=sample_tasks(2, 0))
    written = {name: {len(one) for one in row.replies.samples} for name, row in found.items() if name != "base"}
    assert written == {"mass-gold": {3}, "mass-verifier": {2}, "mass-verifier/uniform": {2}, "tt-ss": {3}}


def test_a_stream_that_is_kept_reports_the_other_domains(rows: dict[str, Row]) -> None:
    evaluation = held_out(N, 0)
    report = document(Request(()), evaluation, rows)["methods"]
    table = report["mass-gold/accumulated"]["forgetting"]
    assert table.keys() == set(DOMAINS) and all(row.keys() == set(DOMAINS) for row in table.values())


def test_measuring_what_was_forgotten_costs_the_method_nothing(folder: Path, rows: dict[str, Row]) -> None:
    engine = Engines(Weights(folder, reference_folder()), 1).open("mass-gold")
    questions = held_out(N, 0).questions
    setup = rows["mass-gold/accumulated"].fitted.setup
    with engine.meter() as spent:
        replies = accumulated(engine, questions, setup, 0, DomainSurroundings(list(DOMAINS)))
    with engine.meter() as measuring:
        assert replies.crossed().keys() == set(DOMAINS)
    assert measuring.flops > 0
    assert rows["mass-gold/accumulated"].flops == pytest.approx(spent.flops / N)


def test_the_report_is_the_documented_json(rows: dict[str, Row]) -> None:
    evaluation = held_out(N, 0)
    report = json.loads(json.dumps(document(Request(()), evaluation, rows), allow_nan=False))
    assert (report["n"], report["seed"]) == (N, 0)
    for row in report["methods"].values():
        keys = {"accuracy", "ci", "domains", "kinds", "delta_vs_base", "flops_per_task", "seconds_per_task"}
        assert keys | {"unparseable", "timeout", "right", "wrong"} <= row.keys()
        assert row["right"] + row["wrong"] + row["unparseable"] + row["timeout"] == N
        assert row["ci"][0] <= row["accuracy"] <= row["ci"][1]
        assert set(row["domains"]) == set(DOMAINS) and set(row["kinds"]) == {one.kind for one in DOMAINS.values()}
    lines = list(task_rows(evaluation, rows))
    assert len(lines) == N * len(rows) and lines[0].keys() == {"id", "domain", "method", "answer", "outcome"}


def test_figures_are_finite_json_with_plots(folder: Path, rows: dict[str, Row], tmp_path: Path) -> None:
    request, tasks, evaluation = Request((), setup=SETUP), sample_tasks(N, 0), held_out(N, 0)
    report = document(request, evaluation, rows)
    engines = Engines(Weights(folder, reference_folder()), threads=1)
    world = DomainSurroundings(list(DOMAINS))
    found = figures(request, tasks, rows, report, world, engines, Sizes(attributed=2, streams=2, length=3))
    json.dumps(found, allow_nan=False)
    assert found["curriculum"]["after"].keys() == {"all", *DOMAINS}
    assert found["amortised"].keys() >= {"operator", "binary"}
    for use in found["amortised"].values():
        flops = {name: curve["flops"] for name, curve in use["curves"].items()}
        assert list(flops["promoted"]) == sorted(flops["promoted"], reverse=True), "an update serves ever more tasks"
        assert flops["promoted-4m"][0] > flops["promoted"][0] > flops["base"][0]
        assert use["break_even"]["mass-gold"]["tasks"] in (1, 2), (
            "adapting each time pays again from the second task on"
        )
    for drawn in draw(tmp_path, report, found):
        assert drawn.read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_one_object_and_saves_every_answer(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "answers.jsonl"
    options = ["--methods", "base", "--n", "6", "--answer-tokens", "30", "--save", str(saved), "--json"]
    assert run(["evaluate", *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["methods"]) == ["base"]
    assert len(saved.read_text().splitlines()) == 6
    assert run(["evaluate", "--methods", "base", "--n", "6", "--answer-tokens", "30"]) == 0
    assert "points against base" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "bse"], "there is no method 'bse'"),
        (["--methods", "solver-grpo"], "mass-gov train meta"),
        (["--methods", ","], "no method is named"),
        (["--domain", "geometry"], "no task domain"),
        (["--weights", "nowhere"], "there is no folder nowhere"),
        (["--save", "nowhere/x.jsonl"], "there is no folder"),
        (["--methods", "base", "--figures", "somewhere"], "Add mass-gold"),
        (["--pool", "x.jsonl"], "--pool belongs to --data"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_it_starts(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", *options]) == 2
    assert message in capsys.readouterr().err
