"""Bundles of real changes: what they prove, and every way of lying with one that is caught, by which mechanism."""

from __future__ import annotations

import base64
import copy
import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mass_gov.errors import IntegrityError
from mass_gov.evidence.bundle_members import CLOSED, ERASED, leaf_document
from mass_gov.evidence.canonical import canonical_bytes
from mass_gov.evidence.checkpoint import Checkpoint, sign_checkpoint, vkey
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.merkle import leaf_hash
from mass_gov.evidence.model_signing import sign_folder
from mass_gov.evidence.sealing import open_disclosed
from mass_gov.evidence.trust import TrustRoot, parse_trust_root
from mass_gov.flows.audit_report import Findings
from mass_gov.flows.bundle_export import _entries as bundled_entries
from mass_gov.flows.bundle_export import export_change
from mass_gov.flows.bundle_story import check_story
from mass_gov.flows.bundle_verify import verify_bundle
from mass_gov.ledger import Ledger
from mass_gov.ledger.writing import binding_of
from mass_gov.records.events import ChangeApproved
from tests.fakes.bundles import exported, judged, root_of
from tests.fakes.forger import Event, events_of, forged
from tests.fakes.ledger_world import BOTH_SCOPES, LedgerWorld

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path_factory.mktemp("bundles"), BOTH_SCOPES)
    yield made
    made.close()


@pytest.fixture(scope="module")
def story(world: LedgerWorld) -> str:
    """A change that was held, approved, activated and rolled back."""
    change = world.record("held", scope="deployment", step_norm=0.7)
    cause = world.activation(change, "approval")
    world.ledger.append([world.approval(change), cause])
    world.ledger.append([world.rollback(world.ledger.change(change.change_id))])
    return change.change_id


@pytest.fixture(scope="module")
def genuine(world: LedgerWorld, story: str) -> Members:
    return exported(world, story)


@pytest.fixture
def members(genuine: Members) -> Members:
    return dict(genuine)


@pytest.fixture(scope="module")
def root(world: LedgerWorld) -> TrustRoot:
    return root_of(world.ledger)


def test_a_genuine_bundle_proves_the_whole_story(genuine: Members, root: TrustRoot, story: str) -> None:
    report = judged(genuine, root)
    assert report.ok and report.trust == "key given" and report.change_id == story and report.verdict == "hold"
    assert report.became == ("response.served", "change.approved", "change.activated", "change.rolled_back")
    assert {step.number: step.verdict for step in report.steps} == {
        **dict.fromkeys((1, 2, 3, 4, 5, 7, 8, 9, 10), "ok"),
        12: "skipped",
    }
    assert json.loads(json.dumps(report.document()))["verdict"] == "hold"


def test_equal_ledgers_give_equal_bundles(world: LedgerWorld, story: str) -> None:
    change = world.ledger.change(story)
    assert export_change(world.ledger, change).archive == export_change(world.ledger, change).archive


@pytest.mark.parametrize("options", [{}, {"learned": False}, {"step_norm": 0.9}, {"step_norm": 0.7}])
def test_every_kind_of_change_can_be_shown(world: LedgerWorld, root: TrustRoot, options: dict[str, object]) -> None:
    change = world.record(f"kind {options}", **options)
    members = exported(world, change.change_id)
    assert ("delta.sig" in members) == (options.get("learned") is not False)
    report = judged(members, root)
    assert report.ok and report.verdict == change.body.decision.verdict, report.first_wrong


def test_without_a_trust_root_only_consistency_is_claimed(genuine: Members) -> None:
    report = judged(genuine, None)
    assert report.ok and report.trust == "consistency only"
    assert "who wrote it: no trust root was given" in report.not_checked
    assert any(warning.startswith("Only consistency was checked") for warning in report.warnings)


def test_a_pinned_fingerprint_or_verifier_key_is_a_trust_root(world: LedgerWorld, story: str) -> None:
    archive = export_change(world.ledger, world.ledger.change(story)).archive
    key = world.ledger.log_key
    assert verify_bundle(archive, fingerprint=f"sha256:{key.keyid}").trust == "key given"
    assert verify_bundle(archive, fingerprint=key.keyid).ok
    wrong = verify_bundle(archive, fingerprint="0" * 64)
    assert not wrong.ok and wrong.first_wrong is not None and wrong.first_wrong.step == 2
    for origin, ok in ((world.ledger.origin, True), ("example.org/other", False)):
        report = verify_bundle(archive, public_key=parse_trust_root(vkey(origin, key).encode()))
        assert report.ok is ok


def test_sealed_and_erased_contents_are_named_and_still_proven(tmp_path: Path) -> None:
    with_erased = LedgerWorld.make(tmp_path / "home")
    subject = "s-" + "e" * 32
    change = with_erased.record("erased", subject=subject)
    closed = exported(with_erased, change.change_id, sealed=True)
    assert not [name for name in closed if name.endswith((".key", ".plain"))] and "delta.sig" not in closed
    assert [content for name, content in closed.items() if name.endswith(".closed")] == [CLOSED] * 12
    report = judged(closed, root_of(with_erased.ledger))
    assert report.ok and any("left sealed" in what for what in report.not_checked)

    with_erased.keys.destroy_subject(subject)
    members = exported(with_erased, change.change_id)
    assert [content for name, content in members.items() if name.endswith(".erased")] == [ERASED] * 10
    report = judged(members, root_of(with_erased.ledger))
    assert report.ok and report.counts["erased"] == 10
    assert any("said to be erased" in what for what in report.not_checked)
    with_erased.close()


def test_no_subject_key_and_no_master_key_is_in_it(world: LedgerWorld, genuine: Members) -> None:
    archive = b"".join(genuine.values())
    for secret in [world.keys.subject_key("s-" + "5" * 32), world.keys.subject_key("s-" + "0" * 32)]:
        assert secret not in archive and secret.hex().encode() not in archive
        assert base64.b64encode(secret) not in archive
    shown = {name.removesuffix(".key") for name in genuine if name.endswith(".key")}
    assert shown == {name.removesuffix(".sealed") for name in genuine if name.endswith(".sealed")}


def test_any_flipped_bit_in_any_member_is_caught(genuine: Members, root: TrustRoot) -> None:
    rng = random.Random(4)
    for name, content in genuine.items():
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        report = judged(genuine | {name: bytes(flipped)}, root)
        assert not report.ok and report.first_wrong is not None, name


def test_any_missing_and_any_added_member_is_caught(genuine: Members, root: TrustRoot, story: str) -> None:
    for name in genuine:
        assert not judged({n: c for n, c in genuine.items() if n != name}, root).ok, name
    for name in ("evil", "events/9", "artifacts/0/request.plain", "delta/evil.bin", "references/0.plain", "keys/x.pem"):
        report = judged(genuine | {name: b"x"}, root)
        assert not report.ok and report.first_wrong is not None and report.first_wrong.step in (1, 7), name


# --- attacks, each with the step that catches it -----------------------------------------------------------------


def step_of(members: Members, root: TrustRoot | None) -> int:
    report = judged(members, root)
    assert not report.ok and report.first_wrong is not None
    return report.first_wrong.step


def test_swapped_adapter_bytes_are_caught_by_the_sealed_bytes_and_the_signature(
    members: Members, root: TrustRoot, world: LedgerWorld
) -> None:
    members["delta/adapter_model.safetensors"] = os.urandom(200)
    assert step_of(members, root) == 7
    files = {name: members[f"delta/{name}"] for name in ("adapter_config.json", "adapter_model.safetensors")}
    members["delta.sig"] = sign_folder(files, "delta", world.keys.delta_signer)  # the genuine key signs the swap
    report = judged(members, root)
    assert report.first_wrong is not None and "not what was sealed" in report.first_wrong.what


def test_a_genuine_old_adapter_under_a_new_event_is_caught_by_the_leafs_digest(
    members: Members, root: TrustRoot, world: LedgerWorld, story: str
) -> None:
    other = world.record("older")
    old, old_at, at = exported(world, other.change_id), other.index, world.ledger.change(story).index
    for role in ("delta.adapter_config", "delta.adapter_model", "delta.signature"):
        for kind in ("sealed", "key"):
            members[f"artifacts/{at}/{role}.{kind}"] = old[f"artifacts/{old_at}/{role}.{kind}"]
    for name in ("delta.sig", "delta/adapter_config.json", "delta/adapter_model.safetensors"):
        members[name] = old[name]
    report = judged(members, root)
    assert report.first_wrong is not None and report.first_wrong.step == 7
    assert "not those that the leaf names" in report.first_wrong.what


def test_an_artifact_of_one_change_under_another_does_not_open_there(world: LedgerWorld) -> None:
    first, second = world.record("one"), world.record("two")
    shown = world.ledger.disclose(first.entry, "answer")
    ref = next(ref for ref in first.entry.predicate.artifacts if ref.role == "answer")
    stored = world.ledger.stored_artifact(ref.digest)
    assert open_disclosed(stored, shown.data_key, binding_of(first.entry.predicate, ref), ref.commitment)
    with pytest.raises(IntegrityError, match="belongs elsewhere"):
        open_disclosed(stored, shown.data_key, binding_of(second.entry.predicate, ref), ref.commitment)


def test_another_key_for_the_same_ciphertext_is_caught_by_the_commitment(
    members: Members, root: TrustRoot, world: LedgerWorld, story: str
) -> None:
    at = world.ledger.change(story).index
    members[f"artifacts/{at}/answer.key"] = os.urandom(32).hex().encode() + b"\n"
    report = judged(members, root)
    assert report.first_wrong is not None and "committed to" in report.first_wrong.what


def test_a_bundle_with_the_attackers_own_keys_agrees_with_itself_and_with_nobody_else(
    root: TrustRoot, tmp_path: Path
) -> None:
    theirs = LedgerWorld.make(tmp_path / "attacker")
    members = exported(theirs, theirs.record("mine").change_id)
    assert judged(members, None).ok  # which is why it says that only consistency was checked
    assert step_of(members, root) == 2
    members["keys/log-ed25519.pem"] = root.key.pem
    assert step_of(members, root) == 2
    theirs.close()


def test_a_head_signed_by_somebody_else_is_caught(members: Members, root: TrustRoot, tmp_path: Path) -> None:
    stranger = KeyStore.open(tmp_path / "keys", create=True).log_signer
    origin = members["checkpoint.txt"].split(b"\n")[0].decode()
    members["checkpoint.txt"] = sign_checkpoint(Checkpoint(origin, 100, bytes(32)), stranger)
    assert step_of(members, root) in (4, 5)


def test_a_proof_of_another_event_or_head_is_caught(members: Members, root: TrustRoot, genuine: Members) -> None:
    members["inclusion.tlog-proof"] = genuine["events/0/inclusion.tlog-proof"]
    assert step_of(members, root) == 4


def test_a_stripped_signature_or_another_payload_type_is_caught(members: Members, root: TrustRoot) -> None:
    envelope = json.loads(members["event.dsse.json"])
    changes: tuple[dict[str, Any], ...] = ({"signatures": []}, {"payloadType": "text/plain"})
    for change in changes:
        altered = canonical_bytes(envelope | change)
        assert step_of(members | {"event.dsse.json": altered}, root) == 1


def resigned(members: Members, index: int, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Members:
    """The change's leaf with another predicate, its old signature, and everything that follows from it."""
    envelope = json.loads(members["event.dsse.json"])
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"] = change(statement["predicate"])
    envelope["payload"] = base64.b64encode(canonical_bytes(statement)).decode()
    leaf = canonical_bytes(envelope)
    return members | {"event.dsse.json": leaf, "leaf.json": leaf_document(index, leaf)}


def test_a_leaf_that_nobody_signed_is_caught(members: Members, root: TrustRoot, world: LedgerWorld, story: str) -> None:
    def lie(predicate: dict[str, Any]) -> dict[str, Any]:
        predicate["body"]["change"]["decision"]["verdict"] = "apply"
        return predicate

    assert step_of(resigned(members, world.ledger.change(story).index, lie), root) == 3


def test_a_later_event_of_another_change_is_caught(members: Members, root: TrustRoot, world: LedgerWorld) -> None:
    other = world.record("stranger")
    index = next(r.index for r in world.ledger.responses(change_id=other.change_id))
    theirs = exported(world, other.change_id)
    stem = f"events/{index}/"
    fresh = dict(members) | {name: content for name, content in theirs.items() if name.startswith(stem)}
    report = judged(fresh, root)
    assert report.first_wrong is not None  # under an older head, and about another change
    assert any(fault.step == 8 and "another change" in fault.what for step in report.steps for fault in step.faults)


@pytest.mark.parametrize("role", ["policy", "suite"])
def test_a_swapped_policy_or_suite_is_caught_by_its_sealed_bytes(members: Members, root: TrustRoot, role: str) -> None:
    name = next(name for name in members if name.endswith(f"/{role}.plain"))
    members[name] += b"\n"
    report = judged(members, root)
    assert report.first_wrong is not None and "not what was sealed" in report.first_wrong.what


def test_a_change_moved_to_another_tenant_neither_opens_nor_verifies(
    members: Members, root: TrustRoot, world: LedgerWorld, story: str
) -> None:
    entry = world.ledger.change(story).entry
    ref = next(ref for ref in entry.predicate.artifacts if ref.role == "answer")
    shown, stored = world.ledger.disclose(entry, "answer"), world.ledger.stored_artifact(ref.digest)
    moved = replace(binding_of(entry.predicate, ref), tenant="other")
    with pytest.raises(IntegrityError, match="belongs elsewhere"):
        open_disclosed(stored, shown.data_key, moved, ref.commitment)
    assert step_of(resigned(members, entry.index, lambda p: p | {"tenant": "other"}), root) == 3


# --- the operator lies with every key at hand: what a bundle of a forged log still shows -----------------------------


@pytest.fixture
def forge(world: LedgerWorld, story: str, tmp_path: Path) -> Callable[[Callable[[Event], None]], int]:
    """Forge the log of the world with one lie about the change, export it there, and return the step that sees it."""

    def make(lie: Callable[[Event], None]) -> int:
        events = copy.deepcopy(events_of(world))
        victim = next(e for e in events if e.body["type"] == "change.recorded" and story in str(e.change["identity"]))
        lie(victim)
        home = forged(world, events, tmp_path / "forged")
        keys = KeyStore.open(home / "keys")
        with Ledger.open(home / "ledger.db", keys=None, checkpoints=home / "checkpoints") as ledger:
            ledger.keys = keys
            archive = export_change(ledger, ledger.change(story)).archive
        report = verify_bundle(archive, public_key=root_of(world.ledger))
        assert not report.ok and report.first_wrong is not None
        return report.first_wrong.step

    return make


def test_a_decision_that_metrics_and_policy_do_not_yield_is_caught(forge: Callable[..., int]) -> None:
    def lie(event: Event) -> None:
        event.change["decision"] |= {"verdict": "apply", "violated": [], "reason": "inside_envelope"}

    assert forge(lie) == 10


def test_a_metric_that_the_artifact_does_not_bear_out_is_caught(forge: Callable[..., int]) -> None:
    def lie(event: Event) -> None:
        event.change["update"]["step_norm"] = 0.69  # its artifact still says 0.7
        event.decide_again(BOTH_SCOPES)

    assert forge(lie) == 9


def test_another_policy_named_by_the_change_is_caught(world: LedgerWorld, genuine: Members, root: TrustRoot) -> None:
    stems = {name.rsplit("/", 1)[0] for name in genuine if name.endswith("policy.sealed")}
    index = int(stems.pop().split("/")[1])
    without = {name: content for name, content in genuine.items() if f"/{index}/" not in name}
    report = judged(without, root)
    assert report.first_wrong is not None and "lacks its policy.activated" in report.first_wrong.what


def test_what_is_hashed_is_the_leaf_file_as_it_lies(genuine: Members, story: str, world: LedgerWorld) -> None:
    leaf = json.loads(genuine["leaf.json"])
    assert leaf["leaf_hash"] == leaf_hash(genuine["event.dsse.json"]).hex()
    assert world.ledger.change(story).entry.leaf == genuine["event.dsse.json"]


# --- what a bundle's own events say of each other ---------------------------------------------------------------------


def told(world: LedgerWorld, change_id: str, lies: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is wrong with the story of a change whose later events say what `lies` says, by their type."""
    change = world.ledger.change(change_id)
    entries = []
    for entry in bundled_entries(world.ledger, change):
        lie = lies.get(entry.predicate.body.type, {})
        body = entry.predicate.body.model_copy(update=dict(lie))
        entries.append(replace(entry, predicate=entry.predicate.model_copy(update={"body": body})))
    findings = Findings()
    check_story(entries, change.entry, change.body, findings)
    return [fault.what for step in findings.steps() for fault in step.faults]


def test_an_approval_that_lies_about_whose_it_was_or_where_the_pointer_stood_is_caught(
    world: LedgerWorld, story: str
) -> None:
    assert told(world, story, {}) == []
    assert any("truly" in what for what in told(world, story, {"change.approved": {"self_approved": True}}))
    found = told(world, story, {"change.approved": {"expected_head": 1}})
    assert any("approves something else" in what for what in found)


def test_an_update_for_one_answer_that_moved_the_pointer_by_itself_is_caught(world: LedgerWorld) -> None:
    """A change of scope instance is promoted, with approvals, or moves nothing."""
    change = world.record("for one answer")
    assert change.status == "applied"
    world.promote(change)
    assert told(world, change.change_id, {}) == []
    found = told(world, change.change_id, {"change.activated": {"cause": "envelope"}})
    assert any("for another cause than may be" in what for what in found)


def test_a_signature_that_a_bundle_cannot_check_is_not_said_to_hold(world: LedgerWorld, story: str) -> None:
    change, findings = world.ledger.change(story), Findings()
    entries = [
        replace(
            entry, predicate=entry.predicate.model_copy(update={"body": body.model_copy(update={"signature": "x"})})
        )
        if isinstance(body := entry.predicate.body, ChangeApproved)
        else entry
        for entry in bundled_entries(world.ledger, change)
    ]
    check_story(entries, change.entry, change.body, findings)
    assert any("the approver's own signature" in what for what in findings.not_checked())
