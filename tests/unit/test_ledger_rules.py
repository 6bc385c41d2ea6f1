"""What an event may say whatever came before: denials named after what somebody with the log's key could try."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mass_gov.errors import IntegrityError, PermissionRefusedError, RefusedError, StaleChangeError
from mass_gov.evidence.canonical import sha256_hex
from mass_gov.evidence.keystore import SYSTEM_SUBJECT
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import (
    AccessDenied,
    Actor,
    ChangeRecorded,
    ModelRegistered,
    PolicyActivated,
    ReplayPerformed,
    SuiteRegistered,
)
from tests.fakes.ledger_world import (
    BASE_MODEL,
    BOB,
    BOTH_SCOPES,
    SUBJECT,
    SUITE,
    SUITE_FILE,
    TEMPLATE,
    LedgerWorld,
    digest,
    shipped_policy,
)

pytestmark = pytest.mark.both_engines

RESPONSE = "01890000-0000-7000-8000-000000000001"
AUDITOR = Actor(principal="zoe", role="auditor")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path / "home", BOTH_SCOPES)
    yield made
    made.close()


def refused(world: LedgerWorld, draft: EventDraft, kind: type[Exception], match: str) -> None:
    """The append is refused with this message, and nothing of it was written."""
    before = world.ledger.size
    with pytest.raises(kind, match=match):
        world.ledger.append([draft])
    assert world.ledger.size == before


def activation(world: LedgerWorld, **fields: object) -> EventDraft:
    """Bob puts another policy in force."""
    policy = shipped_policy("default")
    said: dict[str, object] = {
        "policy": policy.digest,
        "name": policy.document.name,
        "version": policy.document.version,
        "replaces": world.ledger.active_policy(),
        "approvers": ("bob",),
        "self_approved": True,
    }
    return world.draft(PolicyActivated.model_validate(said | fields), BOB, ("policy", policy.source))


def moved_to(draft: EventDraft, handle: str) -> EventDraft:
    """The same event with its artifacts sealed under another handle."""
    sealed = tuple(ArtifactDraft(artifact.role, artifact.plaintext, handle) for artifact in draft.artifacts)
    return EventDraft(draft.actor, draft.tenant, draft.deployment, draft.body, sealed)


def lying(world: LedgerWorld, part: str, **values: object) -> EventDraft:
    """A change of which one part was edited before it was signed."""
    (draft,) = world.change_drafts("one", consequences=False)
    assert isinstance(draft.body, ChangeRecorded)
    change = draft.body.change
    edited = change.model_copy(update={part: getattr(change, part).model_copy(update=values)})
    return EventDraft(draft.actor, draft.tenant, draft.deployment, ChangeRecorded(change=edited), draft.artifacts)


def test_an_auditor_approves_nothing_and_replays(world: LedgerWorld) -> None:
    held = world.record("one", step_norm=0.7)
    refused(world, world.approval(held, AUDITOR), PermissionRefusedError, "acts as an auditor")
    replay = ReplayPerformed(
        target=held.change_id, start="delta", verdict="equal", first_difference=None, fingerprint=digest("machine")
    )
    denial = AccessDenied(action="approve", policy=BOTH_SCOPES.digest, change_id=held.change_id, count=1)
    world.ledger.append([world.draft(replay, AUDITOR), world.draft(denial, AUDITOR)])


@pytest.mark.parametrize(
    ("verdict", "difference"), [("equal", "answer"), ("equal, other fingerprint", "delta"), ("differs", None)]
)
def test_a_replay_that_contradicts_itself_is_refused(world: LedgerWorld, verdict: str, difference: str | None) -> None:
    said = {"start": "delta", "verdict": verdict, "first_difference": difference, "fingerprint": digest("machine")}
    body = ReplayPerformed.model_validate(said | {"target": world.record("one").change_id})
    refused(world, world.draft(body), IntegrityError, "Replay it again")


@pytest.mark.parametrize("handle", [SYSTEM_SUBJECT, "s-" + "1" * 32])
def test_an_artifact_that_erasure_would_not_reach_is_refused(world: LedgerWorld, handle: str) -> None:
    (change,) = world.change_drafts("one", consequences=False)
    for honest in (change, world.unadapted(RESPONSE)):
        refused(world, moved_to(honest, handle), IntegrityError, "Erasing that person would not reach it")


def test_what_belongs_to_nobody_is_not_erased_with_a_person(world: LedgerWorld) -> None:
    refused(world, moved_to(activation(world), SUBJECT), IntegrityError, "sealed under")


def test_a_suite_is_not_swapped_under_its_name_nor_named_twice(world: LedgerWorld) -> None:
    toy = SUITE_FILE.splitlines(keepends=True)[0]
    other = SuiteRegistered(suite=sha256_hex(toy), name="core-v1", cases=1)
    refused(world, world.draft(other, BOB, ("suite", toy)), RefusedError, "registered as another suite")
    renamed = SuiteRegistered(suite=SUITE, name="other-v1", cases=40)
    refused(world, world.draft(renamed, BOB, ("suite", SUITE_FILE)), RefusedError, "registered as another suite")


def test_a_policy_that_nobody_approved_is_not_put_in_force(world: LedgerWorld) -> None:
    for approvers in ((), ("alice", "eve"), ("bob", "bob")):
        refused(world, activation(world, approvers=approvers), IntegrityError, "approved it, once")


def test_a_policy_cannot_hide_that_one_person_approved_it(world: LedgerWorld) -> None:
    refused(world, activation(world, self_approved=False), IntegrityError, "say truly")
    refused(world, activation(world, approvers=("alice", "bob")), IntegrityError, "say truly")


def test_a_policy_is_not_put_in_force_over_one_that_nobody_looked_at(world: LedgerWorld) -> None:
    for overlooked in (None, digest("other")):
        refused(world, activation(world, replaces=overlooked), StaleChangeError, "decide again")
    slower = activation(world)
    world.ledger.append([activation(world)])
    refused(world, slower, StaleChangeError, "is in force")


def test_answers_come_from_the_prompt_template_that_the_model_is_registered_with(world: LedgerWorld) -> None:
    lie = lying(world, "parents", prompt_template=digest("other"))
    refused(world, lie, RefusedError, "prompt template")
    refused(world, world.unadapted(RESPONSE, prompt_template=digest("other")), RefusedError, "prompt template")
    again = ModelRegistered(model=BASE_MODEL, prompt_template=digest("other"), parameters="200000")
    world.ledger.append([world.draft(again, BOB), lie])  # from its next registration on it is no lie
    refused(world, world.unadapted(RESPONSE, prompt_template=TEMPLATE), RefusedError, "prompt template")


def test_samples_come_from_the_parent_state(world: LedgerWorld) -> None:
    lie = lying(world, "synthesis", generator=digest("other"))
    refused(world, lie, IntegrityError, "written by another state")
