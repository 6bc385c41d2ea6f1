"""`mass-gov replay` of many at once: which, in which order, in how many processes, and what one that fails costs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from mass_gov import wiring
from mass_gov.cli import replay_runs
from mass_gov.config import Settings, load_settings
from mass_gov.errors import LedgerUnavailableError
from mass_gov.evidence.keystore import KeyStore
from mass_gov.ledger import Entry
from mass_gov.wiring import read_ledger
from tests.e2e.conftest import Command
from tests.fakes.told import Told

QUIET = ("--no-record", "--json")


def entries(told: Told) -> list[Entry]:
    with read_ledger(load_settings(home=told.home)) as ledger:
        return list(ledger.entries())


def place(told: Told, change_id: str) -> Entry:
    with read_ledger(load_settings(home=told.home)) as ledger:
        return ledger.change(change_id).entry


def names(ran: Any) -> list[str]:
    return [one["target"] for one in ran.json["replays"]]


def test_since_an_index_or_a_time_means_from_then_on(cli: Command, told: Told) -> None:
    second = place(told, told.second)
    for since in (str(second.index), second.predicate.time):
        ran = cli("replay", "--since", since, *QUIET)
        assert ran.status == 0 and names(ran) == [told.second, told.plain]
    after = cli("replay", "--since", str(len(entries(told))), "--no-record")
    assert after.status == 0 and "nothing to replay" in after.err
    assert cli("replay", "--since", "yesterday", "--no-record").status == 2


def test_a_draw_is_repeated_by_its_seed_and_comes_in_the_order_of_the_log(cli: Command, told: Told) -> None:
    everything = [told.first, told.second, told.plain]
    first = cli("replay", "--sample", "2", *QUIET)
    drawn = first.json["drawn"]
    assert first.status == 0 and drawn["of"] == 3 and f"--seed {drawn['seed']}" in first.err
    again = cli("replay", "--sample", "2", "--seed", drawn["seed"], *QUIET)
    assert names(again) == names(first) == sorted(names(first), key=everything.index) and len(names(first)) == 2


def test_where_the_ledger_cannot_be_written_it_says_how_to_replay_without_writing(
    cli: Command, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise LedgerUnavailableError("The ledger is read-only. Make it writable.")

    monkeypatch.setattr(wiring, "open_ledger", refused)  # whoever runs the tests may be root, who may write anywhere
    ran = cli("replay", told.first, "--from", "delta")
    assert ran.status == 6 and "--no-record" in ran.err
    assert cli("replay", told.first, "--from", "delta", *QUIET).status == 0


def test_every_one_is_drawn_about_as_often_as_any_other() -> None:
    from mass_gov.flows.replay_targets import Target, draw

    targets = [Target(index, f"change-{index}") for index in range(5)]
    counts = dict.fromkeys(targets, 0)
    for seed in range(1000):
        chosen = draw(targets, 2, seed)
        assert [target.index for target in chosen] == sorted(target.index for target in chosen)
        for target in chosen:
            counts[target] += 1
    assert all(330 < count < 470 for count in counts.values()), counts  # 400 expected, 15.5 the standard deviation
    assert draw(targets, 9, 1) == targets


@contextmanager
def killing(chosen: Settings, start: Any) -> Iterator[Callable[[str], replay_runs.Row]]:
    """The real work, but for one change, on which the system kills the process."""
    doomed = os.environ["DOOMED"]
    with ExitStack() as stack:
        opened: list[replay_runs.Work] = []

        def work(target: str) -> replay_runs.Row:
            if target == doomed:
                os.kill(os.getpid(), signal.SIGKILL)
            if not opened:
                opened.append(stack.enter_context(_working(chosen, start)))
            return opened[0](target)

        yield work


_working = replay_runs.working


@pytest.mark.slow
def test_processes_keep_the_order_and_one_that_is_killed_costs_its_own_change_alone(
    cli: Command, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOOMED", told.first)
    monkeypatch.setattr(replay_runs, "working", killing)
    size = len(entries(told))
    ran = cli("replay", "--all", "--processes", "2", "--json")
    assert ran.status == 6
    assert names(ran) == [told.first, told.second, told.plain]
    assert [(one["verdict"], one["exit"]) for one in ran.json["replays"]] == [("failed", 6), ("equal", 0), ("equal", 0)]
    assert "signal 9" in ran.json["replays"][0]["error"]["message"]
    written: list[Any] = [entry.predicate for entry in entries(told)[size:]]
    assert [(one.body.type, one.body.target, one.actor.principal) for one in written] == [
        ("replay.performed", name, "local") for name in (told.second, told.plain)
    ]
    assert cli("verify").status == 0


@contextmanager
def interrupting(chosen: Settings, start: Any) -> Iterator[Callable[[str], replay_runs.Row]]:
    """The real work, but at one change somebody presses Ctrl-C."""
    with _working(chosen, start) as work:

        def until(target: str) -> replay_runs.Row:
            if target == os.environ["DOOMED"]:
                raise KeyboardInterrupt
            return work(target)

        yield until


def test_an_interrupt_keeps_what_was_found_and_says_where_to_go_on(
    cli: Command, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOOMED", told.second)
    monkeypatch.setattr(replay_runs, "working", interrupting)
    ran = cli("replay", "--all", "--from", "delta", *QUIET)
    assert ran.status == 130 and names(ran) == [told.first] and ran.json["not_reached"] == 2
    assert "1 of 3 were replayed" in ran.err
    assert f"--since {place(told, told.second).index}`" in ran.err


def test_one_that_is_gone_and_one_that_fails_do_not_stop_the_rest(
    cli: Command, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mass_gov.flows import replay

    subject = place(told, told.second).predicate.body.change.identity.subject  # type: ignore[union-attr]
    KeyStore.open(told.home / "keys").destroy_subject(subject)

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(replay, "compute", broken)
    ran = cli("replay", "--all", *QUIET)
    assert ran.status == 70, "a defect says more than that something is gone"
    assert ran.json["verdicts"] == {"failed": 1, "not replayable": 1, "equal": 1}
    assert [one["exit"] for one in ran.json["replays"]] == [70, 4, 0]
    shown = cli("replay", "--all", "--no-record")
    assert shown.status == 70 and "ZeroDivisionError" in shown.out and "1 of 3 replays are equal" in shown.out


def test_a_draw_or_a_beginning_with_an_id_and_a_seed_without_either_are_refused(cli: Command, told: Told) -> None:
    for more in (["--sample", "1"], ["--since", "0"], ["--all"]):
        assert cli("replay", told.second, *more).status == 2
    assert cli("replay", "--all", "--seed", "1").status == 2
    assert cli("replay", "--sample", "0").status == 2
