"""Where two records of one change part: the first place, both values, and how far apart two deltas lie."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from mass_gov.flows.replay_difference import delta_difference, distance, first_difference

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def floats(*values: float) -> Any:
    return np.array(values, dtype=np.float32)


def folder(config: bytes = b"{}", **tensors: Any) -> dict[str, bytes]:
    return {CONFIG: config, WEIGHTS: save(tensors)}


def sample(**fields: Any) -> dict[str, Any]:
    return {"seed": "1", "tokens": [5, 6, 7], "text": "abc"} | fields


def test_documents_that_say_the_same_have_no_difference() -> None:
    document = {"samples": [sample()], "summary": {"kept": 1, "scorer": None}}
    assert first_difference(document, json.loads(json.dumps(document))) is None


@pytest.mark.parametrize(
    ("tokens", "at", "recorded", "recomputed"),
    [
        ([5, 9, 7], {"sample": 1, "token": 1}, 9, 6),
        ([5, 6], {"sample": 1, "token": 2}, None, 7),
        ([5, 6, 7, 8], {"sample": 1, "token": 3}, 8, None),
    ],
)
def test_the_first_token_that_is_another_is_named_with_both(
    tokens: list[int], at: dict[str, int], recorded: int | None, recomputed: int | None
) -> None:
    was = {"samples": [sample(), sample(tokens=tokens, text="later"), sample(seed="9")]}
    found = first_difference(was, {"samples": [sample(), sample(), sample()]})
    assert found is not None and (found.document()["at"], found.field) == (at, "tokens")
    assert (found.recorded, found.recomputed) == (recorded, recomputed)


def test_a_sample_that_only_one_side_has_is_named() -> None:
    found = first_difference({"samples": [sample(), sample()]}, {"samples": [sample()]})
    assert found is not None
    assert (found.at, found.recorded, found.recomputed) == ((("sample", 1),), "present", None)


def test_what_has_a_name_is_called_by_it_and_a_nested_field_by_its_path() -> None:
    gate = {"gate": "sample.near_duplicate", "value": 0.25, "verdict": "pass"}
    was = {"samples": [{"score": 1.0, "gates": [gate]}], "summary": {"kept": 1}}
    found = first_difference(
        was, {"samples": [{"score": 1.0, "gates": [gate | {"value": 0.5}]}], "summary": {"kept": 1}}
    )
    assert found is not None
    assert str(found) == "sample 0, gate sample.near_duplicate: value 0.25 is recorded, 0.5 was computed"
    found = first_difference(was, was | {"summary": {"kept": 2}})
    assert found is not None and str(found) == "summary.kept 1 is recorded, 2 was computed"


def test_a_case_is_shown_with_its_outcome_and_its_answer() -> None:
    outcomes = {state: {"right": True, "answer": "7"} for state in ("base", "before", "after")}
    was = {"cases": [{"case_id": "core-1", **outcomes}]}
    now = {"cases": [{"case_id": "core-1", **outcomes, "after": {"right": False, "answer": None}}]}
    found = first_difference(was, now)
    assert found is not None and (found.at, found.field) == ((("case", "core-1"),), "after")
    assert (found.recorded, found.recomputed) == ({"right": True, "answer": "7"}, {"right": False, "answer": None})


def test_a_case_that_another_stands_in_the_place_of_is_told_by_both_names() -> None:
    found = first_difference({"cases": [{"case_id": "a"}]}, {"cases": [{"case_id": "b"}]})
    assert found is not None and (found.at, found.field) == ((("case", 0),), "case_id")
    assert (found.recorded, found.recomputed) == ("a", "b")


def test_a_long_value_is_cut_for_people_and_whole_in_the_document() -> None:
    found = first_difference({"text": "a" * 500}, {"text": None})
    assert found is not None and len(str(found)) < 120 and "nothing was computed" in str(found)
    assert found.document()["recorded"] == "a" * 500


def as_float(bits: int) -> float:
    (value,) = struct.unpack("<f", struct.pack("<I", bits))
    return float(value)


@pytest.mark.parametrize(
    ("one", "other", "steps"),
    [
        (1.0, 1.0, 0),
        (1.0, as_float(0x3F800001), 1),
        (as_float(0x3F7FFFFF), as_float(0x3F800001), 2),
        (-1.0, as_float(0xBF800001), 1),
        (0.0, -0.0, 1),
        (as_float(1), as_float(0x80000001), 3),
        (0.0, as_float(0x00800000), 0x00800000),
        (float("inf"), as_float(0x7F7FFFFF), 1),
    ],
)
def test_ulp_counts_the_steps_along_all_float32_values(one: float, other: float, steps: int) -> None:
    for pair in ((one, other), (other, one)):
        found = distance(floats(pair[0]), floats(pair[1]))
        assert (found.max_ulp, found.differing) == (steps, int(steps > 0))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_ulp_is_zero_exactly_where_the_bits_are_equal(one: int, other: int) -> None:
    sides = [np.array([bits], dtype=np.uint32).view(np.float32) for bits in (one, other)]
    assert (distance(*sides).max_ulp == 0) == (one == other)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(1, 50))
def test_ulp_agrees_with_walking_there(begin: float, steps: int) -> None:
    here = np.float32(begin)
    with np.errstate(over="ignore"):
        for _ in range(steps):
            here = np.nextafter(here, np.float32(np.inf))
    passes_zero = bool(np.signbit(np.float32(begin)) and not np.signbit(here))  # nextafter knows one zero only
    expected = 0 if np.isinf(np.float32(begin)) else steps
    if not np.isinf(here):
        assert distance(floats(begin), np.array([here])).max_ulp == expected + passes_zero


def test_distances_are_those_of_the_numbers() -> None:
    found = distance(floats(3.0, 4.0, 0.0), floats(3.0, 0.0, 4.0))
    assert (found.numbers, found.differing, found.max_abs) == (3, 2, 4.0)
    assert found.cosine == pytest.approx(9 / 25)
    assert distance(floats(0.0), floats(1.0)).cosine is None
    assert distance(floats(float("nan"), 1.0), floats(1.0, 1.0)).max_abs is None
    json.dumps(delta_difference(folder(a=floats(float("nan"))), folder(a=floats(1.0))).document(), allow_nan=False)  # type: ignore[union-attr]


def test_the_first_tensor_by_name_is_measured_and_so_is_the_whole_delta() -> None:
    was = folder(z=floats(1.0, 1.0), b=floats(1.0, 2.0, 3.0), a=floats(1.0))
    now = folder(z=floats(1.0, 9.0), b=floats(1.0, as_float(0x40000002), 3.0), a=floats(1.0))
    assert delta_difference(was, dict(was)) is None
    found = delta_difference(was, now)
    assert found is not None and found.at == (("tensor", "b"), ("number", 1))
    assert (found.recorded, found.recomputed) == (2.0, as_float(0x40000002))
    assert found.tensor is not None and (found.tensor.max_ulp, found.tensor.differing) == (2, 1)
    assert found.delta is not None and (found.delta.numbers, found.delta.max_abs) == (6, 8.0)
    assert "tensor b" in str(found) and "whole delta" in str(found)


def test_another_shape_name_or_file_is_a_difference_of_its_own() -> None:
    was = folder(a=floats(1.0), b=floats(1.0))
    for now, at, field in (
        (folder(a=floats(1.0), b=floats(1.0, 2.0)), (("tensor", "b"),), "shape"),
        (folder(a=floats(1.0)), (("tensor", "b"),), "shape"),
        (folder(b'{"r":2}', a=floats(1.0), b=floats(1.0)), (("file", CONFIG),), "bytes"),
        ({CONFIG: b"{}"}, (("tensor", "a"),), "shape"),
        (was | {WEIGHTS: b"no tensors"}, (("file", WEIGHTS),), "bytes"),
        (folder(a=floats(1.0), b=np.array([1], dtype=np.int32)), (("file", WEIGHTS),), "bytes"),
    ):
        found = delta_difference(was, now)
        assert found is not None and (found.at, found.field) == (at, field), now
