"""A state's answers to a suite are computed once, also across processes, and never taken on trust. Denial first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mass_gov.flows.outcomes import OutcomeStore
from mass_gov.flows.replay import replay
from mass_gov.flows.workbench import Workbench
from tests.flows.test_adapt import Open, applied, open_bench, practise

__all__ = ["open_bench"]  # the fixture


def _files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "home" / "outcomes").iterdir())


def _asked(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whom the model is asked as, once per run of a whole suite."""
    honest, asked = bench.learner.answer, []

    def counted(questions: list[str], adapter: object, **more: Any) -> object:
        if len(questions) > 1:
            asked.append("base" if adapter is None else "adapted")
        return honest(questions, adapter, **more)

    monkeypatch.setattr(bench.learner, "answer", counted)
    return asked


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
        lambda raw: bytes([raw[0] ^ 1]) + raw[1:],
        lambda raw: raw[:40],
        lambda raw: b"",
        lambda raw: b'["7"]',
    ],
    ids=["a bit at the end", "a bit of the commitment", "cut short", "empty", "not sealed"],
)
def test_a_damaged_memory_is_not_used_and_is_written_anew(
    open_bench: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    practise(open_bench(), "7")
    (remembered,) = _files(tmp_path)
    whole = remembered.read_bytes()
    remembered.write_bytes(damage(whole))
    bench = open_bench()
    asked = _asked(bench, monkeypatch)
    practise(bench, "8")
    assert asked == ["base", "adapted"]
    assert len(remembered.read_bytes()) == len(whole) != 0
    again = open_bench()
    asked = _asked(again, monkeypatch)
    practise(again, "9")
    assert asked == ["adapted"]


def test_a_memory_of_one_state_does_not_open_as_that_of_another(
    open_bench: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = open_bench()
    applied(bench, "7", scope="deployment")
    practise(bench, "8")  # from the promoted state
    one, two = _files(tmp_path)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    later = open_bench()
    asked = _asked(later, monkeypatch)
    practise(later, "9")
    assert asked == ["base", "adapted", "adapted"]


def test_replay_computes_again_what_a_false_memory_said(open_bench: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = open_bench()
    with monkeypatch.context() as lying:
        lying.setattr(OutcomeStore, "read", lambda *a, **k: ("never",) * 48)
        change = practise(bench, "7").change
    replayed = replay(change.change_id, "samples", bench)
    assert (replayed.verdict, replayed.first_difference) == ("differs", "regression")


def test_what_a_state_of_an_erased_subject_answered_is_gone_with_them(open_bench: Open, tmp_path: Path) -> None:
    bench = open_bench()
    promoted = applied(bench, "7", scope="deployment").change.body
    practise(bench, "8")
    runner = bench.runner_for("instance")
    store = runner.remembered
    assert store is not None
    known = (promoted.update.state, runner.suite.digest, runner.spec, len(runner.suite.cases))
    assert store.read(*known) is not None
    bench.keys.destroy_subject(promoted.identity.subject)
    assert store.read(*known) is None


def test_only_recorded_states_are_remembered(open_bench: Open, tmp_path: Path) -> None:
    bench = open_bench()
    practise(bench, "7")
    practise(bench, "8")
    assert len(_files(tmp_path)) == 1  # the base; what served one answer is forgotten


def test_base_and_previous_are_asked_once_for_all_processes(open_bench: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_bench()
    asked = _asked(first, monkeypatch)
    applied(first, "7", scope="deployment")
    practise(first, "8")
    practise(first, "9")
    assert asked == ["base", "adapted", "adapted", "adapted", "adapted"]  # the second of them: the promoted state
    second = open_bench()
    asked = _asked(second, monkeypatch)
    practise(second, "10")
    assert asked == ["adapted"]


def test_a_folder_that_cannot_be_written_costs_time_and_nothing_else(open_bench: Open, tmp_path: Path) -> None:
    bench = open_bench()
    (tmp_path / "home" / "outcomes").write_text("in the way")
    assert practise(bench, "7").change.body.update.outcome == "stepped"
