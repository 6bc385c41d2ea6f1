"""The state machine of a change, as a table: every way that is open is walked, every other one is proved shut.

`ALLOWED` is the whole machine, written down by hand from DESIGN section 11 and not read from the program: what each
action makes of a change, by its status, its scope and the situation around it. The test crosses every status, scope,
situation and action; a combination that is not in the table has to be refused, and nothing may be written. In the races
two operators act at once, each with a ledger of their own: exactly one wins, and the other is told why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from mass_gov.errors import DependentsError, FrozenError, MassGovError, RefusedError, StaleChangeError
from mass_gov.evidence.state import state_digest
from mass_gov.ledger import ChangeView, Ledger
from mass_gov.records.change import SCOPES
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import (
    Actor,
    ChangeRecorded,
    ChangeRejected,
    ModelRegistered,
    PointerRebased,
    ResponseServed,
)
from tests.fakes.ledger_world import (
    BASE_MODEL,
    BOB,
    BOTH_SCOPES,
    EVE,
    REASON,
    SUITE,
    TEMPLATE,
    LedgerWorld,
    digest,
    regression_run,
)

pytestmark = pytest.mark.both_engines
OTHER_MODEL = digest("other base model")

STATUSES = ("held", "pending", "applied", "active", "rejected", "rolled_back", "retired")
REACHABLE = {
    ("held", "instance"),
    ("held", "deployment"),
    ("pending", "deployment"),
    ("applied", "instance"),
    ("active", "instance"),  # promoted
    ("active", "deployment"),
    ("rejected", "instance"),
    ("rejected", "deployment"),
    ("rolled_back", "instance"),
    ("rolled_back", "deployment"),
    ("retired", "instance"),
    ("retired", "deployment"),
}
SITUATIONS = ("fresh", "stale", "frozen")
"""`stale`: the pointer moved after the change read it (by a later change that stands on it, where it is active)."""

ALLOWED: dict[tuple[str, str, str, str], str] = {
    # held: a person decides
    ("held", "instance", "fresh", "approve"): "applied",
    ("held", "instance", "stale", "approve"): "applied",  # its own answer only: no pointer moves
    ("held", "instance", "fresh", "reject"): "rejected",
    ("held", "instance", "stale", "reject"): "rejected",
    ("held", "instance", "frozen", "reject"): "rejected",
    ("held", "instance", "stale", "make again"): "rejected",
    ("held", "deployment", "fresh", "approve and activate"): "active",
    ("held", "deployment", "fresh", "reject"): "rejected",
    ("held", "deployment", "stale", "reject"): "rejected",
    ("held", "deployment", "frozen", "reject"): "rejected",
    ("held", "deployment", "stale", "make again"): "rejected",
    # pending: inside the envelope, and not activated
    ("pending", "deployment", "fresh", "activate by envelope"): "active",
    ("pending", "deployment", "fresh", "approve and activate"): "active",
    ("pending", "deployment", "fresh", "reject"): "rejected",
    ("pending", "deployment", "stale", "reject"): "rejected",
    ("pending", "deployment", "frozen", "reject"): "rejected",
    ("pending", "deployment", "stale", "make again"): "rejected",
    # applied: its own answer stands
    ("applied", "instance", "fresh", "promote"): "active",
    ("applied", "instance", "fresh", "roll back"): "rolled_back",
    ("applied", "instance", "stale", "roll back"): "rolled_back",
    ("applied", "instance", "frozen", "roll back"): "rolled_back",
    # active: the pointer stands on it; `stale` here means that a later change stands on it
    ("active", "instance", "fresh", "roll back"): "rolled_back",
    ("active", "instance", "frozen", "roll back"): "rolled_back",
    ("active", "deployment", "fresh", "roll back"): "rolled_back",
    ("active", "deployment", "frozen", "roll back"): "rolled_back",
    ("active", "instance", "stale", "roll back with what stands on it"): "rolled_back",
    ("active", "deployment", "stale", "roll back with what stands on it"): "rolled_back",
    # retired: its pointer stands on another base model; `stale` means that it moved on from there
    ("retired", "instance", "fresh", "roll back"): "rolled_back",
    ("retired", "instance", "stale", "roll back"): "rolled_back",
    ("retired", "instance", "frozen", "roll back"): "rolled_back",
    ("retired", "deployment", "fresh", "roll back"): "rolled_back",
    ("retired", "deployment", "stale", "roll back"): "rolled_back",
    ("retired", "deployment", "frozen", "roll back"): "rolled_back",
    # The adapted answer is served, the status stays.
    **{
        (status, scope, situation, "serve adapted"): status
        for status, scope in sorted(REACHABLE)
        for situation in SITUATIONS
        if status in ("applied", "active", "retired")
    },
    # The pointer moves to another base model: what was active is retired, whatever else there is stays as it was.
    **{
        (status, scope, situation, "move the base"): "retired" if status == "active" else status
        for status, scope in sorted(REACHABLE)
        for situation in ("fresh", "stale")
    },
}


@dataclass
class Scene:
    """A change that stands in one place of the machine, in a ledger of its own."""

    world: LedgerWorld
    change: ChangeView
    above: ChangeView | None = None

    def now(self) -> ChangeView:
        """The change as it stands."""
        return self.world.ledger.change(self.change.change_id)


def approve(scene: Scene) -> list[EventDraft]:
    return [scene.world.approval(scene.now())]


def approve_and_activate(scene: Scene) -> list[EventDraft]:
    return [scene.world.approval(scene.now()), scene.world.activation(scene.now(), "approval")]


def activate_by_envelope(scene: Scene) -> list[EventDraft]:
    return [scene.world.activation(scene.now(), "envelope")]


def activate_by_approval(scene: Scene) -> list[EventDraft]:
    return [scene.world.activation(scene.now(), "approval")]


def activate_by_promotion(scene: Scene) -> list[EventDraft]:
    return [scene.world.activation(scene.now(), "promotion")]


def promote(scene: Scene) -> list[EventDraft]:
    return [scene.world.approval(scene.now(), BOB, "promote"), scene.world.activation(scene.now(), "promotion")]


def promote_without_moving(scene: Scene) -> list[EventDraft]:
    return [scene.world.approval(scene.now(), BOB, "promote")]


def reject(scene: Scene) -> list[EventDraft]:
    return [scene.world.rejection(scene.now())]


def roll_back(scene: Scene) -> list[EventDraft]:
    return [scene.world.rollback(scene.now())]


def roll_back_with_above(scene: Scene) -> list[EventDraft]:
    """The change and the one that stands on it; where nothing does, a cascade of itself, which is none."""
    world = scene.world
    if scene.above is None:
        return [world.rollback(scene.now(), cascade_of=scene.change.change_id)]
    above = world.ledger.change(scene.above.change_id)
    start = world.ledger.size
    return [
        world.rollback(above, cascade_of=scene.change.change_id),
        world.rollback(scene.now(), expected_head=start),
    ]


def serve_adapted(scene: Scene) -> list[EventDraft]:
    body = ResponseServed(
        response_id="01890000-0000-7000-8000-000000000009",
        change_id=scene.change.change_id,
        state=scene.change.body.update.state,
        served="adapted",
        unadapted=None,
    )
    return [scene.world.draft(body)]


def record_again(scene: Scene) -> list[EventDraft]:
    return [scene.world.draft(ChangeRecorded(change=scene.change.body))]


def ask_again(scene: Scene) -> list[EventDraft]:
    """The same task under a new id, with nothing said of the old change."""
    return scene.world.change_drafts("task", scope=scene.change.body.identity.scope, step_norm=0.7)


def make_again(scene: Scene) -> list[EventDraft]:
    """As `flows.rebase`: a new change that names this one, which is rejected."""
    first, *rest = ask_again(scene)
    assert isinstance(first.body, ChangeRecorded)
    change = first.body.change
    identity = change.identity.model_copy(update={"rebased_from": scene.change.change_id})
    named = ChangeRecorded(change=change.model_copy(update={"identity": identity}))
    artifacts = [(draft.role, draft.plaintext) for draft in first.artifacts]
    recorded = scene.world.draft(named, first.actor, *artifacts)
    return [recorded, _given_up(scene), *rest]


def make_again_and_keep_the_old(scene: Scene) -> list[EventDraft]:
    return [draft for draft in make_again(scene) if not isinstance(draft.body, ChangeRejected)]


def give_up_for_nothing(scene: Scene) -> list[EventDraft]:
    return [_given_up(scene)]


def _given_up(scene: Scene) -> EventDraft:
    body = ChangeRejected(change_id=scene.change.change_id, recorded=scene.change.entry.leaf_hash, cause="rebased")
    return scene.world.draft(body, BOB, REASON)


def move_the_base(scene: Scene) -> list[EventDraft]:
    return [base_move(scene.world, OTHER_MODEL if scene.now().status != "retired" else digest("third base model"))]


ACTIONS: dict[str, Callable[[Scene], list[EventDraft]]] = {
    "approve": approve,
    "approve and activate": approve_and_activate,
    "activate by envelope": activate_by_envelope,
    "activate by approval": activate_by_approval,
    "activate by promotion": activate_by_promotion,
    "promote": promote,
    "promote without moving": promote_without_moving,
    "reject": reject,
    "roll back": roll_back,
    "roll back with what stands on it": roll_back_with_above,
    "serve adapted": serve_adapted,
    "record again": record_again,
    "ask again": ask_again,
    "make again": make_again,
    "make again and keep the old": make_again_and_keep_the_old,
    "give up for nothing": give_up_for_nothing,
    "move the base": move_the_base,
}


def base_move(world: LedgerWorld, to_model: str) -> EventDraft:
    """A move of the world's pointer to another model."""
    pointer = world.ledger.pointer(world.tenant, world.deployment)
    content, regression = regression_run()
    model = pointer.base_model or BASE_MODEL
    body = PointerRebased(
        expected_head=pointer.head_index,
        from_model=model,
        from_state=pointer.state or state_digest(model, None),
        to_model=to_model,
        to_state=state_digest(to_model, None),
        policy=world.policy.digest,
        suite=SUITE,
        regression=regression,
    )
    return world.draft(body, BOB, REASON, ("regression", content))


def scene_of(world: LedgerWorld, status: str, scope: str, situation: str) -> Scene:
    """Bring a change to a status, and the world around it to a situation."""
    for model in (OTHER_MODEL, digest("third base model")):
        world.ledger.append(
            [world.draft(ModelRegistered(model=model, prompt_template=TEMPLATE, parameters="200000"), BOB)]
        )
    scene = Scene(world, _standing(world, status, scope))
    assert scene.now().status == status
    if situation == "stale":
        _move_on(scene, status)
    if situation == "frozen":
        world.ledger.append([world.freeze()])
    return scene


def _standing(world: LedgerWorld, status: str, scope: str) -> ChangeView:
    step_norm = {"held": 0.7, "rejected": 1.5}.get(status, 0.05)
    drafts = world.change_drafts("task", scope=scope, step_norm=step_norm, consequences=status != "pending")  # type: ignore[arg-type]
    world.ledger.append(drafts)
    change = world.ledger.changes()[0]
    if scope == "instance" and status in ("active", "retired"):
        world.promote(change)
    if status == "retired":
        world.ledger.append([base_move(world, OTHER_MODEL)])
    if status == "rolled_back":
        world.ledger.append([world.rollback(change)])
    return world.ledger.change(change.change_id)


def _move_on(scene: Scene, status: str) -> None:
    """Let the pointer move: by another change; from another base model by a move to a third."""
    if status == "retired":
        scene.world.ledger.append([base_move(scene.world, BASE_MODEL)])
        return
    moved = scene.world.record("later", scope="deployment")
    if status == "active":
        scene.above = moved


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path / "home", BOTH_SCOPES)
    yield made
    made.close()


def test_every_status_and_scope_is_reachable_or_impossible() -> None:
    """What is not in REACHABLE cannot be: pending and applied belong to one scope each."""
    impossible = set(product(STATUSES, SCOPES)) - REACHABLE
    assert impossible == {("pending", "instance"), ("applied", "deployment")}
    assert {(status, scope) for status, scope, _, _ in ALLOWED} <= REACHABLE


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize(("status", "scope"), sorted(REACHABLE))
def test_from_each_place_every_way_in_the_table_is_open_and_every_other_one_is_shut(
    tmp_path: Path, status: str, scope: str, situation: str
) -> None:
    """The shut ways are tried one after the other, since nothing may come of them; each open one in its own ledger."""
    opens = {action: ALLOWED.get((status, scope, situation, action)) for action in ACTIONS}
    world = LedgerWorld.make(tmp_path / "shut", BOTH_SCOPES)
    scene = scene_of(world, status, scope, situation)
    before = world.ledger.size
    for action, outcome in opens.items():
        if outcome is None:
            with pytest.raises(MassGovError):
                world.ledger.append(ACTIONS[action](scene))
                pytest.fail(f"{status}, {scope}, {situation}: {action} is not in the table and went through")
            assert (world.ledger.size, scene.now().status) == (before, status), action
    world.close()
    for number, (action, outcome) in enumerate(opens.items()):
        if outcome is not None:
            other = LedgerWorld.make(tmp_path / f"open-{number}", BOTH_SCOPES)
            scene = scene_of(other, status, scope, situation)
            other.ledger.append(ACTIONS[action](scene))
            assert scene.now().status == outcome, action
            other.close()


def test_a_refusal_says_why(world: LedgerWorld) -> None:
    """Not only that something is refused: by the error that a program can tell apart, and in words."""
    held = world.record("held", scope="deployment", step_norm=0.7)
    first = world.record("first", scope="deployment")
    world.record("second", scope="deployment")
    for drafts, kind, said in (
        ([world.approval(held), world.activation(held, "approval")], StaleChangeError, "changes rebase"),
        ([world.rollback(first)], DependentsError, "carries 1 later active change"),
        ([world.rollback(held)], RefusedError, "is held and cannot be rolled back"),
        ([world.activation(held, "promotion")], RefusedError, "is held and cannot be activated by promotion"),
    ):
        with pytest.raises(kind, match=said):
            world.ledger.append(drafts)
    world.ledger.append([world.freeze()])
    with pytest.raises(FrozenError, match="learning is frozen"):
        world.ledger.append(world.change_drafts("new"))


# Races


def second_ledger(world: LedgerWorld) -> LedgerWorld:
    """The same home, opened by another program."""
    ledger = Ledger.open(world.ledger.address, keys=world.keys, checkpoints=world.folder / "checkpoints")
    return LedgerWorld(world.folder, ledger, world.keys, world.policy)


def race(*contenders: Callable[[], object]) -> list[MassGovError | None]:
    """Let several act at once; what each was told, None where it went through."""
    start, told = threading.Barrier(len(contenders)), dict[int, MassGovError | None]()

    def run(number: int, act: Callable[[], object]) -> None:
        start.wait()
        try:
            act()
            told[number] = None
        except MassGovError as error:
            told[number] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(contenders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [told[number] for number in range(len(contenders))]


ROUNDS = 6


@pytest.mark.parametrize("scope", SCOPES)
def test_of_two_operators_who_approve_and_reject_at_once_one_wins_and_the_other_is_told(
    world: LedgerWorld, scope: str
) -> None:
    other = second_ledger(world)
    for number in range(ROUNDS):
        held = world.record(f"t{number}", scope=scope, step_norm=0.7)  # type: ignore[arg-type]
        yes = [world.approval(held, BOB)]
        if scope == "deployment":
            yes.append(world.activation(held, "approval"))
        no = [other.draft(other.rejection(held).body, EVE, REASON)]
        approved, rejected = race(lambda: world.ledger.append(yes), lambda: other.ledger.append(no))  # noqa: B023
        assert (approved is None) != (rejected is None)
        status = world.ledger.change(held.change_id).status
        won = ("applied" if scope == "instance" else "active") if approved is None else "rejected"
        assert status == won
        loser = approved or rejected
        assert isinstance(loser, RefusedError)
        assert held.change_id in str(loser) and f"is {won}" in str(loser)
    other.ledger.close()


def test_of_two_approved_changes_that_race_for_a_pointer_one_moves_it_and_the_other_is_stale(
    world: LedgerWorld,
) -> None:
    other = second_ledger(world)
    for number in range(ROUNDS):
        first, second = (world.record(f"{name}{number}", scope="deployment", step_norm=0.7) for name in "ab")
        before = world.ledger.pointer(world.tenant, world.deployment)
        told = race(
            lambda: world.ledger.append([world.approval(first, BOB), world.activation(first, "approval")]),  # noqa: B023
            lambda: other.ledger.append([other.approval(second, EVE), other.activation(second, "approval")]),  # noqa: B023
        )
        assert sorted(one is None for one in told) == [False, True]
        loser = next(one for one in told if one is not None)
        assert isinstance(loser, StaleChangeError) and "was made from pointer head" in str(loser)
        winner = first if told[0] is None else second
        after = world.ledger.pointer(world.tenant, world.deployment)
        assert (after.state, after.change_id) == (winner.body.update.state, winner.change_id)
        moves = world.ledger.pointer_history(world.tenant, world.deployment)
        assert (moves[-1].from_head, len(moves)) == (before.head_index, number + 1)
        lost = second if winner is first else first
        assert (world.ledger.change(lost.change_id).status, world.ledger.change(lost.change_id).approvals) == (
            "held",
            (),
        )
    other.ledger.close()


def test_of_two_who_roll_back_at_once_one_does_and_nothing_is_undone_twice(world: LedgerWorld) -> None:
    other = second_ledger(world)
    below = world.record("below", scope="deployment")
    change = world.record("one", scope="deployment")
    drafts = [world.rollback(change)], [other.rollback(change)]
    told = race(lambda: world.ledger.append(drafts[0]), lambda: other.ledger.append(drafts[1]))
    assert sorted(one is None for one in told) == [False, True]
    assert "is rolled back" in str(next(one for one in told if one is not None))
    assert world.ledger.pointer(world.tenant, world.deployment).state == below.body.update.state
    other.ledger.close()


def test_a_freeze_and_an_activation_race_and_the_log_says_which_came_first(world: LedgerWorld) -> None:
    other = second_ledger(world)
    for number in range(ROUNDS):
        held = world.record(f"t{number}", scope="deployment", step_norm=0.7)
        yes = [world.approval(held), world.activation(held, "approval")]
        approved, frozen = race(lambda: world.ledger.append(yes), lambda: other.ledger.append([other.freeze()]))  # noqa: B023
        assert frozen is None
        standing = world.ledger.frozen(world.tenant, world.deployment)
        assert standing is not None
        now = world.ledger.change(held.change_id)
        if approved is None:
            assert now.activation_index is not None and now.activation_index < standing.index
        else:
            assert isinstance(approved, FrozenError) and now.status == "held"
        world.ledger.append([world.unfreeze(standing.index)])
    other.ledger.close()


def test_an_auditor_does_nothing_of_it(world: LedgerWorld) -> None:
    held = world.record("one", step_norm=0.7)
    audra = Actor(principal="audra", role="auditor")
    for draft in (world.approval(held), world.rejection(held), world.freeze()):
        with pytest.raises(RefusedError, match="can replay"):
            world.ledger.append([world.draft(draft.body, audra, REASON)])
