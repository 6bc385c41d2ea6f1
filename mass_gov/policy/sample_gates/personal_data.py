"""Data that points at a person: e-mail, telephone, account, card, network address and national numbers.

Numbers are taken for what they look like only where their own check digits agree, or where nothing says that they are
part of a calculation; generated mathematics is full of digits. Names and street addresses are not recognised: that
takes a model, and a gate that guesses would either miss them or drop word problems about Anna's apples.
"""

from __future__ import annotations

import ipaddress
import re

from mass_gov.policy.sample_gates.finding import About, Finding
from mass_gov.policy.sample_gates.recognising import Recogniser, arithmetic, look, named
from mass_gov.records.artifacts import SampleContent


def personal_data(sample: SampleContent, about: About) -> Finding | None:
    """No recogniser finds anything in question or solution."""
    return None if about.gates.sample_personal_data == "unused" else look(sample, RECOGNISERS)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B: the check digit of card numbers."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


def iban_holds(iban: str) -> bool:
    """ISO 13616: the country's length where it is known, and the remainder 1 modulo 97."""
    compact = iban.replace(" ", "").upper()
    known = _IBAN_LENGTHS.get(compact[:2])
    turned = "".join(str(int(letter, 36)) for letter in compact[4:] + compact[:4])
    return (known is None or len(compact) == known) and 15 <= len(compact) <= 34 and int(turned) % 97 == 1


def _card(match: re.Match[str]) -> bool:
    digits = re.sub(r"[ -]", "", match.group())
    return _ISSUERS.match(digits) is not None and len(set(digits)) > 1 and luhn(digits) and not arithmetic(match)


def _phone(match: re.Match[str]) -> bool:
    digits = sum(map(str.isdigit, match.group()))
    before = match.string[: match.start()].rstrip(" ")
    # After a number, a variable, a bracket or an equals sign the plus is an operator.
    operand = before[-1:].isdigit() or before[-1:] in tuple(")=*/^+-") or _VARIABLE.search(before[-2:]) is not None
    return 8 <= digits <= 15 and (named(match) or not operand)


def _address(match: re.Match[str]) -> bool:
    """An address that somebody can have: 1:2:3:4:5:6:7:8 and 12:30::45 are in ranges that nobody was given."""
    try:
        address = ipaddress.ip_interface(match.group()).ip
    except ValueError:
        return False
    if address.is_unspecified or address.is_loopback:
        return False
    return not address.is_reserved if address.version == 6 else not arithmetic(match)


def _social_security(match: re.Match[str]) -> bool:
    area, group, serial = match.group().split("-")
    issued = area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
    return issued and not arithmetic(match)


def _dni(match: re.Match[str]) -> bool:
    number, letter = re.sub(r"[ -]", "", match.group().upper())[:-1], match.group()[-1].upper()
    digits = {"X": "0", "Y": "1", "Z": "2"}.get(number[0], number[0]) + number[1:]
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == letter


def _cpf(match: re.Match[str]) -> bool:
    digits = [int(letter) for letter in match.group() if letter.isdigit()]
    checks = [sum(d * w for d, w in zip(digits, range(n + 1, 1, -1), strict=False)) * 10 % 11 % 10 for n in (9, 10)]
    return len(set(digits)) > 1 and checks == digits[9:]


def _codice_fiscale(match: re.Match[str]) -> bool:
    code = match.group().upper()
    odd = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23]
    values = [int(c) if c.isdigit() else ord(c) - 65 for c in code[:15]]
    total = sum(odd[value] if place % 2 == 0 else value for place, value in enumerate(values))
    return chr(65 + total % 26) == code[15]


_VARIABLE = re.compile(r"(?:^|[^A-Za-z])[A-Za-z]\Z")
_LENGTHS = (
    "AD24 AE23 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 CH21 CY28 CZ24 DE22 DK18 EE20 ES24 FI18 FO18 FR27 GB22 GE22 GI23 "
    "GL18 GR27 HR21 HU28 IE22 IL23 IS26 IT27 KW30 KZ20 LB28 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MT31 NL18 NO15 "
    "PK24 PL28 PT25 QA29 RO24 RS22 SA24 SE24 SI19 SK24 SM27 TN24 TR26 UA29 XK20 "
)
_IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _LENGTHS.split()}
"""SWIFT IBAN registry."""
_ISSUERS = re.compile(
    r"4\d{12}(?:\d{3}){0,2}$|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}$|3[47]\d{13}$"
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12}$|35(?:2[89]|[3-8]\d)\d{12}$|3(?:0[0-5]|[68]\d)\d{11}$|62\d{14}$"
)
"""Visa, Mastercard, American Express, Discover, JCB, Diners Club, UnionPay: prefixes with their lengths."""

RECOGNISERS: tuple[Recogniser, ...] = (
    Recogniser(
        "e-mail address",
        re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])"),
        needs="@",
    ),
    Recogniser(
        "IBAN",
        re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d\d(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?(?![A-Za-z0-9])"),
        lambda match: iban_holds(match.group()),
        least=12,
    ),
    Recogniser("payment card", re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){12,18}(?![\d.,-]?\d)"), _card, least=13),
    Recogniser("telephone number", re.compile(r"(?<![\w+])\+[1-9](?:[ ().-]{0,2}\d){7,14}(?!\d)"), _phone, 9, "+"),
    Recogniser(
        "telephone number",
        re.compile(r"(?<![\w+-])(?:\([2-9]\d\d\) ?|[2-9]\d\d[-. ])[2-9]\d\d[-.]\d{4}(?![\w-])"),
        lambda match: not arithmetic(match),
        12,
        "-.",
    ),
    Recogniser(
        "IP address", re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?:/\d\d?)?(?![\w.]\d|\w)"), _address, 7, "."
    ),
    Recogniser(
        "IP address",
        re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:{1,2}){1,7}(?:[0-9A-Fa-f]{1,4})?(?:/\d{1,3})?(?![\w:])"),
        _address,
        needs=":",
    ),
    Recogniser(
        "US social security number", re.compile(r"(?<![\w-])\d{3}-\d\d-\d{4}(?![\w-])"), _social_security, 11, "-"
    ),
    Recogniser(
        "UK national insurance number",
        re.compile(r"(?<!\w)(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?: ?\d\d){3} ?[A-D](?!\w)"),
        least=9,
    ),
    Recogniser("Spanish identity number", re.compile(r"(?<!\w)(?:\d{8}|[XYZ][ -]?\d{7})[ -]?[A-Z](?!\w)"), _dni, 9),
    Recogniser("Brazilian taxpayer number", re.compile(r"(?<![\w.])\d{3}\.\d{3}\.\d{3}-\d\d(?!\w)"), _cpf, 14, "-"),
    Recogniser(
        "Italian tax code",
        re.compile(r"(?<!\w)[A-Za-z]{6}\d\d[A-Ta-t]\d\d[A-Za-z]\d{3}[A-Za-z](?!\w)"),
        _codice_fiscale,
        16,
    ),
)
