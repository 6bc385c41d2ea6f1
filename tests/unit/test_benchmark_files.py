"""MMLU and HumanEval files, and telling all formats apart by what is in them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from mass_gov.errors import TaskError
from mass_gov.tasks.readers import MAX_LINE_BYTES, BenchmarkTask, read_benchmark, recognise_format
from mass_gov.tasks.readers import recognise as recognise_module
from tests.fakes.public_files import public_file

ROW = 'What is 1 + 1?,1,2,"3, or so",4,B\n'
CODE: dict[str, Any] = {
    "task_id": "T/0",
    "prompt": 'def f(x):\n    """x."""\n',
    "entry_point": "f",
    "test": "def check(candidate):\n    assert candidate(1) == 1\n",
    "canonical_solution": "    return x\n",
}


def file_of(folder: Path, content: bytes | str, name: str = "file") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


# ---- recognising ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (lines({"question": "q", "answer": "so\n#### 2"}), "gsm8k"),
        (lines({"question": "q", "answer": "so #### 2", "id": "a"}), "tasks"),
        (lines({"question": "q", "answer": "2"}), "tasks"),
        (lines({"task": "q"}), "tasks"),
        (lines({"problem": "p", "solution": "\\boxed{1}", "level": "Level 1"}), "math500"),
        (json.dumps([{"prompt": "p", "answer": "1", "id": "a"}], indent=2), "math500"),
        (lines(CODE), "humaneval"),
        (ROW, "mmlu"),
        ("question,A,B,C,D,answer\n" + ROW, "mmlu"),
        ("\ufeff\n  " + lines({"task": "q"}), "tasks"),
    ],
)
def test_a_format_is_known_by_its_content_whatever_the_name(tmp_path: Path, content: str, name: str) -> None:
    assert recognise_format(file_of(tmp_path, content, "wrong.csv")) == name
    packed = file_of(tmp_path, gzip.compress(content.encode()), "packed.jsonl")
    assert recognise_format(packed) == name
    assert len(read_benchmark(packed)) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (" \n\t\n", "is empty"),
        ("one line of prose\n", "no known format"),
        ("a,b,c\n", "no known format"),
        ('"never closed\n', "no known format"),
        (lines({"text": "q", "label": 3}), r"first record of no known format \(keys: \['label', 'text'\]\)"),
        ('{"question": "q"', "line 1: it is not valid JSON"),
        ("[1, 2]", "line 1: it is a number, not an object"),
        (b"\xff\xfe\x00a", r"byte 0 of the file \(0xff\) is not UTF-8"),
        (b"\x1f\x8b\x08\x00 cut", "line 1: the file cannot be read on"),
        (gzip.compress(lines(*[{"task": f"q{i}"} for i in range(9_000)]).encode())[:-2_000], "cannot be read on"),
        ("x" * (MAX_LINE_BYTES + 5), "line 1: it is longer than 1,048,576 bytes"),
    ],
    ids=["empty", "blank", "prose", "few fields", "open quote", "other keys", "cut", "numbers", "UTF-16", "no gzip",
         "cut gzip", "long"],
)  # fmt: skip
def test_a_file_of_no_use_is_refused_with_a_way_out(tmp_path: Path, content: bytes | str, message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        read_benchmark(file_of(tmp_path, content))
    assert str(caught.value).rstrip().endswith(".")


def test_what_is_missing_a_folder_or_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in ((tmp_path / "no", "no file"), (tmp_path, "a folder"), (tmp_path / "pipe", "a pipe")):
        with pytest.raises(TaskError, match=message):
            read_benchmark(path)


def test_a_limit_cuts_what_is_returned_but_not_what_is_checked(tmp_path: Path) -> None:
    good = file_of(tmp_path, lines(*[{"task": f"q{i}"} for i in range(9)]))
    assert [task.question for task in read_benchmark(good, limit=2)] == ["q0", "q1"]
    bad = file_of(tmp_path, ROW * 3 + "q,1,2,3,4\n")
    with pytest.raises(TaskError, match="line 4: it has 5 fields, not 6"):
        read_benchmark(bad, limit=2)


def test_a_file_beyond_the_limit_of_tasks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognise_module, "MAX_TASKS", 3)
    assert len(read_benchmark(file_of(tmp_path, ROW * 3))) == 3
    with pytest.raises(TaskError, match="more than 3 tasks"):
        read_benchmark(file_of(tmp_path, ROW * 4))


# ---- MMLU -----------------------------------------------------------------------------------------------------


def test_a_choice_is_put_with_its_options_and_its_gold_is_the_letter(tmp_path: Path) -> None:
    for content, line in ((ROW, 1), ("Question,A,B,C,D,Answer\n" + ROW, 2)):
        (task,) = read_benchmark(file_of(tmp_path, content, "algebra_test.csv"))
        assert task == BenchmarkTask(
            f"mmlu/algebra_test/{line}",
            "What is 1 + 1?\nA. 1\nB. 2\nC. 3, or so\nD. 4\nAnswer with the letter of the one right choice.",
            "B",
            "algebra_test.csv",
            line,
            checking="choice",
        )


def test_rows_over_several_lines_are_named_by_their_first(tmp_path: Path) -> None:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([["two\nlines", "a", "b", "c", "d", "A"], ["q", "a", "b", "c", "d", "D"]])
    tasks = read_benchmark(file_of(tmp_path, out.getvalue() + "\n" + ROW, "s.csv"))
    assert [(task.line, task.gold) for task in tasks] == [(1, "A"), (3, "D"), (5, "B")]
    assert tasks[0].question.startswith("two\nlines\nA. a")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("q,1,2,3,4,E\n", "line 2: its answer is 'E'"),
        ("q,1,2,3,4,b\n", "line 2: its answer is 'b'"),
        ("q,1,2,3,4,\n", "line 2: its answer is ''"),
        ("q,1,2,3,4,AB\n", "line 2: its answer is 'AB'"),
        ("q,1,2,3,B\n", "line 2: it has 5 fields"),
        ("q,1,2,3,4,B,\n", "line 2: it has 7 fields"),
        (",1,2,3,4,B\n", "line 2: its question or its right choice is empty"),
        ("q,1,,3,4,B\n", "line 2: its question or its right choice is empty"),
        ('"q,1,2,3,4,B\n', r"line 2: it is not valid CSV \(unexpected end of data\)"),
        ('"q" x,1,2,3,4,B\n', "line 2: it is not valid CSV"),
        ("q\x07,1,2,3,4,B\n", r"line 2: The task holds the control character U\+0007"),
        ('"' + "x\n" * 70_000 + '",1,2,3,4,B\n', "line 2: it is not valid CSV .*field"),
        ("x" * 9_000 + ",1,2,3,4,B\n", "line 2: The task is 9,0.. characters long"),
    ],
    ids=lambda value: value[:20],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        read_benchmark(file_of(tmp_path, ROW + row))


def test_a_header_without_rows_holds_no_task(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="holds no task"):
        read_benchmark(file_of(tmp_path, "question,A,B,C,D,answer\n"))


# ---- HumanEval ------------------------------------------------------------------------------------------------


def test_a_function_is_put_as_its_prompt_and_held_to_its_tests(tmp_path: Path) -> None:
    (task,) = read_benchmark(file_of(tmp_path, lines(CODE)))
    assert (task.task_id, task.gold, task.checking, task.line) == ("T/0", None, "code", 1)
    assert task.question.endswith(CODE["prompt"])
    assert task.tests is not None
    assert (task.tests.entry_point, task.tests.test, task.tests.canonical) == ("f", CODE["test"], "    return x\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "def f(x:\n"}, "line 2: its 'prompt' is not Python"),
        ({"prompt": "def g(x):\n    pass\n"}, "line 2: its 'prompt' defines no function 'f'"),
        ({"test": "def check(candidate):\n    assert candidate("}, "line 2: its 'test' is not Python"),
        ({"test": "METADATA = {}\n"}, "line 2: its 'test' defines no function 'check'"),
        ({"canonical_solution": "    return (\n"}, "line 2: its 'canonical_solution' is not Python"),
        ({"test": ""}, "line 2: 'test' is empty"),
        ({"entry_point": 3}, "line 2: 'entry_point' is a number"),
        ({"task_id": "T/0"}, "line 2: its id 'T/0' was used in line 1"),
        ({"prompt": "def f(x):\n    '\ud800'\n"}, "line 2: The task holds half of a surrogate"),
        ({"test": "(" * 9_000}, "line 2: its 'test' is not Python"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value)[:30],
)
def test_a_bad_function_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        read_benchmark(file_of(tmp_path, lines(CODE, {**CODE, "task_id": "T/1", **change})))


def test_reading_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    hostile = CODE | {"prompt": f"open({str(mark)!r}, 'w')\n" + CODE["prompt"]}
    assert len(read_benchmark(file_of(tmp_path, lines(hostile)))) == 1
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "known", "count"),
    [
        ("HumanEval.jsonl.gz", "humaneval", 164),
        ("gsm8k_test.jsonl", "gsm8k", 1_319),
        ("math500_ttrl.json", "math500", 500),
        ("math_test_tora.jsonl", "math500", 5_000),
    ],
)
def test_the_public_files_are_recognised_and_read_whole(name: str, known: str, count: int) -> None:
    path = public_file(name)
    assert recognise_format(path) == known
    assert len(read_benchmark(path)) == count
