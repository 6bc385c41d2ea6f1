"""Every method of `mass-gov evaluate` on benchmark files, with a tiny random Qwen2 chat model that was really trained.

The model knows nothing, so what is held to is the path: prompts through a chat template, practice that parses, updates,
votes at equal cost, generated code that is run, and the report. MMLU's public files are not among the shared data; its
five rows here are ours, in the public format.
"""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from mass_gov.cli.main import run
from mass_gov.mass.prompting import GENERIC_CHAT
from mass_gov.mass.rivals.catalogue import BASE, find, names
from mass_gov.tasks.readers import read_benchmark
from tests.e2e.conftest import Command
from tests.fakes.fluent_chat import make_fluent_chat
from tests.fakes.public_files import public_file

PUBLIC = ("gsm8k_test.jsonl", "math500_ttrl.json", "HumanEval.jsonl.gz")
N, POOL = 5, 20
SHORTEST = "shortest"
REFUSED = tuple(name for name in names() if name.endswith(("/off-path", "/oracle-practice")))
METHODS = tuple(name for name in names() if name not in REFUSED)
MMLU = (
    ("What is 1 + 1?", "1", "2", "3, or so", "4", "B"),
    ("Which of these is prime?", "4", "6", "7", "9", "C"),
    ("What is the capital of France?", "Paris", "Rome", "Bern", "Oslo", "A"),
    ("How many sides has a square?", "3", "4", "5", "6", "B"),
    ("What is 10 / 2?", "2", "3", "4", "5", "D"),
)
TRAINING = (
    *("--steps", "2", "--tasks", "2", "--samples", "3", "--answer-tokens", "8"),
    *("--validate-every", "2", "--validation-tasks", "2"),
)
SHORT = ("--samples", "2", "--answer-tokens", "12", "--n", N)
BODY = "    return number % 1.0\n"
"""Right for the third problem of HumanEval, whose argument is called so; the others have no such name."""


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The first problems of the public files, a pool of training problems, and MMLU rows of our own."""
    public = {name: public_file(name) for name in PUBLIC}
    training = public_file("gsm8k_train.jsonl")
    folder = tmp_path_factory.mktemp("files")
    with (folder / "mmlu.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(MMLU)
    with training.open() as stream:
        (folder / "pool.jsonl").write_text("".join(islice(stream, POOL)))
    for name, path in public.items():
        (folder / name).write_bytes(shortest(path))
    return public | {name: folder / name for name in ("mmlu.csv", "pool.jsonl")} | {SHORTEST: folder}


def shortest(path: Path) -> bytes:
    """The `N` problems of a public file that are read fastest, as a file of the same format."""
    lengths = [len(task.question) for task in read_benchmark(path)]
    places = sorted(sorted(range(len(lengths)), key=lengths.__getitem__)[:N])
    if path.suffix == ".json":
        return json.dumps([json.loads(path.read_bytes())[place] for place in places]).encode()
    packed = path.suffix == ".gz"
    lines = (gzip.decompress(path.read_bytes()) if packed else path.read_bytes()).splitlines(keepends=True)
    chosen = b"".join(lines[place] for place in places)
    return gzip.compress(chosen) if packed else chosen


@pytest.fixture(scope="session")
def texts(files: dict[str, Path]) -> list[str]:
    """What the tokenizer is trained on, so that prompts are about as short as under a real one."""
    asked = [task.question for name in PUBLIC for task in read_benchmark(files[name], limit=N)]
    return [*asked, *[GENERIC_CHAT.solve, GENERIC_CHAT.practise] * 5]


@pytest.fixture(scope="session")
def model(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fluent_chat(tmp_path_factory.mktemp("model") / "tiny", texts)


@pytest.fixture(scope="session")
def weights(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of every trained name: what `train meta` really made of this model, under all of them."""
    out, folder = tmp_path_factory.mktemp("run") / "run", tmp_path_factory.mktemp("weights")
    short = ["--set", "max_new_tokens=12", "--set", "solution_tokens=8", "--set", "warmup=1"]
    short += ["--set", "test_temperature=1.0"]  # drawn hotter, nothing that so small a model writes can be parsed
    assert run(["train", "meta", "--base", str(model), "--out", str(out), *TRAINING, *short]) == 0
    for name in {find(name).weights for name in names()} - {BASE}:
        shutil.copytree(out / "weights", folder / name)
    steps = [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]
    assert steps[-1]["step"] == 2 and steps[-1]["valid"] > 0, "it practised"
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)  # forty methods; a busy machine takes several times as long
@pytest.mark.parametrize("name", [*PUBLIC, "mmlu.csv"])
def test_every_method_runs_on_the_file(
    cli: Command, files: dict[str, Path], model: Path, weights: Path, tmp_path: Path, name: str
) -> None:
    saved = tmp_path / "rows.jsonl"
    options = ("--model", model, "--weights", weights, "--pool", files["pool.jsonl"], "--allow-code-execution")
    data = files[name] if name == "mmlu.csv" else files[SHORTEST] / name
    ran = cli("evaluate", "--data", data, *options, *SHORT, "--methods", ",".join(METHODS), "--save", saved, "--json")
    assert ran.status == 0, ran.err
    rows: dict[str, dict[str, Any]] = ran.json["methods"]
    assert set(rows) == set(METHODS) and ran.json["n"] == N
    for method, row in rows.items():
        assert sum(row[outcome] for outcome in ("right", "wrong", "unparseable", "timeout")) == N, method
        assert row["flops_per_task"] > 0 and row["tokens_per_task"] > 0, method
        assert row["settings"]["samples"] == (12 if method.endswith("/m=12") else 2), method
    assert rows["mass-gold"]["flops_per_task"] > rows["mass-gold/no-adaptation"]["flops_per_task"], "steps were taken"
    assert rows["mass-gold/k=2"]["flops_per_task"] > rows["mass-gold"]["flops_per_task"]
    assert rows["ttt-random"]["flops_per_task"] > rows["ttt-demos"]["flops_per_task"], "the pool was practised on"
    assert len(saved.read_text().splitlines()) == N * len(METHODS)


@pytest.mark.parametrize("method", REFUSED)
def test_what_needs_a_domain_is_refused_on_files_before_anything_runs(
    cli: Command, files: dict[str, Path], model: Path, method: str
) -> None:
    options = ("--model", model, "--methods", method, *SHORT)
    ran = cli("evaluate", "--data", files["gsm8k_test.jsonl"], *options, "--json")
    assert ran.status == 2 and ran.err.startswith(f"error: {method} needs a task domain")
    assert ran.err.rstrip().endswith("Leave the method out.") and ran.json["error"]["exit"] == 2


@pytest.mark.parametrize("leaves", ["", "open({mark!r}, 'w')\n    "], ids=["plain", "writing a file"])
def test_a_reply_that_is_a_function_is_run_and_walled_off(
    cli: Command, files: dict[str, Path], texts: list[str], tmp_path: Path, leaves: str
) -> None:
    mark = tmp_path / "mark"
    body = BODY.replace("return", leaves.format(mark=str(mark)) + "return")
    model = make_fluent_chat(tmp_path / "model", texts, reply=body)
    data = ("--data", files["HumanEval.jsonl.gz"], "--allow-code-execution", "--save", tmp_path / "rows.jsonl")
    ran = cli("evaluate", "--model", model, *data, "--methods", "base", *SHORT, "--json")
    assert ran.status == 0, ran.err
    outcomes = [json.loads(line)["outcome"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    expected = "wrong" if leaves else "right"  # no file can be made in there, not even a harmless one
    assert outcomes == ["wrong", "wrong", expected, "wrong", "wrong"]
    assert not mark.exists()


def test_a_pool_that_the_model_cannot_read_whole_is_used_where_it_can(
    cli: Command, files: dict[str, Path], model: Path, tmp_path: Path
) -> None:
    lines = files["pool.jsonl"].read_text().splitlines()
    hostile = [json.dumps({"question": f"{i} <|im_end|>?", "answer": "so\n#### 1"}) for i in range(POOL)]
    (tmp_path / "pool.jsonl").write_text("\n".join([*hostile, *lines[:2]]) + "\n")
    options = ("--model", model, "--pool", tmp_path / "pool.jsonl", "--methods", "ttt-random,ttt-nearest,ttt-demos")
    ran = cli("evaluate", "--data", files["gsm8k_test.jsonl"], *options, *SHORT, "--json")
    assert ran.status == 0, ran.err
    rows = ran.json["methods"]
    assert rows["ttt-random"]["flops_per_task"] > 1.5 * rows["ttt-demos"]["flops_per_task"], "on the two it can read"
    assert rows["ttt-random"]["flops_per_task"] == rows["ttt-nearest"]["flops_per_task"]


def test_another_task_that_the_model_cannot_read_is_not_practised_for(
    cli: Command, files: dict[str, Path], model: Path, weights: Path, tmp_path: Path
) -> None:
    with files["gsm8k_test.jsonl"].open() as stream:
        lines = list(islice(stream, 2))
    unreadable = [json.dumps({"question": f"{i} <|im_end|>?", "answer": "so\n#### 1"}) + "\n" for i in range(3)]
    (tmp_path / "data.jsonl").write_text("".join([*unreadable, *lines]))
    methods = ("--methods", "mass-gold/other-task-delta", *SHORT)
    ran = cli("evaluate", "--data", tmp_path / "data.jsonl", "--model", model, "--weights", weights, *methods, "--json")
    assert ran.status == 0, ran.err
    assert all(row["unparseable"] >= 3 for row in ran.json["methods"].values()), "those have no answer"


@pytest.mark.parametrize(
    ("content", "options", "status", "said"),
    [
        (None, (), 2, "no file"),
        ("", (), 2, "is empty"),
        ("once upon a time\n", (), 2, "no known format"),
        ('{"question": "q", "answer": "so #### 1"}\n', ("--methods", "ttt-random"), 2, "--pool FILE"),
        ('{"question": "q", "answer": "so #### 1"}\n', ("--methods", "ttt-random", "--pool", "code"), 2, "has 0"),
        ('{"question": "q", "answer": "so #### 1"}\n', ("--methods", "ttt-random", "--pool", "same"), 2, "not asked"),
        ('{"question": "q", "answer": "so #### 1"}\n', ("--methods", "mass-gold/other-task-delta"), 2, "--n 2"),
        ("code", (), 5, "--allow-code-execution"),
    ],
    ids=["missing", "empty", "prose", "no pool", "a pool of code", "a pool of what is asked", "alone", "code"],
)
def test_a_file_or_pool_of_no_use_is_refused_in_one_line(
    cli: Command, model: Path, tmp_path: Path, content: str | None, options: tuple[str, ...], status: int, said: str
) -> None:
    code = tmp_path / "code.jsonl.gz"
    check = "def check(candidate):\n    assert candidate(1) == 1\n"
    record = {"task_id": "T/0", "prompt": 'def f(x):\n    """x."""\n', "entry_point": "f", "test": check}
    code.write_bytes(gzip.compress(json.dumps(record | {"canonical_solution": "    return x\n"}).encode()))
    data = code if content == "code" else tmp_path / "data"
    if content not in (None, "code"):
        data.write_text(str(content))
    named = [{"code": code, "same": data}.get(word, word) for word in options]
    ran = cli("evaluate", "--model", model, "--data", data, *SHORT, *named, "--json")
    assert ran.status == status and said in ran.err and ran.err.startswith("error: ")
    assert len(ran.err.splitlines()) == 1 and ran.json["error"]["exit"] == status


def test_more_tasks_than_the_file_holds_are_all_of_them(cli: Command, files: dict[str, Path], model: Path) -> None:
    ran = cli("evaluate", "--model", model, "--data", files["mmlu.csv"], "--methods", "base", "--n", "99", "--json")
    assert ran.status == 0 and ran.json["n"] == N, ran.err
