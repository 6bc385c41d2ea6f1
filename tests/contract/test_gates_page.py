"""The gates page quotes what was measured as it stands in `policies/calibration.json`, and limits as they ship."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from tests.contract.checkout import read

PAGE = re.sub(r"(?<=[^\s|])\n(?=[^\s|#])", " ", read("docs/reference/gates.md"))
"""Every paragraph on one line."""
CALIBRATION = json.loads(read("policies/calibration.json"))
GATES = yaml.safe_load(read("policies/default/v1.yaml"))["gates"]

_FIGURE = r"(?:n|min|max|mean|p\d\d?) -?\d{1,3}(?:,\d{3})*(?:\.\d+)?"
_QUOTE = re.compile(rf"`([a-z_.0-9]+)` ({_FIGURE}(?:, {_FIGURE})*)")
_MEASURED = re.compile(r"Shipped model.*?\.(?= |$)", re.MULTILINE)
QUOTES = [(name, *figure.split()) for name, figures in _QUOTE.findall(PAGE) for figure in figures.split(", ")]


@pytest.mark.parametrize(("statistic", "what", "said"), QUOTES)
def test_a_quoted_figure_is_the_measured_one(statistic: str, what: str, said: str) -> None:
    digits = len(said.partition(".")[2])
    assert f"{CALIBRATION['statistics'][statistic][what]:,.{digits}f}" == said


def test_what_is_said_of_the_shipped_model_is_quoted_and_nothing_else() -> None:
    said = _MEASURED.findall(PAGE)
    assert len(said) == PAGE.count("Shipped model") == 7
    assert all(_QUOTE.search(sentence) for sentence in said)
    assert not [sentence for sentence in said if re.search(r"\d", re.sub(r"`[^`]*`", "", _QUOTE.sub("", sentence)))]
    assert f"on {CALIBRATION['tasks']} held-out tasks" in PAGE


CLAIMS = ("none seen", "fewer than 1 in 100", "at most 1 in 20", "more")


def _beyond(statistic: str, limit: float) -> str:
    """The strongest claim that holds of how many lie beyond a limit, on the side where it stops them."""
    found = CALIBRATION["statistics"][statistic]
    above = limit >= found["p50"]
    tails = ("max", "p99", "p95") if above else ("min", "p1", "p5")
    holds = [found[tail] <= limit if above else found[tail] >= limit for tail in tails]
    return CLAIMS[holds.index(True) if True in holds else 3]


STATISTIC = {"sample.format": "unparseable_share", "sample.perplexity": "perplexity", "update.distinct_2": "distinct_2"}
STATISTIC |= {"update.self_bleu": "self_bleu"}
ROWS = re.findall(r"^\| ((?:`[a-z_.0-9]+`(?:, )?)+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("names", "limits", "share"), ROWS)
def test_a_shipped_limit_and_the_share_beyond_it_are_what_the_files_give(names: str, limits: str, share: str) -> None:
    gates = re.findall(r"`([a-z_.0-9]+)`", names)
    numbers = [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?(?:e\d+)?", limits)]
    settings = [value for gate in gates for key, value in GATES[gate].items() if key not in ("on_fail", "scopes")]
    assert set(numbers) <= {float(value) for value in settings if not isinstance(value, str)}, "the policy differs"
    if "calibrated" in share:
        return
    if gates == ["sample.agreement"]:
        assert share == "see above"
        return
    beyond = [_beyond(STATISTIC.get(gate, gate), number) for gate, number in zip(gates * 2, numbers, strict=False)]
    assert share == max(beyond, key=CLAIMS.index)


def test_every_calibrated_limit_has_a_row() -> None:
    listed = {gate for names, _, _ in ROWS for gate in re.findall(r"`([a-z_.0-9]+)`", names)}
    assert CALIBRATION["limits"].keys() <= listed
