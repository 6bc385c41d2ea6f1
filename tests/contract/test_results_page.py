"""The results page says what the evaluation printed, no more and no less."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bench.results import CARD, FOLDER, PAGE, TABLES, Results, bars, filled
from mass_gov.mass.rivals.values import Setup

RESULTS = Results.read(FOLDER)


def test_every_table_is_the_one_its_results_give() -> None:
    for page in (PAGE, CARD):
        text = page.read_text(encoding="utf-8")
        assert filled(text, RESULTS) == text, "run `python bench/results.py`"


def test_no_table_is_left_out() -> None:
    page, card = PAGE.read_text(encoding="utf-8"), CARD.read_text(encoding="utf-8")
    assert all(page.count(f"<!-- table: {name} -->") == 1 for name in TABLES)
    assert all(card.count(f"<!-- table: {name} -->") == 1 for name in ("bars", "core", "domains"))


def test_another_result_makes_another_page() -> None:
    core = json.loads(json.dumps(RESULTS.core))
    first = core[next(iter(core))]
    first["mass-gold"]["accuracy"] = first["base"]["accuracy"]
    page = PAGE.read_text(encoding="utf-8")
    spoilt = replace(RESULTS, core=core)
    assert filled(page, spoilt) != page
    assert "`mass-gold` overall, base + 10" in next(line for line in bars(spoilt).splitlines() if "**" in line)


def test_a_mark_without_a_table_is_refused() -> None:
    with pytest.raises(KeyError, match="unknown"):
        filled("<!-- table: unknown -->\n<!-- end -->", RESULTS)


def test_the_runs_are_as_large_as_the_page_says() -> None:
    assert len(RESULTS.core) == 3
    for path in FOLDER.glob("core-*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["n"] >= 1000
    for name in ("others.json", "ablations-gold.json", "ablations-verifier.json"):
        assert json.loads((FOLDER / name).read_text(encoding="utf-8"))["n"] >= 300


def test_whoever_practises_without_having_learned_to_draws_at_the_temperature_that_the_reference_says() -> None:
    """As hot as MASS draws, an untrained model writes nonsense: that would say nothing about self-training."""
    for rows in (*RESULTS.core.values(), RESULTS.others):
        for name, row in rows.items():
            if name.startswith("tt-ss"):
                assert row["settings"]["temperature"] == Setup.temperature == 1.0, name
