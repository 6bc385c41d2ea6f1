"""`mass-gov solve`: an answer that stands on a recorded change, on a fresh home and from a file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mass_gov.cli.main import run
from mass_gov.flows.recommend import recommended
from mass_gov.mass.reference_model import trained_folder
from tests.e2e.conftest import INSIDE, OUTSIDE, Command, Recorded, fingerprint_of
from tests.fakes.policies import lean_policy

FIELDS = {
    "change_id",
    "task",
    "answer",
    "text",
    "served",
    "base_answer",
    "adapted_answer",
    "gold",
    "correct",
    "outcome",
    "base_correct",
    "decision",
    "status",
    "gates",
    "samples",
    "state_digest",
    "delta_digest",
    "config_digest",
    "log",
    "cost",
    "repeated",
    "seed",
    "policy",
}


def lean(folder: Path) -> None:
    """Put the lean policy in force where none is yet: the cases of the shipped suites take ten seconds a task."""
    home = Path(os.environ["MASS_GOV_HOME"])
    if not home.exists():
        assert run(["init", "--policy", lean_policy(folder)]) == 0


@pytest.fixture
def tiny(
    tiny_model: Callable[[str], Path], forced_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Options that make the tiny model learn, in a home under the lean policy: it writes nothing that it would itself
    expect, which a gate asks for."""
    monkeypatch.setenv("MASS_GOV_MODEL", str(tiny_model("llama")))
    lean(tmp_path)

    def options(size: str = INSIDE) -> list[str]:
        return ["--forced-samples", str(forced_file), "--step-size", size]

    return options


def test_a_fresh_home_needs_no_other_step(cli: Command, own_home: Path) -> None:
    """With the model, the core, the policy and the suite that ship."""
    ran = cli("solve", "max 4 8 1", "--gold", "8", "--seed", "3", "--json")
    assert ran.status == 0
    assert ran.json.keys() == FIELDS
    assert "policy solo/v1" in ran.err and "approve your own changes" in ran.err
    assert ran.json["task"] | {"id": ""} == {"id": "", "question": "max 4 8 1", "domain": "largest"}
    assert (ran.json["seed"], ran.json["answer"], ran.json["outcome"]) == ("3", "8", "right")
    assert ran.json["decision"] == {"verdict": "apply", "reason": "inside_envelope", "violated": []}
    assert (ran.json["status"], ran.json["served"], ran.json["repeated"]) == ("applied", "adapted", False)
    assert ran.json["samples"]["generated"] == recommended(trained_folder()).sampling.count
    assert ran.json["samples"]["kept"] > 1 and not ran.json["samples"]["forced"]
    names = {gate["name"] for gate in ran.json["gates"]}
    assert names >= {"sample.perplexity", "update.anchor_kl", "regression.power"}, "of the whole catalogue"
    assert ran.json["log"]["size"] == ran.json["log"]["index"] + 2, "the change, then the answer"
    assert len(ran.json["delta_digest"]) == len(ran.json["state_digest"]) == 64
    assert cli("verify", "--json").json["size"] == ran.json["log"]["size"]
    again = cli("solve", "max 4 8 2", "--adaptation", "none", "--json")
    assert "policy" not in again.err, "only the first use says which policy is in force"


def test_a_person_sees_the_answer_the_decision_and_what_to_do(cli: Command, tiny: Callable[..., list[str]]) -> None:
    ran = cli("solve", "3+4", *tiny(OUTSIDE))
    assert ran.status == 0
    for said in ("answer", "base answer", "hold", "envelope.step_norm", "mass-gov changes approve", "(forced)"):
        assert said in ran.out


@pytest.mark.parametrize(("gold", "outcome", "right"), [("8", "right", True), ("7", "wrong", False)])
def test_a_gold_answer_grades_and_is_recorded_nowhere(
    cli: Command, own_home: Path, tmp_path: Path, gold: str, outcome: str, right: bool
) -> None:
    lean(tmp_path)
    ran = cli("solve", "max 4 8 1", "--gold", gold, "--json")
    assert (ran.json["gold"], ran.json["outcome"], ran.json["correct"]) == (gold, outcome, right)
    marked = "77123457"
    assert cli("solve", "max 4 8 2", "--gold", marked, "--json").json["correct"] is False
    assert marked not in _everything_recorded()


def _everything_recorded() -> str:
    """Every leaf and every opened artifact of the ledger in force."""
    from mass_gov.config import load_settings
    from mass_gov.wiring import read_ledger

    texts = []
    with read_ledger(load_settings()) as ledger:
        for entry in ledger.entries():
            texts.append(entry.leaf.decode())
            for ref in entry.predicate.artifacts:
                texts.append(ledger.artifact(entry, ref.role, ref.index).decode("utf-8", "replace"))
    return "\n".join(texts)


def test_an_answer_that_is_none_is_unparseable(cli: Command, tiny: Callable[..., list[str]]) -> None:
    ran = cli("solve", "3+4", "--gold", "7", *tiny(OUTSIDE), "--json")
    assert ran.json["answer"] is None
    assert (ran.json["outcome"], ran.json["correct"]) == ("unparseable", False)


def test_a_named_task_is_recalled_and_not_adapted_again(
    cli: Command, own_home: Path, tiny: Callable[..., list[str]]
) -> None:
    first = cli("solve", "3+4", "--id", "mine", *tiny(), "--json").json
    before = fingerprint_of(own_home)
    again = cli("solve", "3+4", "--id", "mine", *tiny(), "--json").json
    assert again["repeated"] and again["change_id"] == first["change_id"] and again["answer"] == first["answer"]
    other = cli("solve", "3+5", "--id", "mine", *tiny(), "--json")
    assert other.status == 2 and other.json["error"]["type"] == "TaskReusedError"
    assert fingerprint_of(own_home) == before


def test_approving_a_held_change_serves_its_answer(cli: Command, tiny: Callable[..., list[str]]) -> None:
    held = cli("solve", "3+4", "--id", "mine", *tiny(OUTSIDE), "--json").json
    assert (held["status"], held["served"]) == ("held", "base")
    assert cli("changes", "approve", held["change_id"], "--reason", "looked at it").status == 0
    recalled = cli("solve", "3+4", "--id", "mine", *tiny(OUTSIDE), "--json").json
    assert (recalled["status"], recalled["served"]) == ("applied", "adapted")


def test_the_next_task_starts_from_a_promoted_state(
    cli: Command, recorded: Recorded, tiny: Callable[..., list[str]]
) -> None:
    state = cli("changes", "promote", recorded.applied, "--reason", "good", "--json").json["state_digest"]
    solved = cli("solve", "9+9", *tiny(), "--json").json
    shown = cli("changes", "show", solved["change_id"], "--json").json
    assert shown["record"]["parents"]["parent_state"] == state


def test_a_problem_comes_in_through_stdin(
    cli: Command, tiny: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "task.txt"
    path.write_text("3+4\n")
    with path.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert cli("solve", "-", *tiny(), "--json").json["task"]["question"] == "3+4"


# ---- files ----------------------------------------------------------------------------------------------------


def test_a_file_gives_a_line_a_task_and_is_recalled_the_second_time(
    cli: Command, tiny: Callable[..., list[str]], tasks_file: Callable[[Sequence[object]], Path], own_home: Path
) -> None:
    path = tasks_file([{"question": "3+4", "answer": 7}, {"id": "b", "question": "5+6"}, {"task": "7+8"}])
    first = cli("solve", "--file", path, "--seed", "1", *tiny(), "--json")
    assert first.status == 0
    assert [one["task"]["question"] for one in first.lines()] == ["3+4", "5+6", "7+8"]
    assert [one["gold"] for one in first.lines()] == ["7", None, None]
    assert len({one["seed"] for one in first.lines()}) == 3, "each task has a seed of its own"
    before = fingerprint_of(own_home)
    moved = tasks_file([{"task": "7+8"}, {"question": "3+4", "answer": 7}])
    again = cli("solve", "--file", moved, *tiny(), "--json").lines()
    known = {one["task"]["question"]: one["change_id"] for one in first.lines()}
    assert [one["change_id"] for one in again] == [known["7+8"], known["3+4"]]
    assert all(one["repeated"] for one in again)
    assert fingerprint_of(own_home) == before


@pytest.mark.slow
def test_a_batch_of_the_shipped_model_keeps_going_and_replays_alone_in_a_fresh_process(
    cli: Command, own_home: Path, tmp_path: Path
) -> None:
    lean(tmp_path)
    path = tmp_path / "tasks.jsonl"
    questions = ["max 4 8 1", "☂ is no digit", "max 9 5 2 7"]
    path.write_text("".join(json.dumps({"question": question}) + "\n" for question in questions))
    ran = cli("solve", "--file", str(path), "--batch", "3", "--seed", "5", "--json")
    first, bad, last = (json.loads(line) for line in ran.out.splitlines())
    assert ran.status == 2 and bad["error"]["type"] == "TaskError"
    assert None not in (first["delta_digest"], last["delta_digest"])
    change = last["change_id"]
    batch = cli("changes", "show", change, "--samples", "--json").json["contents"]["samples"]["batch"]
    assert (batch["size"], batch["place"]) == (2, 1), "the record names the batch"
    program = [sys.executable, "-m", "mass_gov.cli.main", "replay", change, "--json"]
    replayed = subprocess.run(program, capture_output=True, text=True, check=False, env=os.environ)
    assert json.loads(replayed.stdout)["verdict"] == "equal", replayed.stderr
    assert cli("solve", "max 1 2", "--batch", "3").status == 2


def test_a_file_ends_in_a_table_for_people(
    cli: Command, tasks_file: Callable[[Sequence[object]], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lean(tmp_path)
    path = tasks_file([{"id": f"t{n}", "question": f"max {n} 2 1", "answer": str(max(n, 2))} for n in (3, 4)])
    ran = cli("solve", "--file", path)
    assert ran.status == 0
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    assert "2 tasks: " in ran.out and "right: 2 of 2 served" in ran.out
    assert re.search(r"^\[1/2\] t3: 3 \(right\), (applied|held|rejected)$", ran.err, re.MULTILINE), ran.err
    prefix = next(line for line in ran.out.splitlines() if line.startswith("t3")).split()[-1]
    assert cli("changes", "show", prefix, "--json").json["contents"]["request"]["task_id"] == "t3"


def test_limit_takes_the_first_tasks(
    cli: Command, tiny: Callable[..., list[str]], tasks_file: Callable[[Sequence[object]], Path]
) -> None:
    path = tasks_file([{"question": f"{n}+4"} for n in range(5)])
    assert len(cli("solve", "--file", path, "--limit", "2", *tiny(), "--json").lines()) == 2


def test_one_task_that_cannot_be_posed_does_not_lose_the_others(
    cli: Command, tiny: Callable[..., list[str]], tasks_file: Callable[[Sequence[object]], Path]
) -> None:
    path = tasks_file([{"question": "3+4"}, {"id": "long", "question": "1+" * 1000 + "1"}, {"question": "5+6"}])
    ran = cli("solve", "--file", path, *tiny(), "--json")
    assert ran.status == 2
    first, failed, last = ran.lines()
    assert first["change_id"] and last["change_id"]
    assert failed["task"]["id"] == "long" and failed["error"]["type"] == "TaskError" and failed["error"]["exit"] == 2
    assert cli("verify").status == 0


def test_no_task_is_adapted_when_a_later_line_is_bad(
    cli: Command, tiny: Callable[..., list[str]], tasks_file: Callable[[Sequence[object]], Path], own_home: Path
) -> None:
    before = fingerprint_of(own_home)
    ran = cli("solve", "--file", tasks_file([{"question": "3+4"}, '{"question": 1+']), *tiny(), "--json")
    assert ran.status == 2
    assert "line 2" in ran.json["error"]["message"]
    assert fingerprint_of(own_home) == before


def test_an_outage_in_the_middle_says_how_far_it_came(
    cli: Command,
    tiny: Callable[..., list[str]],
    tasks_file: Callable[[Sequence[object]], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mass_gov.errors import LedgerUnavailableError
    from mass_gov.flows import respond as flow

    solve, solved = flow.adapt, []

    def failing(request: flow.Request, bench: object, *ahead: object) -> flow.Answered:
        if solved:
            raise LedgerUnavailableError("the disk is full. Free some space.")
        solved.append(request)
        return solve(request, bench, *ahead)  # type: ignore[arg-type]

    monkeypatch.setattr(flow, "adapt", failing)
    ran = cli("solve", "--file", tasks_file([{"question": "3+4"}, {"question": "5+6"}]), *tiny(), "--json")
    assert ran.status == 6
    first, last = ran.lines()
    assert first["change_id"] and last["error"]["exit"] == 6
    assert "1 of 2 tasks are done" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_file_keeps_what_was_printed_and_continues(
    number: signal.Signals,
    cli: Command,
    tiny: Callable[..., list[str]],
    tasks_file: Callable[[Sequence[object]], Path],
) -> None:
    path = tasks_file([{"question": f"{n}+4"} for n in range(40)])
    command = [sys.executable, "-m", "mass_gov.cli.main", "solve", "--file", str(path), *tiny(), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(number)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    printed = [json.loads(line) for line in (first + rest).splitlines()]
    assert 1 <= len(printed) < 40
    assert f"{len(printed)} of 40 tasks are done" in err and "Run the same command again" in err
    assert cli("verify").status == 0
    listed = cli("changes", "list", "--limit", "100", "--json").json["changes"]
    assert {one["change_id"] for one in listed} == {one["change_id"] for one in printed}
    limit = str(len(printed) + 1)
    again = cli("solve", "--file", path, "--limit", limit, *tiny(), "--json").lines()
    assert [one["repeated"] for one in again] == [True] * len(printed) + [False]


@pytest.mark.slow
def test_a_second_interrupt_abandons_the_task_at_once(
    cli: Command, tiny: Callable[..., list[str]], tasks_file: Callable[[Sequence[object]], Path]
) -> None:
    path = tasks_file([{"question": f"{n}+4"} for n in range(40)])
    command = [sys.executable, "-m", "mass_gov.cli.main", "solve", "--file", str(path), *tiny(), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout is not None and process.stderr is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    while "stopping after this task" not in process.stderr.readline():
        continue
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    recorded = cli("changes", "list", "--limit", "100", "--json").json["changes"]
    assert {json.loads(line)["change_id"] for line in (first + rest).splitlines()} <= {
        one["change_id"] for one in recorded
    }
    assert cli("verify").status == 0


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(
    tiny: Callable[..., list[str]], tasks_file: Callable[[Sequence[object]], Path], cli: Command
) -> None:
    path = tasks_file([{"question": f"{n}+4"} for n in range(4)])
    command = [sys.executable, "-m", "mass_gov.cli.main", "solve", "--file", str(path), *tiny(), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 141
    assert "Traceback" not in err and "Broken" not in err
    assert cli("verify").status == 0
