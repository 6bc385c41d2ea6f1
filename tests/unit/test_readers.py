"""Task texts and task files: every unusable one is refused with its place, its fault and a way out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mass_gov.errors import TaskError
from mass_gov.tasks.readers import MAX_LINE_BYTES, BenchmarkTask, read_gsm8k, read_math500, read_tasks_jsonl
from mass_gov.tasks.text import clean_task_text
from tests.fakes.public_files import public_file

GOOD = b'{"id": "a", "question": "What is 1 + 1?", "answer": "2"}\n'


def file_of(folder: Path, content: bytes) -> Path:
    path = folder / "tasks.jsonl"
    path.write_bytes(content)
    return path


# ---- texts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \t\n\u00a0", "empty"),
        ("2 + 2\x00", r"U\+0000 at character 6"),
        ("a\x1b[31mred", r"U\+001B at character 2"),
        ("a\rb", r"U\+000D at character 2"),
        ("a\x85b", r"U\+0085 at character 2"),
        ("ab\ud83d", r"U\+D83D\) at character 3"),
        ("x" * 8_001, r"8,001 characters long and the limit is 8,000"),
    ],
)
def test_a_text_that_is_no_task_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        clean_task_text(text)


def test_a_task_is_kept_as_it_was_written_but_for_line_ends() -> None:
    text = "  e\u0301 \u2260 \u00e9,\ttab\n\u2028 \U0001f600  "
    assert clean_task_text(text) == text
    assert clean_task_text("a\r\nb\n") == "a\nb\n"
    assert clean_task_text("x" * 20, limit=20) == "x" * 20
    with pytest.raises(TaskError):
        clean_task_text("x" * 21, limit=20)


# ---- bad files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"What is 1 + 1?\n", r"line 2: it is not valid JSON \(column 1"),
        (b'{"question": "1 + 1"\n', "line 2: it is not valid JSON"),
        (b'["1 + 1"]\n', "line 2: it is a list, not an object"),
        (b"null\n", "line 2: it is null, not an object"),
        (b'{"prompt": "1 + 1"}\n', "line 2: it has neither 'question' nor 'task'"),
        (b'{"question": 11}\n', "line 2: 'question' is a number, not a text"),
        (b'{"question": null}\n', "line 2: 'question' is null"),
        (b'{"question": " "}\n', "line 2: The task is empty"),
        (b'{"question": "a\\u0007b"}\n', r"line 2: The task holds the control character U\+0007 at character 2"),
        (b'{"question": "a\\ud800b"}\n', r"line 2: The task holds half of a surrogate pair \(U\+D800\)"),
        (b'{"question": "q", "answer": ["2"]}\n', "line 2: 'answer' is a list, not a text"),
        (b'{"question": "q", "answer": true}\n', "line 2: 'answer' is true or false"),
        (b'{"question": "q", "answer": ""}\n', "line 2: 'answer' is empty"),
        (b'{"question": "q", "answer": NaN}\n', "line 2: .*NaN is not a JSON number"),
        (b'{"question": "q", "score": -Infinity}\n', "line 2: .*-Infinity is not a JSON number"),
        (b'{"question": "q", "id": 1.5}\n', "line 2: 'id' is a number, not a text"),
        (b'{"question": "q", "id": "\\udfff"}\n', "line 2: 'id' holds half of a surrogate pair"),
        (b'{"question": "q", "id": "a"}\n', "line 2: its id 'a' was used in line 1"),
        (b'{"question": "q", "domain": 3}\n', "line 2: 'domain' is a number"),
        (b'{"question": "q", "question": "r"}\n', "line 2: .*a key is given twice"),
        (b'{"question": "caf\xe9"}\n', rf"line 2: byte {len(GOOD) + 17} of the file \(0xe9\) is not UTF-8"),
        (b"[" * 100_000 + b"\n", "line 2: its JSON is nested too deeply"),
        (b'{"question": "q", "answer": ' + b"1" * 5_000 + b"}\n", "line 2: it is not valid JSON"),
        (b'{"question": "' + b"x" * 9_000 + b'"}\n', "line 2: The task is 9,000 characters long"),
        (b'{"question": "' + b"x" * MAX_LINE_BYTES + b'"}\n', "line 2: it is longer than 1,048,576 bytes"),
        (b"x" * (3 * MAX_LINE_BYTES), "line 2: it is longer than 1,048,576 bytes"),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_a_bad_line_is_named_before_anything_is_returned(tmp_path: Path, line: bytes, message: str) -> None:
    path = file_of(tmp_path, GOOD + line + b'{"question": "later"}\n')
    with pytest.raises(TaskError, match=message) as caught:
        read_tasks_jsonl(path)  # refused by the call, not by the first `next`
    assert str(path) in str(caught.value)
    assert str(caught.value).rstrip().endswith(".")


@pytest.mark.parametrize("reader", [read_tasks_jsonl, read_gsm8k, read_math500])
def test_what_is_no_readable_file_is_refused(tmp_path: Path, reader: Callable[[Path], Iterator[BenchmarkTask]]) -> None:
    with pytest.raises(TaskError, match=r"no file .*missing\.jsonl"):
        list(reader(tmp_path / "missing.jsonl"))
    with pytest.raises(TaskError, match="is a folder"):
        list(reader(tmp_path))
    with pytest.raises(TaskError, match="cannot be read"):
        list(reader(tmp_path / "a\0b"))
    for content in (b"", b"\xef\xbb\xbf", b"\n \n"):
        with pytest.raises(TaskError, match="holds no task"):
            list(reader(file_of(tmp_path, content)))


def test_a_pipe_is_refused_since_it_can_be_read_once_only(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TaskError, match="Save them to a file"):
        read_tasks_jsonl(tmp_path / "pipe")


# ---- good files -------------------------------------------------------------------------------------------------


def test_tasks_come_with_their_place_their_gold_and_an_id(tmp_path: Path) -> None:
    lines = (
        b'\xef\xbb\xbf{"question": "q1", "answer": 0.10, "extra": {"kept": false}}\r\n'
        b"\n"
        b'{"task": "q2\\r\\nq2", "gold": 7, "task_id": "second", "domain": "chain"}\n'
        b'{"question": "caf\xc3\xa9", "answer": null, "id": 3}'
    )
    assert list(read_tasks_jsonl(file_of(tmp_path, lines))) == [
        BenchmarkTask("tasks.jsonl:1", "q1", "0.10", "tasks.jsonl", 1),
        BenchmarkTask("second", "q2\nq2", "7", "tasks.jsonl", 3, "chain"),
        BenchmarkTask("3", "caf\u00e9", None, "tasks.jsonl", 4),
    ]


def test_tasks_are_streamed_and_not_collected(tmp_path: Path) -> None:
    content = b"".join(b'{"question": "q%06d"}\n' % number for number in range(50_000))
    path = file_of(tmp_path, content)
    tasks = read_tasks_jsonl(path)
    assert next(tasks).question == "q000000"
    path.write_bytes(content[: len(content) // 2 + 9])  # cut in the middle of a line that was not read yet
    with pytest.raises(TaskError, match="line 25001: it is not valid JSON"):
        list(tasks)


def test_gsm8k_golds_stand_after_the_mark_without_commas(tmp_path: Path) -> None:
    record = {"question": "How many?", "answer": "7 * 300 = <<7*300=2100>>2100\n#### 2,100"}
    path = file_of(tmp_path, json.dumps(record).encode())
    assert list(read_gsm8k(path)) == [BenchmarkTask("gsm8k/tasks/1", "How many?", "2100", "tasks.jsonl", 1)]
    for answer in ("2100", "2100 ####"):
        path = file_of(tmp_path, json.dumps(record | {"answer": answer}).encode())
        with pytest.raises(TaskError, match="line 1: its answer has no '####"):
            list(read_gsm8k(path))


def test_math500_is_read_as_an_array_and_as_json_lines(tmp_path: Path) -> None:
    array = [{"prompt": "p", "answer": "\\frac{1}{2}", "source": "math", "id": "test/algebra/1.json"}]
    path = file_of(tmp_path, json.dumps(array, indent=2).encode())
    assert list(read_math500(path)) == [BenchmarkTask("test/algebra/1.json", "p", "\\frac{1}{2}", "tasks.jsonl", 1)]
    rows = [
        {"problem": "p", "solution": "so $\\boxed{3}$.", "answer": "3", "unique_id": "u1"},
        {"problem": "p", "solution": "so $\\boxed{\\frac{1}{2}}$."},
    ]
    path = file_of(tmp_path, "\n".join(json.dumps(row) for row in rows).encode())
    assert [(task.task_id, task.gold) for task in read_math500(path)] == [("u1", "3"), ("math/tasks/2", "\\frac{1}{2}")]


def test_math500_records_are_refused_by_position(tmp_path: Path) -> None:
    good = {"prompt": "p", "answer": "1", "id": "a"}
    for bad, message in (
        ("p", "line 2: it is a text, not an object"),
        ({"prompt": "p", "id": "b"}, "line 2: the key 'solution' is missing"),
        ({"prompt": "p", "solution": "cut \\boxed{3", "id": "b"}, "line 2: it has no gold answer"),
        (good, "line 2: its id 'a' was used in line 1"),
    ):
        with pytest.raises(TaskError, match=message):
            list(read_math500(file_of(tmp_path, json.dumps([good, bad]).encode())))
    with pytest.raises(TaskError, match="line 1: it is not valid JSON"):
        list(read_math500(file_of(tmp_path, b'[{"prompt": "p"')))


def test_the_public_files_are_read_whole() -> None:
    for reader, name, count in (
        (read_gsm8k, "gsm8k_test.jsonl", 1_319),
        (read_gsm8k, "gsm8k_train.jsonl", 7_473),
        (read_math500, "math500_ttrl.json", 500),
        (read_math500, "math_test_tora.jsonl", 5_000),
    ):
        tasks = list(reader(public_file(name)))
        assert len(tasks) == count
        assert all(task.gold for task in tasks)
