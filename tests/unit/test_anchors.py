"""Anchors: what a pool may hold, that the shipped one is of the training splits, and that a file is read whole."""

from __future__ import annotations

import json

import pytest

from mass_gov.errors import TaskError
from mass_gov.stages.anchors import MOST, how_many
from mass_gov.tasks.anchors import Anchor, parse_pool, shipped_pool
from mass_gov.tasks.domains.base import in_suite_bucket
from mass_gov.tasks.registry import domain, recognise, sample_tasks
from mass_gov.tasks.shipped_suites import questions_of, suite_names

GOOD = {"question": "2+5", "working": "", "answer": "7"}


def test_no_anchor_is_held_out_or_a_suites_question() -> None:
    suite = questions_of(tuple(suite_names()))
    for anchor in shipped_pool().anchors:
        source = domain(recognise(anchor.question) or "")
        assert source.split_of(source.read(anchor.question)) in ("easy", "meta")
        assert not in_suite_bucket(anchor.question) and anchor.question not in suite
        assert anchor.answer == source.answer(source.read(anchor.question))
    hard = {task.question for task in sample_tasks(600, 1)}
    assert not hard & {anchor.question for anchor in shipped_pool().anchors}


def test_an_anchor_is_worked_out_in_a_models_own_notation() -> None:
    for task in sample_tasks(60, 1):
        anchor = Anchor.of(task)
        assert anchor.solution("#") == task.solution
        assert anchor.solution(" Answer: ") == " Answer: ".join(task.solution.rsplit("#", 1))


def test_the_shipped_pool_is_the_same_everywhere() -> None:
    """Records name it by this digest: another pool is another release's."""
    pool = shipped_pool()
    assert (pool.digest, len(pool.anchors)) == (
        "2f6166ee34a27b845565418a6bca3084576e98d432d7bf05efca7d3773838051",
        192,
    )


def test_a_seed_gives_every_anchor_once_and_another_seed_another_order() -> None:
    pool = shipped_pool()
    first, again, other = (list(pool.in_order_of(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(first, key=repr) == sorted(pool.anchors, key=repr)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "1 to"),
        (b"not json", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"question": "2+5", "answer": "7"}', "exactly"),
        (json.dumps({**GOOD, "weight": 9}).encode(), "exactly"),
        (json.dumps({**GOOD, "answer": 7}).encode(), "exactly"),
        (json.dumps({**GOOD, "answer": " "}).encode(), "empty"),
        (b"[1]", "exactly"),
    ],
)
def test_a_file_that_is_not_a_pool_is_refused_with_its_line(line: bytes, said: str) -> None:
    with pytest.raises(TaskError, match=said) as refused:
        parse_pool(json.dumps(GOOD).encode() + b"\n" + line if line else line, "mine")
    assert str(refused.value).startswith("mine" + (", line 2" if line else ""))


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.25, 8), (0.5, 24), (0.9, MOST), (1.0, MOST)])
def test_as_many_anchors_as_make_one_weigh_what_a_sample_weighs(share: float, count: int) -> None:
    assert how_many(24, share) == count
