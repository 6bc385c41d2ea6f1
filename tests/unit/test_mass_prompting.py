"""Questions go in as they are, and what comes back is read strictly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mass_gov.errors import ModelError
from mass_gov.mass.prompting import (
    GENERIC_CHAT,
    GENERIC_PLAIN,
    ParsedSample,
    PromptTemplate,
    Unparseable,
    parse_answer,
    parse_sample,
    read_template,
)
from tests.fakes.tiny_models import TEMPLATE

CHARACTER = PromptTemplate(solve="Q {question}\nA ", practise="T {question}\nP ", separator="\nA ", marker="#")
SCRATCH = replace(CHARACTER, scratch="\nW ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("3+4", "no-separator"),
        ("", "no-separator"),
        ("3+4\nA 7#7\nA 7#7", "second-separator"),
        (" \nA 7#7", "no-question"),
        ("3+4\nA 7", "no-marker"),
        ("3+4#7\nA 7", "no-marker"),
        ("3+4\nA 7#", "no-answer"),
        ("3+4\nA 7# \n", "no-answer"),
    ],
)
def test_a_sample_that_is_not_exactly_in_form_gets_its_reason(text: str, reason: str) -> None:
    assert parse_sample(text, CHARACTER) == Unparseable(reason)


def test_a_sample_whose_budget_ran_out_is_never_read_as_if_it_were_whole() -> None:
    assert parse_sample("3+4\nA 7#7", CHARACTER, finished=False) == Unparseable("unfinished")


def test_the_answer_is_what_follows_the_last_marker_and_the_solution_is_kept_as_written() -> None:
    assert parse_sample("3#4 \nA #4 is 7 # 7 ", CHARACTER) == ParsedSample("3#4", "#4 is 7 # 7 ", "7")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("3+4\nW w", "no-separator"),
        ("3+4\nW w\nA 7#7\nA 7#7", "second-separator"),
        ("3+4\nW w\nW v\nA 7#7", "second-scratch"),
        ("3+4\nW  \nA 7#7", "empty-scratch"),
        ("3+4\nW \nA 7#7", "empty-scratch"),
        ("3+4\nA 7\nW w#7", "scratch-after-separator"),
        ("3+4\nW w\nA 7\nW v#7", "scratch-after-separator"),
        (" \nW w\nA 7#7", "no-question"),
        ("\nW w\nA 7#7", "no-question"),
        ("3+4\nW w#7\nA 7", "no-marker"),
        ("3+4\nW w\nA 7#", "no-answer"),
    ],
)
def test_a_sample_with_scratch_working_is_read_as_strictly(text: str, reason: str) -> None:
    assert parse_sample(text, SCRATCH) == Unparseable(reason)


def test_scratch_working_is_no_part_of_the_pair_that_is_trained_on() -> None:
    shown = parse_sample("3+4 \nW three#3, four\nA 3+4=7#7", SCRATCH)
    assert shown == ParsedSample("3+4", "3+4=7#7", "7", scratch="three#3, four")
    assert parse_sample("3+4\nA 3+4=7#7", SCRATCH) == ParsedSample("3+4", "3+4=7#7", "7")


def test_without_scratch_in_the_template_its_mark_is_ordinary_text() -> None:
    assert parse_sample("3+4\nW w\nA 7#7", CHARACTER) == ParsedSample("3+4\nW w", "7#7", "7")


def test_scratch_changes_what_is_read_and_not_how_problems_are_put() -> None:
    assert SCRATCH.solve_prompt("1") == CHARACTER.solve_prompt("1")
    assert SCRATCH.practise_prompt("1") == CHARACTER.practise_prompt("1")
    assert json.loads(SCRATCH.to_json()) == json.loads(CHARACTER.to_json()) | {"scratch": "\nW "}


def test_an_answer_without_marker_is_no_answer() -> None:
    assert parse_answer("7", CHARACTER) is None
    assert parse_answer("#", CHARACTER) is None
    assert parse_answer("working#8# 7", CHARACTER) == "7"


def test_braces_in_a_question_are_only_text() -> None:
    assert CHARACTER.solve_prompt("{0} {question}") == "Q {0} {question}\nA "


def test_a_folder_without_a_template_gets_the_generic_one(tmp_path: Path) -> None:
    assert read_template(tmp_path, chat=False) is GENERIC_PLAIN
    assert read_template(tmp_path, chat=True) is GENERIC_CHAT


def test_a_template_survives_its_own_json(tmp_path: Path) -> None:
    for template in (CHARACTER, SCRATCH, GENERIC_PLAIN, GENERIC_CHAT):
        (tmp_path / "prompt_template.json").write_bytes(template.to_json())
        assert read_template(tmp_path, chat=False) == template


def test_the_template_is_written_as_canonical_json() -> None:
    assert CHARACTER.to_json() == json.dumps(TEMPLATE, separators=(",", ":"), sort_keys=True).encode()


@pytest.mark.parametrize(
    "change",
    [
        {"solve": "Q "},
        {"practise": "T "},
        {"marker": ""},
        {"separator": None},
        {"stop": "x"},
        {"stop": [""]},
        {"chat": 1},
        {"scratch": 1},
        {"scratch": None},
        {"scratch": "A"},
        {"scratch": "\nA \n"},
        {"unknown": "x"},
    ],
)
def test_a_template_with_a_wrong_value_or_key_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "prompt_template.json").write_text(json.dumps(TEMPLATE | change))
    with pytest.raises(ModelError, match=r"prompt.template"):
        read_template(tmp_path, chat=False)


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff"])
def test_a_template_that_is_not_a_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "prompt_template.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"is not a prompt template"):
        read_template(tmp_path, chat=False)
