"""What may become of a change: denials first, then the ways that are open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mass_gov.errors import DependentsError, IntegrityError, NotFoundError, RefusedError, StaleChangeError
from mass_gov.evidence.state import state_digest
from mass_gov.ledger import ChangeView
from mass_gov.policy import Policy, load_policy
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import ChangeRecorded, PolicyActivated, ResponseServed
from tests.fakes.ledger_world import ADA, BASE_MODEL, BOTH_SCOPES, EVE, LedgerWorld, digest, shipped_policy

pytestmark = pytest.mark.both_engines

TWO_APPROVALS = load_policy(shipped_policy("solo").source.replace(b"required: 1", b"required: 2"))
RESPONSE = "01890000-0000-7000-8000-000000000001"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path / "home", BOTH_SCOPES)
    yield made
    made.close()


def refused(world: LedgerWorld, drafts: list[EventDraft], kind: type[Exception], match: str) -> None:
    """The append is refused with this message, and nothing of it was written."""
    before = world.ledger.size
    with pytest.raises(kind, match=match):
        world.ledger.append(drafts)
    assert world.ledger.size == before
    assert world.ledger.latest_checkpoint().size == before


def test_a_task_is_not_recorded_twice(world: LedgerWorld) -> None:
    world.record("one")
    refused(world, world.change_drafts("one"), RefusedError, "recorded change already")


def test_a_change_id_is_not_used_twice(world: LedgerWorld) -> None:
    drafts = world.change_drafts("one", consequences=False)
    world.ledger.append(drafts)
    refused(world, drafts, RefusedError, "is recorded already")


def test_a_change_under_an_unregistered_suite_is_refused(world: LedgerWorld) -> None:
    (draft,) = world.change_drafts("one", consequences=False)
    refused(world, [_edited(world, draft, parents={"suite": digest("other")})], RefusedError, "not registered")


def test_a_change_decided_by_a_replaced_policy_is_stale(world: LedgerWorld) -> None:
    drafts = world.change_drafts("one")
    other = shipped_policy("default")
    world.ledger.append([_activation_of(world, other)])
    refused(world, drafts, StaleChangeError, "was replaced")


def test_a_change_whose_state_is_not_its_base_and_delta_is_refused(world: LedgerWorld) -> None:
    (draft,) = world.change_drafts("one", consequences=False)
    refused(world, [_edited(world, draft, update={"state": digest("other")})], IntegrityError, "not that of its base")


def test_a_change_from_a_state_that_the_pointer_never_had_is_refused(world: LedgerWorld) -> None:
    moved = world.record("one", scope="deployment")
    (draft,) = world.change_drafts("two", consequences=False)
    parents = {"parent_state": digest("other"), "pointer_head": moved.activation_index}
    lie = _edited(world, draft, parents=parents, synthesis={"generator": digest("other")})
    refused(world, [lie], IntegrityError, "did not have its state")


def test_a_change_cannot_move_to_another_tenant(world: LedgerWorld) -> None:
    (draft,) = world.change_drafts("one", consequences=False)
    world.tenant = "other"
    assert isinstance(draft.body, ChangeRecorded)
    refused(world, [world.draft(draft.body)], IntegrityError, "between tenants")


def test_a_held_change_serves_no_adapted_answer(world: LedgerWorld) -> None:
    held = world.record("one", step_norm=0.7)
    body = ResponseServed(
        response_id=RESPONSE,
        change_id=held.change_id,
        state=held.body.update.state,
        served="adapted",
        unadapted=None,
    )
    refused(world, [world.draft(body)], RefusedError, "is held and cannot serve its adapted answer")


def test_a_response_names_the_state_that_it_claims(world: LedgerWorld) -> None:
    change = world.record("one")
    body = ResponseServed(
        response_id=RESPONSE, change_id=change.change_id, state=digest("other"), served="base", unadapted=None
    )
    refused(world, [world.draft(body)], IntegrityError, "does not name the base state")


def test_an_unadapted_answer_from_a_state_that_the_pointer_left_is_refused(world: LedgerWorld) -> None:
    before = world.unadapted(RESPONSE)
    moved = world.record("moves", scope="deployment")
    refused(world, [before], StaleChangeError, "moved after its state was read")
    lie = world.unadapted(RESPONSE, pointer_head=None)
    refused(world, [lie], IntegrityError, "did not have its state")
    world.ledger.append([world.unadapted(RESPONSE)])
    assert [r.state for r in world.ledger.responses()] == [moved.body.update.state] * 2


def test_weights_that_were_rolled_back_meanwhile_serve_no_answer(world: LedgerWorld) -> None:
    moved = world.record("moves", scope="deployment")
    adapted, plain = world.change_drafts("slow"), world.unadapted(RESPONSE)
    world.ledger.append([world.rollback(moved)])
    refused(world, adapted, StaleChangeError, "moved after its state was read")
    refused(world, [plain], StaleChangeError, "moved after its state was read")


def test_an_unadapted_answer_under_a_replaced_policy_is_stale(world: LedgerWorld) -> None:
    plain = world.unadapted(RESPONSE)
    world.ledger.append([_activation_of(world, shipped_policy("default"))])
    refused(world, [plain], StaleChangeError, "was replaced")


def test_an_unadapted_answer_of_an_unregistered_model_is_refused(world: LedgerWorld) -> None:
    refused(world, [world.unadapted(RESPONSE, base_model=digest("other"))], RefusedError, r"model .* not registered")


def test_an_event_about_an_unknown_change_is_refused(world: LedgerWorld) -> None:
    change = world.record("one", step_norm=0.7)
    refused(world, [world.approval(change, change_id=RESPONSE)], NotFoundError, "no change")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recorded", digest("other")),
        ("parent_state", digest("other")),
        ("expected_head", 3),
        ("policy", digest("other")),
        ("suite", digest("other")),
    ],
)
def test_an_approval_of_something_else_does_not_count(world: LedgerWorld, field: str, value: Any) -> None:
    held = world.record("one", step_norm=0.7)
    refused(world, [world.approval(held, **{field: value})], RefusedError, "Look at the change again")


def test_an_approver_counts_once(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home", TWO_APPROVALS)
    held = world.record("one", step_norm=0.7)
    world.ledger.append([world.approval(held)])
    refused(world, [world.approval(world.ledger.change(held.change_id))], RefusedError, r"approved .* already")
    world.ledger.append([world.approval(world.ledger.change(held.change_id), EVE)])
    assert world.ledger.change(held.change_id).status == "applied"


def test_a_self_approval_cannot_hide(world: LedgerWorld) -> None:
    held = world.record("one", step_norm=0.7)
    refused(world, [world.approval(held, ADA, self_approved=False)], IntegrityError, "self-approval")


def test_the_last_approval_of_a_movement_comes_with_the_movement(world: LedgerWorld) -> None:
    held = world.record("one", scope="deployment", step_norm=0.7)
    refused(world, [world.approval(held)], RefusedError, "without its activation")
    world.ledger.append([world.approval(held), world.activation(held, "approval")])
    assert world.ledger.change(held.change_id).status == "active"


def test_a_movement_without_approval_is_refused(world: LedgerWorld) -> None:
    held = world.record("one", scope="deployment", step_norm=0.7)
    refused(world, [world.activation(held, "approval")], RefusedError, "0 of 1 approvals")


def test_an_activation_after_the_pointer_moved_is_stale(world: LedgerWorld) -> None:
    first = world.change_drafts("first", scope="deployment", consequences=False)
    second = world.change_drafts("second", scope="deployment", consequences=False)
    world.ledger.append([*first, *second])
    one, two = world.ledger.changes(newest_first=False)
    (moved,) = world.ledger.append([world.activation(one, "envelope")])
    refused(world, [world.activation(two, "envelope")], StaleChangeError, f"none .* which is now {moved.index}")


def test_a_rejected_change_stays_rejected(world: LedgerWorld) -> None:
    held = world.record("one", step_norm=0.7)
    world.ledger.append([world.rejection(held)])
    refused(world, [world.approval(held)], RefusedError, "is rejected and cannot be approved")
    refused(world, [world.rejection(held)], RefusedError, "is rejected")


def test_a_change_that_never_took_effect_is_not_rolled_back(world: LedgerWorld) -> None:
    held = world.record("one", step_norm=0.7)
    refused(world, [world.rollback(held)], RefusedError, "is held .* cannot be rolled back")


def test_a_rollback_does_not_strand_later_changes(world: LedgerWorld) -> None:
    first = world.record("first", scope="deployment")
    second = world.record("second", scope="deployment")
    refused(world, [world.rollback(first)], DependentsError, second.change_id)


def test_a_cascade_rolls_back_newest_first_in_one_append(world: LedgerWorld) -> None:
    first, second = (world.record(name, scope="deployment") for name in ("first", "second"))
    start = world.ledger.size
    world.ledger.append(
        [
            world.rollback(second, cascade_of=first.change_id),
            world.rollback(first, expected_head=start),
        ]
    )
    assert [world.ledger.change(c.change_id).status for c in (first, second)] == ["rolled_back", "rolled_back"]
    pointer = world.ledger.pointer("acme", "tutor")
    assert pointer.state == state_digest(BASE_MODEL, None)
    assert (pointer.change_id, pointer.head_index) == (None, start + 1)


def test_a_rollback_returns_to_the_state_before_and_the_next_change_starts_there(world: LedgerWorld) -> None:
    first, second = (world.record(name, scope="deployment") for name in ("first", "second"))
    world.ledger.append([world.rollback(second)])
    assert world.ledger.pointer("acme", "tutor").change_id == first.change_id
    third = world.record("third", scope="deployment")
    assert third.body.parents.parent_state == first.body.update.state
    assert [move.cause for move in world.ledger.pointer_history("acme", "tutor")] == [
        "envelope",
        "envelope",
        "rollback",
        "envelope",
    ]


def test_a_promoted_change_becomes_the_next_ones_parent(world: LedgerWorld) -> None:
    change = world.record("one")
    world.promote(change)
    assert world.ledger.change(change.change_id).status == "active"
    assert world.record("two").body.parents.parent_state == change.body.update.state


def test_rolling_back_an_instance_change_moves_no_pointer(world: LedgerWorld) -> None:
    change = world.record("one")
    world.ledger.append([world.rollback(change)])
    assert world.ledger.change(change.change_id).status == "rolled_back"
    assert world.ledger.pointer("acme", "tutor").head_index is None


def test_a_rollback_cannot_hide_the_answers_that_its_state_gave(world: LedgerWorld) -> None:
    change = world.record("one")
    refused(world, [world.rollback(change, affected_responses=0)], StaleChangeError, "says that 0 answers .* and 1 did")
    world.ledger.append([world.rollback(change, affected_responses=1)])


def test_a_cascade_without_what_set_it_off_is_refused(world: LedgerWorld) -> None:
    first, second = world.record("first"), world.record("second")
    lie = world.rollback(second, cascade_of=first.change_id)
    refused(world, [lie], RefusedError, "which is not. Append both together")
    refused(world, [world.rollback(second, cascade_of=second.change_id)], IntegrityError, "for its own sake")
    world.ledger.append([lie, world.rollback(first)])
    assert world.ledger.change(second.change_id).status == "rolled_back"


def test_a_change_that_leaves_its_regression_out_is_refused(world: LedgerWorld) -> None:
    (draft,) = world.change_drafts("one", consequences=False)
    assert isinstance(draft.body, ChangeRecorded)
    lie = draft.body.change.model_copy(update={"regression": None})
    refused(world, [world.draft(ChangeRecorded(change=lie))], IntegrityError, "contradicts itself")


def _edited(world: LedgerWorld, draft: EventDraft, **parts: dict[str, object]) -> EventDraft:
    body = draft.body
    assert isinstance(body, ChangeRecorded)
    change = body.change
    for part, values in parts.items():
        change = change.model_copy(update={part: getattr(change, part).model_copy(update=values)})
    return world.draft(ChangeRecorded(change=change))


def _activation_of(world: LedgerWorld, policy: Policy) -> EventDraft:
    body = PolicyActivated(
        policy=policy.digest,
        name=policy.document.name,
        version=policy.document.version,
        replaces=world.ledger.active_policy(),
        approvers=("eve",),
        self_approved=True,
    )
    return world.draft(body, EVE, ("policy", policy.source))


def test_views_say_who_approved_and_when_things_happened(world: LedgerWorld) -> None:
    held: ChangeView = world.record("one", step_norm=0.7)
    world.ledger.append([world.approval(held, ADA)])
    seen = world.ledger.change(held.change_id)
    assert [(given.approver, given.meaning, given.self_approved) for given in seen.approvals] == [
        ("ada", "apply", True)
    ]
    world.promote(seen)
    assert world.ledger.change(held.change_id).activation_index == world.ledger.size - 1
