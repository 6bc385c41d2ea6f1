"""Verification names the attack: what was done, where, and by which step it was seen."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mass_gov.config_data import data_folder
from mass_gov.errors import LedgerUnavailableError
from mass_gov.evidence.checkpoint import vkey
from mass_gov.evidence.dsse import PAYLOAD_TYPE, sign_envelope
from mass_gov.evidence.merkle import Frontier, leaf_hash
from mass_gov.evidence.model_signing import sign_folder
from mass_gov.evidence.signing import Ed25519Signer, P256Signer
from mass_gov.evidence.trust import TrustRoot, parse_trust_root
from mass_gov.flows.audit import VerificationReport, verify
from mass_gov.ledger.entries import statement_bytes
from mass_gov.policy import load_policy
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import Actor, ChangeRecorded
from tests.fakes.ledger_world import ADA, BOTH_SCOPES, SUBJECT, LedgerWorld, digest, shipped_policy
from tests.fakes.tamper import editing, tampering

pytestmark = pytest.mark.both_engines


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path / "home")
    for name in ("one", "two", "three"):
        made.record(name)
    yield made
    made.close()


def first_wrong(report: VerificationReport) -> tuple[int, str]:
    """(step, everything that the first fault says)."""
    assert not report.ok
    assert report.first_wrong is not None
    return report.first_wrong.step, str(report.first_wrong)


def executed(world: LedgerWorld, *statements: str) -> VerificationReport:
    """Verify after a thief ran SQL."""
    with tampering(world.ledger.address) as connection:
        for statement in statements:
            connection.execute(statement)
    return verify(world.ledger)


def test_a_sound_ledger_verifies_and_its_report_is_json(world: LedgerWorld) -> None:
    report = verify(world.ledger)
    assert report.ok, report.first_wrong
    assert [step.verdict for step in report.steps] == ["ok"] * 11 + ["skipped"]  # no witness policy was given
    assert (report.size, report.trust) == (world.ledger.size, "key store")
    assert report.root == world.ledger.latest_checkpoint().root
    assert json.loads(json.dumps(report.document()))["counts"]["changes"] == 3


def test_progress_is_told_step_by_step(world: LedgerWorld) -> None:
    told: list[tuple[str, int, int]] = []
    verify(world.ledger, progress=lambda *message: told.append(message))
    assert ("events", world.ledger.size, world.ledger.size) in told


@pytest.mark.parametrize(
    ("statements", "step", "named"),
    [
        (['DELETE FROM log_events WHERE "index" = 6'], 3, "6 was expected here"),
        (["DELETE FROM log_nodes WHERE level = 1 AND position = 2"], 4, "log_nodes row (1, 2)"),
        (["INSERT INTO log_nodes VALUES (0, 99, zeroblob(32))"], 4, "this subtree is not complete"),
        (["INSERT INTO log_nodes VALUES (9, 0, zeroblob(32))"], 4, "log_nodes level 9"),
        (["DELETE FROM log_checkpoints WHERE size = 10"], 5, "no signed head"),
        (
            ["INSERT INTO log_checkpoints (size, note) SELECT 11, note FROM log_checkpoints LIMIT 1"],
            5,
            "log_checkpoints row 11",
        ),
        (
            ["UPDATE log_checkpoints SET note = (SELECT note FROM log_checkpoints WHERE size = 4) WHERE size = 6"],
            5,
            "6",
        ),
        (["INSERT INTO artifacts VALUES (zeroblob(32), x'00')"], 7, "no event names it"),
        (["DELETE FROM artifacts WHERE digest = (SELECT digest FROM artifacts LIMIT 1)"], 7, "it is missing"),
        (['DELETE FROM responses WHERE "index" = 5'], 8, "responses row"),
        (["INSERT INTO pointers VALUES ('acme', 'tutor', 'x', NULL, 3, 'm')"], 8, "is extra"),
        (["DROP INDEX changes_by_state"], 1, "index changes_by_state"),
        (["CREATE TABLE notes (text TEXT)"], 1, "table notes"),
        (["DELETE FROM alembic_version"], 1, "alembic_version"),
    ],
)
def test_rows_that_were_taken_added_or_moved_are_named(
    world: LedgerWorld, statements: list[str], step: int, named: str
) -> None:
    found, text = first_wrong(executed(world, *statements))
    assert found == step
    assert named in text


def test_a_missing_trigger_is_named(world: LedgerWorld, engine: str) -> None:
    name, where = ("artifacts_no_delete", "") if engine == "sqlite" else ("artifacts_no_verb", " on artifacts")
    with editing(world.ledger.address) as connection:
        connection.execute(f"DROP TRIGGER {name}{where}")
    assert first_wrong(verify(world.ledger)) == (
        1,
        f"step 1 (schema): trigger {name}{where}: it is missing. Restore the schema from a back-up",
    )


def test_two_events_that_changed_places_are_named(world: LedgerWorld) -> None:
    leaves = {index: world.ledger.entry(index).leaf for index in (4, 6)}
    with tampering(world.ledger.address) as connection:
        for index, leaf in ((4, leaves[6]), (6, leaves[4])):
            connection.execute('UPDATE log_events SET leaf = ? WHERE "index" = ?', (leaf, index))
    step, text = first_wrong(verify(world.ledger))
    assert (step, "log_events row 4, leaf" in text) == (4, True)


def test_two_artifacts_that_changed_places_are_named(world: LedgerWorld) -> None:
    one, two = (ref.digest for ref in world.ledger.entry(4).predicate.artifacts[:2])
    a, b = world.ledger.stored_artifact(one), world.ledger.stored_artifact(two)
    with tampering(world.ledger.address) as connection:
        for name, stored in ((one, b), (two, a)):
            connection.execute("UPDATE artifacts SET stored = ? WHERE digest = ?", (stored, bytes.fromhex(name)))
    report = verify(world.ledger)
    assert first_wrong(report)[0] == 7
    assert report.first_wrong is not None
    assert "event 4, artifact request[0]" in report.first_wrong.what
    assert report.first_wrong.change_id == world.ledger.changes(newest_first=False)[0].change_id


def test_a_log_that_was_written_again_with_another_key_is_named(world: LedgerWorld) -> None:
    _resign(world, Ed25519Signer.generate(), from_index=4)
    step, text = first_wrong(verify(world.ledger))
    assert (step, "log_events row 4, leaf" in text, "is trusted" in text) == (3, True, True)


def test_an_old_genuine_database_is_named_by_the_head_outside(world: LedgerWorld, tmp_path: Path) -> None:
    world.ledger._outside.flush()
    with tampering(world.ledger.address) as connection:
        connection.execute('DELETE FROM log_events WHERE "index" >= 8')
        connection.execute("DELETE FROM log_nodes WHERE (position + 1) << level > 8")
        connection.execute("DELETE FROM log_checkpoints WHERE size > 8")
        connection.execute('DELETE FROM changes WHERE "index" >= 8')
        connection.execute('DELETE FROM responses WHERE "index" >= 8')
    report = verify(world.ledger)
    assert any("a signed head of 10 is known" in fault.what for fault in report.steps[5].faults)


def test_another_trust_root_is_refused_and_the_right_one_is_believed(world: LedgerWorld) -> None:
    right = parse_trust_root(vkey(world.ledger.origin, world.ledger.log_key).encode())
    assert verify(world.ledger, public_key=right).trust == "key given"
    assert verify(world.ledger, public_key=right).ok
    step, text = first_wrong(verify(world.ledger, public_key=Ed25519Signer.generate().public_key))
    assert (step, "the trusted key is" in text) == (2, True)
    pinned = TrustRoot(world.ledger.log_key, "example.org/other")
    assert first_wrong(verify(world.ledger, public_key=pinned))[0] == 2


SHIPPED = load_policy((data_folder("policies") / "solo" / "v1.yaml").read_bytes())
"""Known to whoever has no keys."""


def test_a_log_that_vouches_for_itself_says_so(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home", SHIPPED)
    world.record("one", learned=False)
    report = verify(world.ledger.address)
    assert report.ok, report.first_wrong
    assert report.trust == "consistency only"
    assert any("No trust root" in warning for warning in report.warnings)
    assert {step.number for step in report.steps if step.verdict == "skipped"} == {6, 9, 12}
    assert report.steps[9].verdict == "ok"
    world.close()


def _lying(world: LedgerWorld, edit: Callable[[Any], Any]) -> EventDraft:
    """A genuine change whose body was edited before it was signed: what the log key's owner could do."""
    (draft,) = world.change_drafts("lie", consequences=False)
    assert isinstance(draft.body, ChangeRecorded)
    return EventDraft(
        draft.actor, draft.tenant, draft.deployment, ChangeRecorded(change=edit(draft.body.change)), draft.artifacts
    )


def _part(name: str, **values: Any) -> Callable[[Any], Any]:
    return lambda change: change.model_copy(update={name: getattr(change, name).model_copy(update=values)})


@pytest.mark.parametrize(
    ("edit", "step", "named"),
    [
        (_part("decision", verdict="hold"), 10, "recorded hold (inside_envelope), solo/v1 gives apply"),
        (_part("decision", violated=("update.steps",)), 10, "decision"),
        (lambda change: change.model_copy(update={"gates": change.gates[1:]}), 10, "gates"),
        (_part("synthesis", kept=2, unparseable=0), 9, "unparseable: the leaf says 0, the artifact gives 1"),
        (_part("synthesis", forced=True), 9, "forced"),
        (_part("regression", critical_n=3), 9, "critical cases"),
        (_part("update", loss_first=0.5), 9, "first and last loss"),
        (_part("parents", config=digest("other")), 9, "artifact config: digest"),
        (_part("parents", fingerprint=digest("other")), 9, "artifact fingerprint: digest"),
        (_part("identity", request_commitment=digest("other")), 9, "task id's commitment"),
    ],
)
def test_a_signed_lie_is_named(world: LedgerWorld, edit: Callable[[Any], Any], step: int, named: str) -> None:
    (entry,) = world.ledger.append([_lying(world, edit)])
    report = verify(world.ledger)
    found, text = first_wrong(report)
    assert (found, named in text) == (step, True), text
    assert report.first_wrong is not None
    assert report.first_wrong.index == entry.index
    assert report.first_wrong.change_id == world.ledger.changes()[0].change_id


def test_a_delta_signed_by_another_key_is_named(world: LedgerWorld) -> None:
    (draft,) = world.change_drafts("lie", consequences=False)
    plain = {artifact.role: artifact.plaintext for artifact in draft.artifacts}
    files = {
        "adapter_config.json": plain["delta.adapter_config"],
        "adapter_model.safetensors": plain["delta.adapter_model"],
    }
    forged = ArtifactDraft("delta.signature", sign_folder(files, "delta", P256Signer.generate()), SUBJECT)
    kept = tuple(artifact for artifact in draft.artifacts if artifact.role != "delta.signature")
    world.ledger.append([EventDraft(draft.actor, draft.tenant, draft.deployment, draft.body, (*kept, forged))])
    step, text = first_wrong(verify(world.ledger))
    assert (step, "artifact delta.signature" in text) == (9, True)


def test_an_artifact_that_was_left_out_is_named(world: LedgerWorld) -> None:
    (draft,) = world.change_drafts("lie", consequences=False)
    kept = tuple(artifact for artifact in draft.artifacts if artifact.role != "samples")
    world.ledger.append([EventDraft(draft.actor, draft.tenant, draft.deployment, draft.body, kept)])
    assert first_wrong(verify(world.ledger)) == (
        7,
        f"step 7 (artifacts): event {world.ledger.size - 1}, artifacts: it lacks samples",
    )


def test_an_approval_that_its_policy_does_not_allow_is_named(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home", shipped_policy("default"))
    held = world.record("one", step_norm=0.7)
    world.ledger.append([world.approval(held, ADA)])
    step, text = first_wrong(verify(world.ledger))
    assert (step, "does not count the requester's own approval" in text) == (10, True)
    world.close()


def test_fewer_approvals_than_the_policy_wants_are_named(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home", BOTH_SCOPES)
    held = world.record("one", step_norm=0.7)
    world.ledger.append([world.approval(held, required=2)])
    step, text = first_wrong(verify(world.ledger))
    assert (step, "wants 1" in text) == (10, True)
    world.close()


def test_an_erased_subject_is_no_fault(world: LedgerWorld) -> None:
    world.keys.destroy_subject(SUBJECT)
    report = verify(world.ledger)
    assert report.ok, report.first_wrong
    assert report.counts["erased"] == report.counts["artifacts"] - 2  # policy and suite are nobody's


def test_what_a_person_should_look_at_is_listed(tmp_path: Path) -> None:
    times = [dt.datetime(2026, 1, 1, 12, 0, tzinfo=dt.UTC) - dt.timedelta(minutes=n) for n in range(20)]
    world = LedgerWorld.make(tmp_path / "home", clock=lambda: times.pop(0))
    held = world.record("one", step_norm=0.7)
    world.ledger.append([world.approval(held, Actor(principal=ADA.principal, role="operator"))])
    world.record("two", forced=True)
    report = verify(world.ledger)
    assert report.ok, report.first_wrong
    listed = "\n".join(report.warnings)
    for text in (
        "clock ran backwards at event 1",
        "approved (event 6) by the one who",
        "learned from supplied samples",
    ):
        assert text in listed
    world.close()


def test_without_keys_an_unknown_policy_is_said_to_be_unread(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home", BOTH_SCOPES)
    world.record("one")
    report = verify(world.ledger.address)
    assert report.ok
    assert (report.steps[9].verdict, "give the key store" in report.steps[9].note) == ("skipped", True)
    world.close()


@pytest.mark.sqlite_only("tears a file")
@pytest.mark.parametrize("keep", [0.25, 0.6, 0.95])
def test_a_torn_file_gives_a_report_and_no_traceback(world: LedgerWorld, tmp_path: Path, keep: float) -> None:
    world.close()
    torn = tmp_path / "torn.db"
    data = world.ledger.address.file.read_bytes()
    torn.write_bytes(data[: int(len(data) * keep)])
    report = verify(torn, keys=world.keys, checkpoints=world.ledger.checkpoints)
    assert not report.ok
    assert report.first_wrong is not None


@pytest.mark.sqlite_only("about a file")
def test_a_file_that_is_no_database_gives_a_report_and_a_missing_one_an_outage(
    world: LedgerWorld, tmp_path: Path
) -> None:
    shutil.copy(world.ledger.address.file, tmp_path / "broken.db")
    with (tmp_path / "broken.db").open("r+b") as stream:
        stream.write(b"X")
    assert "no SQLite database" in first_wrong(verify(tmp_path / "broken.db"))[1]
    with pytest.raises(LedgerUnavailableError, match="There is no ledger"):
        verify(tmp_path / "none.db")


def _resign(world: LedgerWorld, signer: Ed25519Signer, from_index: int) -> None:
    """Write the events from `from_index` on again under another key, with every hash as it then has to be."""
    frontier, rows, nodes = Frontier(), [], []
    for entry in world.ledger.entries():
        leaf = entry.leaf
        if entry.index >= from_index:
            leaf = sign_envelope(statement_bytes(entry.predicate, entry.predicate.document()), PAYLOAD_TYPE, signer)
        before = frontier.root()
        nodes += frontier.append(leaf_hash(leaf))
        rows.append((leaf, before, frontier.root(), entry.index))
    with tampering(world.ledger.address) as connection:
        connection.executemany('UPDATE log_events SET leaf = ?, prev_root = ?, root = ? WHERE "index" = ?', rows)
        moved = [(node.hash, node.level, node.position) for node in nodes]
        connection.executemany("UPDATE log_nodes SET hash = ? WHERE level = ? AND position = ?", moved)
