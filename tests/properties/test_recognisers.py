"""Recognisers: what they find wherever it stands, what they do not mistake for it, and that no text delays them."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mass_gov.policy.sample_gates import personal_data, recognising, secrets
from mass_gov.policy.sample_gates.recognising import Recogniser, hits
from mass_gov.tasks.registry import sample_tasks

ALL: tuple[Recogniser, ...] = (*personal_data.RECOGNISERS, *secrets.RECOGNISERS)
ALPHANUMERIC = string.ascii_letters + string.digits


def found(text: str) -> list[str]:
    tables = (personal_data.RECOGNISERS, secrets.RECOGNISERS)
    return [hit.kind for table in tables for hit in hits(text, table)]


PERSONAL = {
    "e-mail address": ["anna.smith+news@mail.example.co.uk", "x_1@a-b.example", "Ünal@example.de"],
    "telephone number": ["+49 30 901820", "+1 (415) 555-2671", "+442079460958", "(415) 555-2671", "415-555-2671"],
    "IBAN": ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "FR1420041010050500013M02606"],
    "payment card": ["4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "6011111111111117"],
    "IP address": ["192.0.2.44", "2001:db8:85a3:0:0:8a2e:370:7334", "fe80:0:0::2:1:3", "2001:db8::1", "fd00::a:1"],
    "US social security number": ["219-09-9999"],
    "UK national insurance number": ["QQ 12 34 56 C".replace("QQ", "AB"), "AB123456C"],
    "Spanish identity number": ["12345678Z", "X-1234567-L"],
    "Brazilian taxpayer number": ["529.982.247-25"],
    "Italian tax code": ["RSSMRA85T10A562S"],
}
SECRET = {
    "private key": [
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----",
    ],
    "AWS access key": ["AKIA" + "IOSFODNN7EXAMPLE", "ASIA" + "J5Q7K2M3N4P6R7S2"],
    "GitHub token": ["ghp_" + "aB3" * 12, "github_pat_" + "Zz9_" * 20],
    "GitLab token": ["glpat-" + "aB3-xY_9" * 3],
    "Slack token": ["xoxb-" + "123456789012-abcDEF"],
    "Slack webhook": ["hooks.slack.com/services/T00000000/B00000000/" + "XyZ4" * 6],
    "JSON web token": ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N"],
    "Google API key": ["AIza" + "SyA" + "b3D4" * 8],
    "Stripe key": ["sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"],
    "model provider key": ["sk-" + "aB3dE5gH7jK9mN1pQ3sT", "sk-ant-api03-" + "aB3dE5gH7jK9mN1pQ3sT"],
    "Hugging Face token": ["hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH"],
    "package registry token": ["npm_" + "aB3" * 12],
    "SendGrid key": ["SG." + "aB3dE5gH7jK9mN1p" + "." + "qR5tU7wX9zA1cD3e"],
    "bot token": ["110201543:AA" + "HdqTcvCH1vGWJxfSeofSAs0K5PALDsawE"[:33]],
    "password in an address": ["postgresql://anna:correct-horse@db.example/x"],
    "assigned password": ["password = hunter2hunter2", "api_key: 'zx81-spectrum'"],
    "high-entropy hexadecimal": ["9f86d081884c7d659a2feaa0c55ad015"],
    "high-entropy text": ["q7Rk2Zp9Wx4Tn8Vb3Lm6Jc1Hd"],
}
KNOWN = [(kind, text) for table in (PERSONAL, SECRET) for kind, texts in table.items() for text in texts]


@pytest.mark.parametrize(("kind", "text"), KNOWN)
def test_what_is_known_is_found_wherever_it_stands(kind: str, text: str) -> None:
    assert {one.kind for one in ALL} == PERSONAL.keys() | SECRET.keys()
    for around in ("{}", "My own: {}.", "({})", "the value {} was sent", '"{}",', "a\n{}\nb"):
        assert kind in found(around.format(text)), around


@pytest.mark.parametrize(("kind", "text"), KNOWN)
def test_invisible_characters_and_full_width_forms_hide_nothing(kind: str, text: str) -> None:
    middle = len(text) // 2
    assert kind in found(f"{text[:middle]}\u200b{text[middle:]}")
    wide = "".join(chr(ord(c) + 0xFEE0) if c in string.digits else c for c in text)
    assert kind in found(wide)


@pytest.mark.parametrize("name", ["personal_data", "secrets"])
@pytest.mark.parametrize(("kind", "text"), KNOWN)
def test_a_detail_says_kind_and_place_and_never_what_stands_there(kind: str, text: str, name: str) -> None:
    from tests.unit.test_sample_gates import sample

    table = personal_data.RECOGNISERS if name == "personal_data" else secrets.RECOGNISERS
    finding = recognising.look(sample(0, f"use {text} here"), table)
    if finding.value:
        assert "question 4" in finding.detail or "at question" in finding.detail
    pieces = [piece for piece in text.replace("-", " ").split() if len(piece) > 4 and not piece.isalpha()]
    assert not any(piece in finding.detail for piece in pieces)


CHECKED: list[tuple[str, Callable[[random.Random], str]]] = [
    ("IBAN", lambda r: "DE89 3704 0044 0532 0130 " + f"{r.randrange(1, 97):02d}"),
    ("payment card", lambda r: "4111 1111 1111 111" + str(r.choice("023456789"))),
    ("Spanish identity number", lambda r: "12345678" + r.choice("ABCDEFGHJKLMNPQRSTVWXY")),
    ("Brazilian taxpayer number", lambda r: "529.982.247-" + f"{r.choice([x for x in range(100) if x != 25]):02d}"),
    ("Italian tax code", lambda r: "RSSMRA85T10A562" + r.choice("ABCDEFGHIJKLMNOPQRTUVWXYZ")),
]


@pytest.mark.parametrize(("kind", "write"), CHECKED)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_numbers_whose_check_digits_do_not_agree_are_numbers(
    kind: str, write: Callable[[random.Random], str], seed: int
) -> None:
    assert kind not in found(f"take {write(random.Random(seed))} away")


@given(st.text(ALPHANUMERIC, min_size=36, max_size=36))
@settings(max_examples=100, deadline=None)
def test_any_github_token_is_found_inside_a_sentence(token: str) -> None:
    assert "GitHub token" in found(f"Add ghp_{token} and 3.")


@given(st.integers(0, 10**15), st.integers(1, 97))
@settings(max_examples=100, deadline=None)
def test_luhn_finds_every_changed_digit(number: int, change: int) -> None:
    digits = str(number)
    check = next(d for d in string.digits if personal_data.luhn(digits + d))
    whole = digits + check
    place = change % len(whole)
    other = str((int(whole[place]) + 1 + change % 9) % 10)
    assert other == whole[place] or not personal_data.luhn(whole[:place] + other + whole[place + 1 :])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("US social security number", "SSN=123-45-6789"),
        ("US social security number", "Social Security Number = 123-45-6789"),
        ("US social security number", "customer_ssn := 123-45-6789 + 1"),
        ("US social security number", "<ssn>123-45-6789</ssn>"),
        ("payment card", "card = 4111 1111 1111 1111"),
        ("payment card", "Card number=4111-1111-1111-1111"),
        ("payment card", "cc=378282246310005"),
        ("telephone number", "phone=+4930901820"),
        ("telephone number", "tel = (415) 555-2671"),
        ("telephone number", "mobile no.=415-555-2671"),
        ("IP address", "ip = 10.0.0.1"),
        ("IP address", "server_ip=10.0.0.1"),
        ("IP address", "IP address = 10.0.0.1"),
        ("IP address", "host=[2001:db8::1]:443"),
        ("IP address", "route 10.1.0.0/16"),
        ("IP address", "route 2001:db8::/32"),
    ],
)
def test_what_is_assigned_to_its_name_is_no_calculation(kind: str, text: str) -> None:
    assert found(text) == [kind]


# --- mathematics is full of digits ---

PLAIN = [
    "What is 500-200-1000?",
    "Compute 219-09-9999",
    "What is 123-45-6789?",
    "x = 415-555-2671",
    "1.5 + 2.25 - 3.125",
    "1.2.3.4 + 1",
    "3@0@1",
    "02 14 23 35 46 50 61: 6@6@3",
    "2x + 13 = 5x +12345678",
    "(300) + 200-1000",
    "4111111111111111 + 1 = ?",
    "3.14159265358979323846264338327950288",
    "1234567890 * 9876543210 = 12193263111263526900",
    "f(g(h(x+y)))*sin(theta)+cos(theta)^2-sqrt(12345)",
    "The least common multiple of 12, 18 and 30 is 180.",
    "Anna has 3 apples and Ben 14; the secret is patience.",
    "let numberOfApplesInTheLargestBasket = 12",
    "Ratio 1:2:3:4 of 50",
    r"\frac{1}{2}\cdot\sum_{i=1}^{n} i^2 = \frac{n(n+1)(2n+1)}{12}",
    "7>31 9>39 3>15 8>?",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ has 26 letters",
    "0xFF + 0x10",
    "sk-1 + sk-2 = sk-3",
    "user@home",
    "10.5.2024",
    "total = 415-555-2671",
    "card(A) = 219-09-9999",
    "scarcity = 219-09-9999",
    "number = 4111111111111111",
    "Ratio 1:2:3:4:5:6:7:8 of 72",
    "Ratio 1::2",
    "at 12:30::45",
    "std::vector a::b dead::beef",
]


@pytest.mark.parametrize("text", PLAIN)
def test_mathematics_is_not_mistaken_for_a_person(text: str) -> None:
    assert found(text) == []


def test_no_generated_task_is_mistaken() -> None:
    tasks = [task for split in ("easy", "meta", "hard") for task in sample_tasks(600, 5, split=split)]
    assert [task for task in tasks if found(task.question) or found(task.solution) or found(task.scratch)] == []


@given(
    st.recursive(
        st.integers(0, 10**12).map(str),
        lambda inner: st.builds("({}{}{})".format, inner, st.sampled_from("+-*/"), inner),
    )
)
@settings(max_examples=300, deadline=None)
def test_no_expression_of_whole_numbers_is_mistaken(expression: str) -> None:
    assert found(f"What is {expression}?") == []


# --- time: each of these runs for minutes where a pattern backtracks ---

REPEATED = [
    "a",
    "1",
    "1 ",
    "a@",
    "a.",
    "1.",
    "+1",
    "(2",
    "A1",
    "eyJ",
    "eyJa.",
    "sk-a-",
    "-----BEGIN A ",
    "x:y@",
    "://",
    "1:",
    "::",
    "a:",
    "2001:db8::",
    "ssn=",
    "card number = ",
]


@pytest.mark.parametrize("piece", [*REPEATED, "password=", "f", "é", "\u200b", "-", "xox", "12-", "123 ", "A12 "])
def test_no_text_delays_the_gate(piece: str) -> None:
    hits(piece * (200_000 // len(piece)), ALL)
    hits(piece * 50_000 + "@", ALL)


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_and_every_hit_lies_in_it(text: str) -> None:
    read = recognising.as_read(text)
    for hit in hits(text, ALL):
        assert 0 <= hit.start < hit.end <= len(read)


PIECES = st.one_of(
    st.sampled_from([text for _, text in KNOWN]),
    st.text(alphabet="0123456789+-.:@()/ ", max_size=18),
    st.text(alphabet="ABXYZabfx0123456789_", max_size=34),
    st.text(max_size=6),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=5).map("".join))
def test_no_text_is_passed_over_in_which_anything_stands(text: str) -> None:
    read = recognising.as_read(text)
    for one in ALL:
        assert one.may_find(read) or one.pattern.search(read) is None, one.kind
    thorough = [replace(one, least=0, needs="") for one in ALL]
    assert hits(text, ALL) == hits(text, thorough)


@pytest.mark.parametrize("one", [one for one in ALL if one.needs], ids=lambda one: one.kind)
def test_without_what_it_needs_a_recogniser_finds_nothing(one: Recogniser) -> None:
    finds = [text for kind, text in KNOWN if kind == one.kind]
    assert any(one.pattern.search(text) for text in finds)
    assert not any(one.pattern.search(text.translate(dict.fromkeys(map(ord, one.needs), " "))) for text in finds)
