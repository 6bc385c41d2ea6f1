"""`mass-gov replay` where a piece of the record is gone or of another release: what is missing, and never a guess."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.flows.kept import Kept
from mass_gov.mass.learner import Learner
from mass_gov.mass.model_folder import base_digest
from mass_gov.mass.reference_model import SHIPPED_DIGEST, reference_folder, trained_folder
from tests.e2e.conftest import Command, Ran
from tests.e2e.test_cli_replay_tampered import opened, recorded_id
from tests.fakes.forger import Event, events_of, forged
from tests.fakes.told import Told

Rewrite = Callable[[Sequence[Event], Told], None]


@pytest.fixture
def rewritten(told_once: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Rewrite], None]:
    """The same home as another release would have signed it; it is in force."""

    def write(edit: Rewrite) -> None:
        with opened(told_once) as world:
            events = events_of(world)
            edit(events, told_once)
            home = forged(replace(world, folder=told_once.home), events, tmp_path / "rewritten")
        (home / "ledger.db").rename(home / "ledger.sqlite3")
        monkeypatch.setenv("MASS_GOV_HOME", str(home))
        monkeypatch.setenv("MASS_GOV_MODEL", str(told_once.model))

    return write


def second(events: Sequence[Event], told: Told) -> Event:
    return next(one for one in events if recorded_id(one) == told.second)


def missing(ran: Ran, *names: str) -> None:
    """Exit status 4, nothing compared, nothing held against the record, and what is missing by name."""
    said = ran.json
    assert (ran.status, said["verdict"], said["first_difference"]) == (4, "not replayable", None), ran.out
    assert said["compared"] is False and not {one["verdict"] for one in said["stages"]} & {"equal", "differs"}
    assert not [name for name in names if name not in said["detail"]], said["detail"]


# ---- weights ----------------------------------------------------------------------------------------------------


def test_weights_that_are_not_here_are_named_by_their_digest_and_found_again_by_it(
    cli: Command, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = base_digest(told.model)
    monkeypatch.delenv("MASS_GOV_MODEL")  # as after an upgrade: the model that ships is another one
    size = cli("log", "checkpoint", "--json").json["size"]
    for target in (told.second, told.plain):
        missing(cli("replay", target, "--json"), recorded, SHIPPED_DIGEST[:12], str(told.home / "kept"), "--model")
    many = cli("replay", "--all", "--json")
    assert many.status == 4 and many.json["verdicts"] == {"not replayable": 3}
    assert cli("log", "checkpoint", "--json").json["size"] == size, "the log says nothing of it"
    shutil.copytree(told.model, told.home / "kept" / "of 0.0.9")
    many = cli("replay", "--all", "--json")
    assert many.status == 0 and many.json["verdicts"] == {"equal": 3}


def test_a_kept_model_with_one_other_bit_is_not_taken(
    cli: Command, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Path(shutil.copytree(told.model, told.home / "kept" / "altered"))
    content = bytearray((kept / "core.safetensors").read_bytes())
    content[-3] ^= 1
    (kept / "core.safetensors").write_bytes(content)
    monkeypatch.setenv("MASS_GOV_MODEL", str(reference_folder()))
    ran = cli("replay", told.second, "--no-record", "--json")
    assert (ran.status, ran.json["verdict"], ran.json["compared"]) == (1, "differs", False)  # nobody knows this one
    assert base_digest(told.model)[:12] in ran.json["detail"]


def test_the_model_that_ships_is_the_one_that_was_released() -> None:
    assert base_digest(trained_folder()) == SHIPPED_DIGEST, (
        "the weights that ship are others: put the folder that was released into tests/fixtures/kept/, where the "
        "ledgers of older releases find it, and the new digest into mass_gov/mass/reference_model.py"
    )


# ---- forms of another release -----------------------------------------------------------------------------------


def policy_of_format_3(events: Sequence[Event], _: Told) -> None:
    sheets = [one for event in events for one in event.sheets if one.role == "policy"]
    old = sha256_hex(sheets[0].plain)
    sheets[0].plain = sheets[0].plain.replace(b"format: 2", b"format: 3")
    new = sha256_hex(sheets[0].plain)
    for event in events:
        event.document = json.loads(json.dumps(event.document).replace(old, new))


def a_gate_that_was_given_up(events: Sequence[Event], told: Told) -> None:
    sheet = next(one for event in events for one in event.sheets if one.role == "policy")
    old, source = sha256_hex(sheet.plain), sheet.plain
    assert b"update.finite" in source
    sheet.plain = source.replace(b"update.finite", b"update.vibes")
    for event in events:
        event.document = json.loads(json.dumps(event.document).replace(old, sha256_hex(sheet.plain)))


def config_of_format_2(events: Sequence[Event], told: Told) -> None:
    event = second(events, told)
    content = event.read("config") | {"format": 2, "optimiser": "adam"}
    event.write("config", content)
    event.change["parents"]["config"] = sha256_hex(canonical_bytes(content))


def suite_of_format_9(events: Sequence[Event], _: Told) -> None:
    sheet = next(one for event in events for one in event.sheets if one.role == "suite")
    old = sha256_hex(sheet.plain)
    sheet.plain = b'{"format":9}\n' + sheet.plain
    for event in events:
        event.document = json.loads(json.dumps(event.document).replace(old, sha256_hex(sheet.plain)))


@pytest.mark.parametrize(
    ("edit", "names"),
    [
        (policy_of_format_3, ("policy ", "format")),
        (a_gate_that_was_given_up, ("policy ", "update.vibes")),
        (config_of_format_2, ("artifact config", "format 2")),
        (suite_of_format_9, ("suite ", "format")),
    ],
)
def test_a_form_that_this_release_does_not_know_is_named_and_not_guessed_at(
    cli: Command, told_once: Told, rewritten: Callable[[Rewrite], None], edit: Rewrite, names: tuple[str, ...]
) -> None:
    rewritten(edit)
    missing(cli("replay", told_once.second, "--no-record", "--json"), *names, "the release that recorded it")
    shown = cli("replay", told_once.second, "--no-record")
    assert shown.status == 4 and "not replayable" in shown.out


def with_fingerprint(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Rewrite:
    def edit(events: Sequence[Event], told: Told) -> None:
        event = second(events, told)
        content = change(event.read("fingerprint"))
        event.write("fingerprint", content)
        event.change["parents"]["fingerprint"] = sha256_hex(canonical_bytes(content))

    return edit


@pytest.mark.parametrize(
    ("change", "parameter", "said"),
    [
        (lambda one: one | {"package.torch": "2.12.1"}, "package.torch", "2.12.1 recorded"),
        (lambda one: one | {"format": 3, "rounding": "even"}, "format", "format 3, which this release does not know"),
        (lambda one: one | {"format": "x"}, "format", "format x, which this release does not know"),
    ],
)
def test_what_was_computed_elsewhere_is_compared_and_never_plainly_equal(
    cli: Command,
    told_once: Told,
    rewritten: Callable[[Rewrite], None],
    change: Callable[[dict[str, Any]], dict[str, Any]],
    parameter: str,
    said: str,
) -> None:
    rewritten(with_fingerprint(change))
    ran = cli("replay", told_once.second, "--no-record", "--json")
    assert (ran.status, ran.json["verdict"]) == (0, "equal, other fingerprint"), ran.out
    assert parameter in ran.json["fingerprint_differs"] and said in ran.json["detail"]


def test_a_library_that_computes_otherwise_and_is_no_longer_here_is_exit_status_3_with_its_name(
    cli: Command, told_once: Told, rewritten: Callable[[Rewrite], None]
) -> None:
    def edit(events: Sequence[Event], told: Told) -> None:
        with_fingerprint(lambda one: one | {"package.torch": "2.12.1"})(events, told)
        content = second(events, told).read("update")
        content["losses"][0] += 1e-7
        second(events, told).write("update", content)

    rewritten(edit)
    ran = cli("replay", told_once.second, "--no-record", "--json")
    assert (ran.status, ran.json["verdict"], ran.json["first_difference"]) == (3, "differs", "delta")
    assert "package.torch (2.12.1 recorded" in ran.json["detail"] and "loss 0" in ran.json["detail"]


# ---- anchors ----------------------------------------------------------------------------------------------------


def test_anchors_that_are_not_here_are_named_by_their_digest(
    cli: Command, told_once: Told, rewritten: Callable[[Rewrite], None]
) -> None:
    digest = "ab" * 32

    def edit(events: Sequence[Event], told: Told) -> None:
        event = second(events, told)
        event.write("samples", event.read("samples") | {"anchor_pool": digest})

    rewritten(edit)
    missing(cli("replay", told_once.second, "--no-record", "--json"), digest, "MASS_GOV_ANCHORS", "kept")


def test_anchors_are_found_by_their_digest_whatever_they_are_called(tmp_path: Path) -> None:
    kept = Kept(tmp_path, (), Learner.open)
    source = b'{"question": "1+1", "working": "", "answer": "2"}\n'
    assert kept.anchors(sha256_hex(source)) is None
    (tmp_path / "old.jsonl").write_bytes(source)
    found = kept.anchors(sha256_hex(source))
    assert found is not None and [one.answer for one in found.anchors] == ["2"]
    (tmp_path / "old.jsonl").write_bytes(source.replace(b"2", b"3"))
    assert kept.anchors(sha256_hex(source)) is None
