"""`mass-gov replay` against a thief who flips a bit, and an operator who signs a lie: exit status, and what is named.

Wherever a bit was flipped, nothing is computed: that is quick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mass_gov.config import load_settings
from mass_gov.ledger import Ledger
from mass_gov.wiring import read_ledger
from tests.e2e.conftest import Command, Ran
from tests.fakes.forger import Event, events_of, forged
from tests.fakes.tamper import tampering
from tests.fakes.told import Told

Edit = Callable[[Event, "Told"], None]


@pytest.fixture
def lies(told_once: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Edit], None]:
    """Write the home again from its first event, with every key, and with a lie about one change; it is in force."""

    def tell(edit: Edit) -> None:
        with opened(told_once) as world:
            events = events_of(world)
        edit(next(one for one in events if recorded_id(one) == told_once.second), told_once)
        home = forged(replace(world, folder=told_once.home), events, tmp_path / "forged")
        (home / "ledger.db").rename(home / "ledger.sqlite3")
        monkeypatch.setenv("MASS_GOV_HOME", str(home))
        monkeypatch.setenv("MASS_GOV_MODEL", str(told_once.model))

    return tell


@dataclass(frozen=True)
class _World:
    ledger: Ledger
    folder: Path


@contextmanager
def opened(told: Told) -> Iterator[_World]:
    with read_ledger(load_settings(home=told.home)) as ledger:
        yield _World(ledger, told.home)


def recorded_id(event: Event) -> str | None:
    return event.change["identity"]["change_id"] if event.body["type"] == "change.recorded" else None


def found(ran: Ran, stage: str, *names: str) -> Any:
    """A replay that differs, at exit status 1, in this stage, and says these names to people and programs."""
    assert (ran.status, ran.json["verdict"], ran.json["first_difference"]) == (1, "differs", stage), ran.out
    assert not [name for name in names if name not in ran.json["detail"]], ran.json["detail"]
    return ran.json["difference"]


# ---- nothing was tampered with ----------------------------------------------------------------------------------


def test_a_change_a_change_under_a_promoted_parent_and_an_answer_from_the_pointer_are_equal(
    cli: Command, told: Told
) -> None:
    size = cli("log", "checkpoint", "--json").json["size"]
    ran = cli("replay", "--all", "--json")
    assert ran.status == 0, ran.out
    assert [one["target"] for one in ran.json["replays"]] == [told.first, told.second, told.plain]
    assert ran.json["verdicts"] == {"equal": 3}
    with opened(told) as world:
        events = [entry.predicate for entry in world.ledger.entries(size)]
    assert [event.actor.principal for event in events] == ["local"] * 3
    bodies: list[Any] = [event.body for event in events]
    assert [(body.target, body.start, body.verdict, body.first_difference) for body in bodies] == [
        (name, "scratch", "equal", None) for name in (told.first, told.second, told.plain)
    ]


# ---- a thief flips one bit --------------------------------------------------------------------------------------


def flip_artifact(told: Told, role: str, target: str | None = None) -> None:
    with opened(told) as world:
        name = target or told.second
        entry = world.ledger.entry(
            world.ledger.response(name).index if name == told.plain else world.ledger.change(name).index
        )
        digest = next(bytes.fromhex(ref.digest) for ref in entry.predicate.artifacts if ref.role == role)
    with tampering(told.home / "ledger.sqlite3") as thief:
        (stored,) = thief.execute("SELECT stored FROM artifacts WHERE digest = ?", (digest,)).fetchone()
        thief.execute("UPDATE artifacts SET stored = ? WHERE digest = ?", (flipped(stored), digest))


def flipped(content: bytes, place: int | None = None) -> bytes:
    place = len(content) // 2 if place is None else place
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("role", "stage"),
    [
        ("samples", "samples"),
        ("config", "samples"),
        ("request", "samples"),
        ("fingerprint", "samples"),
        ("delta.adapter_model", "delta"),
        ("delta.adapter_config", "delta"),
        ("update", "delta"),
        ("regression", "regression"),
        ("answer", "answer"),
    ],
)
def test_a_flipped_bit_in_an_artifact_names_it(cli: Command, told: Told, role: str, stage: str) -> None:
    flip_artifact(told, role)
    ran = cli("replay", told.second, "--no-record", "--json")
    found(ran, stage, role, "not what was recorded")
    if role == "samples":
        shown = cli("replay", told.second, "--no-record")
        assert shown.status == 1 and "artifact samples" in shown.out


def test_a_flipped_bit_in_the_parents_delta_names_it_and_whose_it_is(cli: Command, told: Told) -> None:
    flip_artifact(told, "delta.adapter_model", told.first)
    found(cli("replay", told.second, "--no-record", "--json"), "delta", "delta.adapter_model", told.first)
    found(cli("replay", told.plain, "--no-record", "--json"), "answer", "delta.adapter_model", told.first)


def test_a_flipped_bit_in_a_plain_answer_names_it(cli: Command, told: Told) -> None:
    flip_artifact(told, "answer", told.plain)
    found(cli("replay", told.plain, "--no-record", "--json"), "answer", "artifact answer")


def flip_leaf(told: Told, target: str) -> int:
    """Flip one bit of the seed in the signed bytes of a change's event."""
    with opened(told) as world:
        index = world.ledger.change(target).index
        leaf = world.ledger.entry(index).leaf
    with tampering(told.home / "ledger.sqlite3") as thief:
        thief.execute('UPDATE log_events SET leaf = ? WHERE "index" = ?', (flipped(leaf, len(leaf) // 3), index))
    return index


def test_a_flipped_bit_in_the_leaf_where_the_seed_stands_names_the_event(cli: Command, told: Told) -> None:
    index = flip_leaf(told, told.second)
    ran = cli("replay", told.second, "--no-record", "--json")
    assert ran.status == 1 and f"Event {index}" in ran.json["error"]["message"]


def test_an_event_that_cannot_be_read_and_an_altered_artifact_do_not_stop_the_others(cli: Command, told: Told) -> None:
    index = flip_leaf(told, told.second)
    flip_artifact(told, "answer", told.plain)
    ran = cli("replay", "--all", "--no-record", "--json")
    assert ran.status == 1
    first, second, plain = ran.json["replays"]
    assert (first["verdict"], first["exit"]) == ("equal", 0)
    assert (second["target"], second["verdict"], second["exit"]) == (f"event {index}", "failed", 1)
    assert (plain["verdict"], plain["exit"]) == ("differs", 1)
    shown = cli("replay", "--all", "--no-record")
    assert shown.status == 1 and f"event {index}" in shown.out and "1 of 3 replays are equal" in shown.out


@pytest.mark.parametrize(
    ("name", "place", "named"),
    [
        ("model.safetensors", None, "base model"),
        ("model.safetensors", 3, "base model"),  # in the length of its header: it cannot even be opened
        ("core.safetensors", -3, "base model"),
        ("prompt_template.json", -4, "prompt template"),
        ("prompt_template.json", 0, "prompt_template.json"),  # no JSON any more
    ],
)
def test_a_flipped_bit_in_the_model_names_it(
    cli: Command, told: Told, name: str, place: int | None, named: str
) -> None:
    content = (told.model / name).read_bytes()
    (told.model / name).write_bytes(flipped(content, place % len(content) if place is not None else None))
    for target in (told.second, told.plain):
        ran = cli("replay", target, "--no-record", "--json")
        assert ran.status == 1
        said = ran.json["error"]["message"] if "error" in ran.json else ran.json["detail"]
        assert named in said
        assert ("prompt template" in said) == (name == "prompt_template.json")


# ---- an operator signs a lie ------------------------------------------------------------------------------------


def another_gate_metric(event: Event, _: Told) -> None:
    gate = next(gate for gate in event.change["gates"] if gate["name"] == "update.step_norm")
    gate["value"] = gate["value"] / 2


def another_sample_metric(event: Event, _: Told) -> None:
    content = event.read("samples")
    content["samples"][2]["score"] = content["samples"][2]["score"] + 1.0
    event.write("samples", content)


def another_case_outcome(event: Event, _: Told) -> None:
    content = event.read("regression")
    case = content["cases"][7]
    case["after"], case["after_answer"] = not case["after"], "12345"
    event.write("regression", content)


def another_count(event: Event, _: Told) -> None:
    counts = event.change["regression"]["against_previous"]
    counts["lost"], counts["both_wrong"] = counts["lost"] + 1, counts["both_wrong"] - 1


def another_token(event: Event, _: Told) -> None:
    content = event.read("samples")
    content["samples"][4]["tokens"][3] ^= 1
    event.write("samples", content)


def another_seed(event: Event, _: Told) -> None:
    event.change["parents"]["seed"] = "4"


def another_parent(event: Event, _: Told) -> None:
    event.change["parents"]["parent_state"] = "0" * 64


def another_config(event: Event, _: Told) -> None:
    content = event.read("config")
    content["update"]["steps"] = 2
    event.write("config", content)


def another_fingerprint(event: Event, _: Told) -> None:
    event.write("fingerprint", event.read("fingerprint") | {"torch.threads": 64})


def another_loss(event: Event, _: Told) -> None:
    content = event.read("update")
    content["losses"][0] += 0.5
    event.write("update", content)


def another_batch(event: Event, _: Told) -> None:
    batch = {"size": 2, "place": 0, "practise_width": 10**12, "solve_width": 10**12}
    event.write("samples", event.read("samples") | {"batch": batch})


def another_answer(event: Event, _: Told) -> None:
    content = event.read("answer")
    content["parent"]["tokens"][1] ^= 1
    event.write("answer", content)


@pytest.mark.parametrize(
    ("edit", "stage", "names", "at"),
    [
        (another_gate_metric, "decision", ("update.step_norm", "value"), {"gate": "update.step_norm"}),
        (another_sample_metric, "gates", ("sample 2", "score"), {"sample": 2}),
        (another_case_outcome, "regression", ("after", "12345"), {"case": None}),
        (another_count, "regression", ("against_previous.lost",), {}),
        (another_token, "samples", ("sample 4, token 3",), {"sample": 4, "token": 3}),
        (another_seed, "samples", ("seed",), {"sample": 0}),
        (another_config, "samples", ("artifact config",), None),
        (another_fingerprint, "samples", ("artifact fingerprint",), None),
        (another_loss, "delta", ("loss 0", "losses"), {"loss": 0}),
        (another_answer, "answer", ("token 1", "parent.tokens"), {"token": 1}),
    ],
)
def test_a_lie_that_is_correctly_signed_is_found_and_named(
    cli: Command,
    told_once: Told,
    lies: Callable[[Edit], None],
    edit: Edit,
    stage: str,
    names: tuple[str, ...],
    at: dict[str, Any] | None,
) -> None:
    lies(edit)
    difference = found(cli("replay", told_once.second, "--no-record", "--json"), stage, *names)
    if at is None:
        assert difference is None
    elif "case" in at:
        assert difference["recorded"]["answer"] == "12345" != difference["recomputed"]["answer"]
        assert difference["recorded"]["right"] != difference["recomputed"]["right"]
        assert difference["at"]["case"] in cli("replay", told_once.second, "--no-record").out
    else:
        assert difference["at"] == at and difference["recorded"] != difference["recomputed"]


@pytest.mark.parametrize(("start", "stage"), [("scratch", "samples"), ("delta", "answer")])
def test_a_batch_wider_than_the_model_reads_is_named_and_nothing_of_that_size_is_made(
    cli: Command, told_once: Told, lies: Callable[[Edit], None], start: str, stage: str
) -> None:
    lies(another_batch)
    ran = cli("replay", told_once.second, "--from", start, "--no-record", "--json")
    found(ran, stage, "padded to 1000000000000 tokens")


def test_a_lie_that_the_rules_refuse_is_found_in_the_log_and_not_passed_over(
    cli: Command, told_once: Told, lies: Callable[[Edit], None]
) -> None:
    """No honest program would have taken this event, so nothing that derives from the log knows it."""
    lies(another_parent)
    ran = cli("replay", "--all", "--no-record", "--json")
    assert ran.status == 1
    assert {one["target"]: one["exit"] for one in ran.json["replays"]} == {
        told_once.first: 0,
        told_once.second: 1,
        told_once.plain: 0,
    }
    assert "the log records it" in ran.json["replays"][1]["error"]["message"]


def test_another_delta_under_a_true_name_is_measured_tensor_by_tensor(
    cli: Command, told_once: Told, lies: Callable[[Edit], None]
) -> None:
    import numpy as np
    from safetensors.numpy import load, save

    from mass_gov.evidence.model_signing import delta_digest
    from mass_gov.evidence.state import state_digest

    def edit(event: Event, _: Told) -> None:
        sheet = event.sheet("delta.adapter_model")
        tensors = load(sheet.plain)
        name = sorted(tensors)[1]
        tensors[name].view(np.int32).ravel()[5] += 2
        sheet.plain = save(tensors, metadata={"format": "pt"})
        files = {
            "adapter_config.json": event.sheet("delta.adapter_config").plain,
            "adapter_model.safetensors": sheet.plain,
        }
        update, base = event.change["update"], event.change["parents"]["base_model"]
        update["delta"] = delta_digest(files)
        update["state"] = state_digest(base, update["delta"])

    lies(edit)
    difference = found(cli("replay", told_once.second, "--no-record", "--json"), "delta", "tensor", "2 ULP")
    assert difference["at"]["number"] == 5
    assert (difference["tensor"]["max_ulp"], difference["tensor"]["differing"]) == (2, 1)
    assert difference["delta"]["differing"] == 1 and difference["delta"]["numbers"] > difference["tensor"]["numbers"]
    shown = cli("replay", told_once.second, "--no-record")
    assert shown.status == 1 and difference["at"]["tensor"] in shown.out and "whole delta" in shown.out
    assert len(shown.out.splitlines()) <= 24, "one screen"


# ---- erased, and another environment ----------------------------------------------------------------------------


def test_an_erased_subject_is_not_replayable_and_the_log_says_so(cli: Command, told: Told) -> None:
    with opened(told) as world:
        subject = world.ledger.change(told.second).body.identity.subject
    assert cli("subjects", "erase", subject, "--reason", "asked to", "--yes").status == 0
    ran = cli("replay", told.second, "--json")
    assert (ran.status, ran.json["verdict"], ran.json["first_difference"]) == (4, "not replayable", None)
    assert {stage["verdict"] for stage in ran.json["stages"]} == {"not reached"}
    with opened(told) as world:
        last: Any = world.ledger.entry(world.ledger.size - 1).predicate.body
    assert (last.type, last.target, last.verdict) == ("replay.performed", told.second, "not replayable")
    many = cli("replay", "--all", "--no-record", "--json")
    assert many.status == 4 and many.json["verdicts"] == {"equal": 2, "not replayable": 1}
    assert cli("verify").status == 0
