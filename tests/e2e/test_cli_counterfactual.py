"""What would have been, on the command line: no replay, nothing written, refused where it makes no sense."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Command, Recorded


@pytest.fixture(autouse=True)
def nothing_is_written(cli: Command, recorded: Recorded) -> Iterator[None]:
    del recorded
    size = cli("log", "checkpoint", "--json").json["size"]
    yield
    assert cli("log", "checkpoint", "--json").json["size"] == size


def test_another_policy_is_no_replay(cli: Command, recorded: Recorded) -> None:
    asked = ("replay", recorded.applied, "--policy", "strict")
    ran = cli(*asked, "--json")
    assert (ran.status, ran.json["replay"], ran.json["control_reproduced"]) == (0, False, True)
    assert (ran.json["recorded"]["decision"]["verdict"], ran.json["decision_differs"]) == ("apply", True)
    screen = cli(*asked).out
    assert "This is not a replay" in screen and "would have been another" in screen


def test_what_each_sample_did_is_shown(cli: Command, recorded: Recorded) -> None:
    effects = cli("replay", recorded.applied, "--attribute", "--json").json["effects"]
    assert [effect["sample"] for effect in effects] == [0, 1, 2]
    assert all(effect["leave_one_out"] != 0 for effect in effects)
    assert "leave-one-out" in cli("replay", recorded.applied, "--attribute").out


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--drop-sample", "99"), "no sample 99"),
        (("--seed", "3"), "supplied the samples"),
        (("--without-scorer",), "without a scorer"),
        (("--drop-sample", "0", "--policy", "strict"), "exactly one thing"),
        (("--drop-sample", "0", "--attribute"), "one question"),
        (("--policy", "no-such"), "no policy"),
    ],
)
def test_what_cannot_be_asked_is_bad_input(
    cli: Command, recorded: Recorded, options: tuple[str, ...], why: str
) -> None:
    ran = cli("replay", recorded.applied, *options)
    assert ran.status == 2
    assert why in ran.err


def test_of_many_nothing_can_be_asked(cli: Command) -> None:
    assert cli("replay", "--all", "--without-scorer").status == 2
