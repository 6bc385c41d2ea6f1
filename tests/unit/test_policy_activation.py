"""Putting a policy in force: what one person cannot do alone, what nobody can hide, and that `verify` finds it out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mass_gov.errors import IntegrityError, NotFoundError, PermissionRefusedError, RefusedError, StaleChangeError
from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.audit import verify
from mass_gov.flows.audit_report import VerificationReport
from mass_gov.flows.initialise import policy_in_force
from mass_gov.flows.policies import Activation, activate_policy
from mass_gov.flows.principals import issue, register, retire
from mass_gov.ledger import Ledger
from mass_gov.policy import Policy, load_policy
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, PolicyActivated, PolicyProposed
from tests.fakes.engines import address_of
from tests.fakes.ledger_world import BOB, EVE, LedgerWorld, digest, shipped_policy

pytestmark = pytest.mark.both_engines

DEFAULT, SOLO = shipped_policy("default"), shipped_policy("solo")
WIDER = load_policy(
    DEFAULT.source.replace(b"step_norm: 0.6\n", b"step_norm: 0.65\n").replace(b"version: 1", b"version: 2")
)
NARROWER = load_policy(
    DEFAULT.source.replace(b"step_norm: 0.6\n", b"step_norm: 0.5\n").replace(b"version: 1", b"version: 3")
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path / "home", DEFAULT)
    yield made
    made.close()


def activate(world: LedgerWorld, policy: Policy, actor: Actor) -> Activation:
    return activate_policy(world.ledger, policy, actor, world.tenant, world.deployment)


def refused(world: LedgerWorld, draft: EventDraft, kind: type[Exception], match: str) -> None:
    before = world.ledger.size
    with pytest.raises(kind, match=match):
        world.ledger.append([draft])
    assert world.ledger.size == before


def activation(world: LedgerWorld, policy: Policy, actor: Actor = BOB, **fields: object) -> EventDraft:
    said: dict[str, object] = {
        "policy": policy.digest,
        "name": policy.document.name,
        "version": policy.document.version,
        "replaces": world.ledger.active_policy(),
        "approvers": (actor.principal,),
        "self_approved": True,
        "widens": (),
    }
    return world.draft(PolicyActivated.model_validate(said | fields), actor, ("policy", policy.source))


def proposal(world: LedgerWorld, policy: Policy, actor: Actor = BOB, **fields: object) -> EventDraft:
    said: dict[str, object] = {
        "policy": policy.digest,
        "name": policy.document.name,
        "version": policy.document.version,
        "replaces": world.ledger.active_policy(),
        "widens": ("envelope.step_norm",),
    }
    return world.draft(PolicyProposed.model_validate(said | fields), actor, ("policy", policy.source))


def report(world: LedgerWorld) -> VerificationReport:
    return verify(address_of(world.folder), keys=world.keys, checkpoints=world.folder / "checkpoints")


def test_one_person_widens_nothing_alone(world: LedgerWorld) -> None:
    done = activate(world, WIDER, BOB)
    assert (done.activated, done.widens, done.approvers) == (False, ("envelope.step_norm",), ("bob",))
    assert world.ledger.active_policy() == DEFAULT.digest
    with pytest.raises(RefusedError, match="Another person"):
        activate(world, WIDER, BOB)
    assert world.ledger.active_policy() == DEFAULT.digest
    done = activate(world, WIDER, EVE)
    assert (done.activated, done.approvers) == (True, ("bob", "eve"))
    assert world.ledger.active_policy() == WIDER.digest
    assert report(world).ok


def test_a_name_that_nobody_proved_and_somebody_retired_are_no_second_person(world: LedgerWorld) -> None:
    carl, dora = (Actor(principal=name, role="admin") for name in ("carl", "dora"))
    assert not activate(world, WIDER, EVE).activated  # self-asserted: nobody is registered yet
    register(world.ledger, "carl", carl, roles=["admin"], scopes=[])
    assert not activate(world, WIDER, carl).activated, "eve is nobody here"
    register(world.ledger, "dora", carl, roles=["admin"], scopes=[])
    issue(world.ledger, "dora", carl)
    retire(world.ledger, "carl", dora)
    assert not activate(world, WIDER, dora).activated, "carl may not any more"
    register(world.ledger, "carl", dora, roles=["admin"], scopes=[])
    done = activate(world, WIDER, carl)
    assert (done.activated, done.approvers) == (True, ("dora", "carl"))
    assert verify(world.ledger).ok


def test_a_proposal_is_for_one_file_only(world: LedgerWorld) -> None:
    activate(world, WIDER, BOB)
    wider_still = load_policy(WIDER.source.replace(b"step_norm: 0.65\n", b"step_norm: 0.66\n"))
    assert not activate(world, wider_still, EVE).activated
    assert world.ledger.active_policy() == DEFAULT.digest


def test_a_proposal_ends_with_the_policy_that_it_was_to_replace(world: LedgerWorld) -> None:
    activate(world, WIDER, BOB)
    assert activate(world, NARROWER, EVE).activated
    assert not activate(world, WIDER, EVE).activated
    assert world.ledger.active_policy() == NARROWER.digest


def test_one_person_narrows_and_it_is_said_that_it_was_one(world: LedgerWorld) -> None:
    done = activate(world, NARROWER, BOB)
    assert (done.activated, done.widens, done.approvers) == (True, (), ("bob",))
    found = report(world)
    assert found.ok
    assert any("was activated by bob alone" in note for note in found.warnings)


def test_solo_widens_alone_and_is_marked(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home", SOLO)
    try:
        wider = load_policy(SOLO.source.replace(b"step_norm: 0.6\n", b"step_norm: 0.65\n"))
        assert activate(world, wider, BOB).activated
        (body,) = [
            entry.predicate.body for entry in world.ledger.entries(4) if entry.predicate.body.type == "policy.activated"
        ]
        assert isinstance(body, PolicyActivated)
        assert (body.self_approved, body.widens, body.approvers) == (True, ("envelope.step_norm",), ("bob",))
        found = report(world)
        assert found.ok
        assert any("bob alone widened policy solo/v1 by envelope.step_norm" in note for note in found.warnings)
    finally:
        world.close()


@pytest.mark.parametrize("role", ["requester", "auditor"])
def test_only_operators_and_admins_set_the_policy(world: LedgerWorld, role: str) -> None:
    with pytest.raises(PermissionRefusedError, match="operator or an admin"):
        activate(world, NARROWER, Actor.model_validate({"principal": "mallory", "role": role}))


def test_what_is_in_force_is_not_activated_again(world: LedgerWorld) -> None:
    with pytest.raises(RefusedError, match="in force already"):
        activate(world, DEFAULT, BOB)


def test_a_ledger_without_a_policy_is_initialised_first(tmp_path: Path) -> None:
    home = tmp_path / "bare"
    keys = KeyStore.open(home / "keys", create=True)
    with Ledger.open(address_of(home), keys=keys, checkpoints=home / "checkpoints", create=True) as ledger:
        with pytest.raises(NotFoundError, match="init"):
            activate_policy(ledger, DEFAULT, BOB, "acme", "tutor")
        assert policy_in_force(ledger) is None


def test_nobody_is_named_as_an_approver_who_never_proposed(world: LedgerWorld) -> None:
    both = {"approvers": ("eve", "bob"), "self_approved": False, "widens": ("envelope.step_norm",)}
    refused(world, activation(world, WIDER, BOB, **both), RefusedError, "did not propose")
    world.ledger.append([proposal(world, NARROWER, EVE)])  # another file
    refused(world, activation(world, WIDER, BOB, **both), RefusedError, "did not propose")
    world.ledger.append([proposal(world, WIDER, EVE)])
    world.ledger.append([activation(world, WIDER, BOB, **both)])
    assert world.ledger.active_policy() == WIDER.digest


def test_a_proposal_is_made_once_for_what_is_in_force_now(world: LedgerWorld) -> None:
    refused(world, proposal(world, WIDER, replaces=None), StaleChangeError, "is in force")
    refused(world, proposal(world, WIDER, replaces=digest("other")), StaleChangeError, "is in force")
    refused(world, proposal(world, DEFAULT), RefusedError, "nothing is proposed")
    world.ledger.append([proposal(world, WIDER)])
    refused(world, proposal(world, WIDER), RefusedError, "proposed the policy default already")


def test_two_people_at_once_put_one_policy_in_force(world: LedgerWorld) -> None:
    """Both looked at the same policy in force; the slower one is told so."""
    slower = activation(world, WIDER, EVE)
    activate(world, NARROWER, BOB)
    refused(world, slower, StaleChangeError, "decide again")


def test_verify_finds_who_widened_alone(world: LedgerWorld) -> None:
    world.ledger.append([activation(world, WIDER, BOB, widens=("envelope.step_norm",))])
    found = report(world)
    assert not found.ok
    assert found.first_wrong is not None
    assert "bob alone widened default/v1 by envelope.step_norm" in str(found.first_wrong)


def test_verify_finds_a_widening_that_was_kept_quiet(world: LedgerWorld) -> None:
    world.ledger.append([proposal(world, WIDER, EVE, widens=())])
    found = report(world)
    assert not found.ok
    assert "it says that it widens nothing, and the files say envelope.step_norm" in str(found.first_wrong)


def test_the_projections_follow_from_the_log_with_proposals_in_it(world: LedgerWorld) -> None:
    activate(world, WIDER, BOB)
    proposers = world.ledger.policy_proposers(WIDER.digest)
    assert proposers == {"bob": world.ledger.size - 1}
    world.ledger.rebuild()
    assert world.ledger.policy_proposers(WIDER.digest) == proposers


def test_a_policy_proposed_is_not_a_policy_in_force(world: LedgerWorld) -> None:
    activate(world, WIDER, BOB)
    assert not world.ledger.has_policy(WIDER.digest)
    with pytest.raises((NotFoundError, IntegrityError)):
        world.ledger.policy_bytes(WIDER.digest)
