"""Credentials: keys and tokens of known form, passwords that are assigned, and runs of letters that only chance writes.

A run counts as chance where it is long, mixes cases and digits (or is hexadecimal), and has nearly the Shannon entropy
that a random key has. What stands between operators is a shorter run, so that a formula is none.
"""

from __future__ import annotations

import math
import re
from collections import Counter

from mass_gov.policy.sample_gates.finding import About, Finding
from mass_gov.policy.sample_gates.recognising import Recogniser, look
from mass_gov.records.artifacts import SampleContent

SHORTEST = 15
"""Characters of the shortest credential but for a password in an address. Most practice is shorter."""
BITS_MIXED, BITS_HEXADECIMAL = 3.9, 3.0
"""Bits per character. Random base 62 of 24 characters has about 4.2, random hexadecimal of 32 about 3.6."""


def secrets(sample: SampleContent, about: About) -> Finding | None:
    """No recogniser finds anything in question or solution."""
    return None if about.gates.sample_secrets == "unused" else look(sample, RECOGNISERS)


def entropy(text: str) -> float:
    """Shannon entropy of the characters, in bits a character."""
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)


def _chance(match: re.Match[str]) -> bool:
    run = match.group()
    mixed = any(map(str.isupper, run)) and any(map(str.islower, run)) and sum(map(str.isdigit, run)) > 1
    return mixed and entropy(run) >= BITS_MIXED


def _hexadecimal(match: re.Match[str]) -> bool:
    run = match.group()
    return any(map(str.isalpha, run)) and any(map(str.isdigit, run)) and entropy(run.lower()) >= BITS_HEXADECIMAL


def _token(kind: str, pattern: str) -> Recogniser:
    """A token of known form: it begins and ends at the edge of a run."""
    return Recogniser(kind, re.compile(rf"(?<![A-Za-z0-9_-]){pattern}(?![A-Za-z0-9_])"), least=SHORTEST)


RECOGNISERS: tuple[Recogniser, ...] = (
    Recogniser(
        "private key", re.compile(r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----"), least=SHORTEST
    ),
    _token("AWS access key", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"),
    _token("GitHub token", r"(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255})"),
    _token("GitLab token", r"glpat-[A-Za-z0-9_-]{20,255}"),
    _token("Slack token", r"xox[abeoprs]-[A-Za-z0-9-]{10,255}"),
    Recogniser(
        "Slack webhook",
        re.compile(r"hooks\.slack\.com/services/T[A-Z0-9]{6,16}/B[A-Z0-9]{6,16}/[A-Za-z0-9]{16,64}"),
        least=SHORTEST,
    ),
    _token("JSON web token", r"eyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{8,4000}"),
    _token("Google API key", r"AIza[A-Za-z0-9_-]{35}"),
    _token("Stripe key", r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,255}"),
    _token("model provider key", r"sk-(?:[a-z0-9]{2,12}-){0,3}[A-Za-z0-9_]{20,255}"),
    _token("Hugging Face token", r"hf_[A-Za-z0-9]{30,64}"),
    _token("package registry token", r"(?:npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,255})"),
    _token("SendGrid key", r"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,64}"),
    _token("bot token", r"\d{8,10}:AA[A-Za-z0-9_-]{33}"),
    Recogniser("password in an address", re.compile(r"(?<=://)[^\s:/@]{1,64}:[^\s:/@]{1,128}@(?=[\w.\[-])")),
    Recogniser(
        "assigned password",
        re.compile(
            r"(?<![A-Za-z])(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|auth[_-]?token)"
            r"\s{0,3}(?:is\s{1,3}|[:=]\s{0,3})[\"']?(?P<value>[^\s\"']{8,128})",
            re.I,
        ),
        lambda match: not match["value"].rstrip(".,;!?").isalpha(),
        least=SHORTEST,
    ),
    Recogniser(
        "high-entropy hexadecimal",
        re.compile(r"(?<![A-Za-z0-9_])[0-9A-Fa-f]{32,}(?![A-Za-z0-9_])"),
        _hexadecimal,
        SHORTEST,
    ),
    Recogniser(
        "high-entropy text", re.compile(r"(?<![A-Za-z0-9_])[A-Za-z0-9_]{24,}(?![A-Za-z0-9_])"), _chance, SHORTEST
    ),
)
