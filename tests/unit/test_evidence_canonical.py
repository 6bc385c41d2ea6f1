"""One value, one byte string: what RFC 8785 cannot say is refused, and what it would have said otherwise too."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.canonical import canonical_bytes, parse_canonical, sha256_hex

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1.0, math.nan]}, "$.a[1]"),
        ({"a": math.inf}, "$.a"),
        ({"n": 2**53}, "$.n"),
        ([-(2**53)], "$[0]"),
        ({"x": {1: "one"}}, "$.x"),
        ({"s": "\ud800"}, "$.s"),
        ({"b": b"bytes"}, "$.b"),
        ({"s": {1, 2}}, "$.s"),
    ],
)
def test_a_value_without_canonical_form_is_refused_and_its_place_named(value: object, place: str) -> None:
    with pytest.raises(InputError) as caught:
        canonical_bytes(value)
    assert place in str(caught.value)


@given(JSON_VALUES)
def test_the_quick_way_writes_what_rfc8785_writes(value: Any) -> None:
    assert canonical_bytes(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("key", ["\ue000", "\uffff", "\U0001f600", "é", "\x7f", "\x1f", "a/b", "</script>"])
def test_keys_sort_by_utf_16_whichever_way_is_taken(key: str) -> None:
    value = {key: 1, "\U00010000": 2, "\uff5e": 3, "a": 4}
    assert canonical_bytes(value) == rfc8785.dumps(value)
    assert canonical_bytes({key: 1, "a": 4}) == rfc8785.dumps({key: 1, "a": 4})


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(InputError, match="nested"):
        canonical_bytes(value)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e400}',
        b'{"a":1.0}',
        b'{"a":-0}',
        b'{"a":"\\u0061"}',
        b'{"a":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        b"{}\n",
        b"",
        b"[" * 100_000 + b"]" * 100_000,
        b"1" * 5000,
    ],
)
def test_bytes_that_this_project_would_have_written_otherwise_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        parse_canonical(data)


@given(JSON_VALUES)
def test_what_is_written_is_read_back_and_written_the_same(value: Any) -> None:
    data = canonical_bytes(value)
    again = parse_canonical(data)
    assert canonical_bytes(again) == data
    assert again == value
    assert json.loads(data, parse_int=float) == value  # a reader with doubles only, as RFC 8785 assumes


def test_a_large_float_survives_although_it_is_written_like_an_integer() -> None:
    data = canonical_bytes({"flops": 1e20})
    assert data == b'{"flops":100000000000000000000}'
    value = parse_canonical(data)
    assert value == {"flops": 1e20}


def test_keys_are_ordered_by_utf16_and_numbers_written_as_ecmascript_does() -> None:
    # RFC 8785, section 3.2.3 (key order) and appendix B (numbers).
    ordered = canonical_bytes({"\ufb33": 1, "\U0001f600": 2, "\u20ac": 3}).decode()
    assert ordered == '{"\u20ac":3,"\U0001f600":2,"\ufb33":1}'
    assert (
        canonical_bytes([333333333.33333329, 1e30, 4.50, 2e-3, 1e-27]) == b"[333333333.3333333,1e+30,4.5,0.002,1e-27]"
    )


def test_sha256_is_lowercase_hex() -> None:
    assert sha256_hex(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("data", [b"1" + b"0" * 400, b'{"index":1' + b"0" * 400 + b"}", b"[-1" + b"0" * 4000 + b"]"])
def test_a_number_that_no_float_holds_is_not_canonical(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        parse_canonical(data)


def test_a_number_that_no_float_holds_is_not_written() -> None:
    with pytest.raises(InputError):
        canonical_bytes({"n": 10**400})
