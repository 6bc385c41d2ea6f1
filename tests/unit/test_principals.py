"""Who may act, by the ledger's own rules and at the edge of every flow: denials first, on both engines."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mass_gov.errors import IntegrityError, NotFoundError, PermissionRefusedError, RefusedError
from mass_gov.evidence.signing import Ed25519Signer, P256Signer
from mass_gov.flows.approve import Proof, approve, reject
from mass_gov.flows.audit import verify
from mass_gov.flows.authority import Claim, authorise, identify, token_hash
from mass_gov.flows.behaviour import read_behaviour
from mass_gov.flows.freeze import freeze, unfreeze
from mass_gov.flows.policies import activate_policy
from mass_gov.flows.principals import issue, register, retire, revoke
from mass_gov.flows.rollback import rollback
from mass_gov.ledger import Ledger
from mass_gov.policy import load_policy
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, PrincipalRegistered, TokenIssued
from tests.fakes.clock import Clock
from tests.fakes.engines import address_of
from tests.fakes.ledger_world import ADA, BOB, LedgerWorld, shipped_policy
from tests.fakes.policies import lean_source

pytestmark = pytest.mark.both_engines

NOBODY = Actor(principal="local", role="admin")
CARL = Actor(principal="carl", role="admin")
SCOPES = ("instance", "deployment")
TWO = load_policy(
    lean_source(
        base="default", approvals=shipped_policy("default").document.approvals.model_dump(mode="json") | {"required": 2}
    )
)


@pytest.fixture
def world(tmp_path: Path, clock: Clock) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path / "home", shipped_policy("default"), clock=clock)
    yield made
    made.close()


@pytest.fixture
def token(world: LedgerWorld) -> str:
    """Carl is the first, an admin; Ada asks, Bob operates."""
    done = register(world.ledger, "carl", NOBODY, roles=["admin"], scopes=[])
    register(world.ledger, "ada", CARL, roles=["requester"], scopes=["instance"])
    register(world.ledger, "bob", CARL, roles=["operator"], scopes=[])
    assert done.issued is not None
    return done.issued.token


def who(ledger: Ledger, clock: Clock, token: str | None, action: str, name: str | None = None) -> Actor:
    return identify(ledger, Claim(name, token), action, clock(), fallback="local").actor  # type: ignore[arg-type]


def denials(ledger: Ledger) -> list[tuple[str, str, int]]:
    found = [entry.predicate for entry in ledger.entries() if entry.predicate.body.type == "access.denied"]
    return [(p.actor.principal, p.body.action, p.body.count) for p in found]  # type: ignore[union-attr]


def test_the_first_principal_must_be_an_admin(world: LedgerWorld) -> None:
    with pytest.raises(RefusedError, match="no admin"):
        register(world.ledger, "bob", NOBODY, roles=["operator"], scopes=[])
    assert not world.ledger.has_principals()


def test_the_first_principal_comes_with_a_token_or_not_at_all(world: LedgerWorld) -> None:
    body = PrincipalRegistered(
        principal="carl", roles=("admin",), scopes=(), public_key=None, policy=world.policy.digest
    )
    with pytest.raises(RefusedError, match="nobody could let anybody in"):
        world.ledger.append([EventDraft(NOBODY, "system", "principals", body)])
    assert not world.ledger.has_principals()


@pytest.mark.parametrize("name", ["system", "unauthenticated", "policy"])
def test_some_names_are_nobodys(world: LedgerWorld, name: str) -> None:
    with pytest.raises(RefusedError, match="reserved"):
        register(world.ledger, name, NOBODY, roles=["admin"], scopes=[])


@pytest.mark.usefixtures("token")
def test_the_last_admin_can_neither_retire_nor_lose_the_last_token(world: LedgerWorld) -> None:
    with pytest.raises(RefusedError, match="No admin would be left"):
        retire(world.ledger, "carl", CARL)
    with pytest.raises(RefusedError, match="No admin would be left"):
        register(world.ledger, "carl", CARL, roles=["operator"], scopes=[])
    (only,) = world.ledger.tokens("carl")
    issue(world.ledger, "carl", CARL, expires_at=world.ledger.now() + dt.timedelta(days=1))  # which will not last
    with pytest.raises(RefusedError, match="No admin would be left"):
        revoke(world.ledger, only.token_id, CARL)
    issue(world.ledger, "carl", CARL)
    assert revoke(world.ledger, only.token_id, CARL).revoked_index is not None


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        ("none", "Set MASS_GOV_TOKEN"),
        ("unknown", "unknown here"),
        ("other name", "not bob's"),
        ("expired", "expired at"),
        ("revoked", "was revoked"),
        ("retired", "was revoked"),
        ("without a role", "retired"),
    ],
)
def test_without_a_good_token_nobody_acts(world: LedgerWorld, clock: Clock, token: str, spoil: str, match: str) -> None:
    given: str | None = issue(world.ledger, "bob", CARL, expires_at=clock() + dt.timedelta(hours=1)).token
    assert who(world.ledger, clock, given, "approve") == BOB
    name = None
    if spoil == "none":
        given = None
    elif spoil == "unknown":
        given = token[:-4] + "AAAA"
    elif spoil == "other name":
        given, name = token, "bob"
    elif spoil == "expired":
        clock.add(3600)
    elif spoil == "revoked":
        revoke(world.ledger, world.ledger.tokens("bob")[0].token_id, CARL)
    elif spoil == "retired":
        retire(world.ledger, "bob", CARL)
    else:  # and his tokens were left to him, as an event by another program can
        policy = world.policy.digest
        body = PrincipalRegistered(principal="bob", roles=(), scopes=(), public_key=None, policy=policy)
        world.ledger.append([EventDraft(CARL, "system", "principals", body)])
    before = world.ledger.size
    with pytest.raises(PermissionRefusedError, match=match):
        who(world.ledger, clock, given, "approve", name)
    assert world.ledger.size == before + 1
    expected = ("bob", "approve", 1) if spoil == "without a role" else ("unauthenticated", "authenticate", 1)
    assert denials(world.ledger) == [expected]


def test_a_token_means_nothing_where_nobody_is_registered(world: LedgerWorld, clock: Clock) -> None:
    with pytest.raises(PermissionRefusedError, match="no principal is registered"):
        who(world.ledger, clock, "mgv_x", "solve")
    assert who(world.ledger, clock, None, "solve") == Actor(principal="local", role="requester")


@pytest.mark.parametrize(("issuer", "warned"), [("carl", True), ("dora", False)])
def test_one_person_with_two_voices_is_pointed_at(
    world: LedgerWorld, token: str, tmp_path: Path, issuer: str, warned: bool
) -> None:
    register(world.ledger, "dora", CARL, roles=["admin"], scopes=[])
    register(world.ledger, "carl2", CARL, roles=["admin"], scopes=[])
    issue(world.ledger, "carl2", Actor(principal=issuer, role="admin"))
    wider = load_policy(
        world.policy.source.replace(b"step_norm: 0.6\n", b"step_norm: 0.65\n").replace(b"version: 1", b"version: 2")
    )
    for name in ("carl", "carl2"):
        who = Actor(principal=name, role="admin")
        activate_policy(world.ledger, wider, who, world.tenant, world.deployment)
    assert world.ledger.active_policy() == wider.digest
    report = verify(address_of(world.folder), keys=world.keys, checkpoints=world.folder / "checkpoints")
    said = [warning for warning in report.warnings if "make sure that they are two people" in warning]
    assert report.ok and bool(said) == warned
    assert all("carl had issued carl2's token" in warning for warning in said)


def test_a_token_is_kept_nowhere(world: LedgerWorld, token: str) -> None:
    assert token.startswith("mgv_") and len(token) == 4 + 43  # 256 bits in base64
    stored = b"".join(entry.leaf for entry in world.ledger.entries())

    payloads = b"".join(base64.b64decode(json.loads(e.leaf)["payload"]) for e in world.ledger.entries())
    assert token.encode() not in stored + payloads
    assert token_hash(token).encode() in payloads


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    "actor", [ADA, Actor(principal="ada", role="operator"), Actor(principal="eve", role="operator")]
)
def test_whoever_is_no_operator_decides_nothing(world: LedgerWorld, actor: Actor) -> None:
    held = world.record("one", step_norm=0.7)
    for decide in (approve, reject, rollback):
        with pytest.raises(PermissionRefusedError):
            decide(world.ledger, held.change_id, actor, "because")
    # And past the flow the ledger refuses the same: whoever writes another door gets no further.
    with pytest.raises(PermissionRefusedError):
        world.ledger.append([world.approval(held, actor)])
    assert world.ledger.change(held.change_id).status == "held"
    assert sum(count for _, _, count in denials(world.ledger)) == 3


@pytest.mark.usefixtures("token")
def test_nobody_acts_in_the_systems_name(world: LedgerWorld) -> None:
    held = world.record("one", step_norm=0.7)
    for actor in (Actor(principal="bob", role="system"), Actor(principal="system", role="operator")):
        with pytest.raises(PermissionRefusedError):
            world.ledger.append([world.approval(held, actor, shown=None)])


@pytest.mark.usefixtures("token")
def test_a_scope_that_is_not_ones_own_is_not_asked_for(world: LedgerWorld) -> None:
    with pytest.raises(PermissionRefusedError, match="may not ask for scope deployment"):
        authorise(world.ledger, ADA, "solve", ("acme", "tutor"), scope="deployment")
    with pytest.raises(PermissionRefusedError, match="may not ask for scope deployment"):
        world.record("one", scope="deployment")
    authorise(world.ledger, ADA, "solve", ("acme", "tutor"), scope="instance")
    world.record("two")


@pytest.mark.usefixtures("token")
def test_only_an_admin_says_who_may_act(world: LedgerWorld) -> None:
    for act in (
        lambda: register(world.ledger, "eve", BOB, roles=["admin"], scopes=[]),
        lambda: issue(world.ledger, "bob", BOB),
        lambda: retire(world.ledger, "ada", BOB),
        lambda: revoke(world.ledger, world.ledger.tokens("carl")[0].token_id, BOB),
    ):
        with pytest.raises(PermissionRefusedError):
            act()
    body = TokenIssued(
        token_id="01890000-0000-7000-8000-000000000001", principal="carl", token_hash=token_hash("x"), expires_at=None
    )
    with pytest.raises(PermissionRefusedError):
        world.ledger.append([EventDraft(BOB, "system", "principals", body)])


@pytest.mark.usefixtures("token")
def test_a_key_is_one_persons_and_of_one_kind(world: LedgerWorld) -> None:
    key = Ed25519Signer.generate().public_key
    register(world.ledger, "bob", CARL, roles=["operator"], scopes=[], public_key=key)
    with pytest.raises(RefusedError, match="another principal's"):
        register(world.ledger, "eve", CARL, roles=["operator"], scopes=[], public_key=key)
    body = PrincipalRegistered(
        principal="eve",
        roles=("operator",),
        scopes=(),
        public_key=base64.b64encode(P256Signer.generate().public_key.spki).decode(),
        policy=world.policy.digest,
    )
    with pytest.raises(IntegrityError, match="not Ed25519"):
        world.ledger.append([EventDraft(CARL, "system", "principals", body)])


@pytest.mark.usefixtures("token")
def test_whoever_comes_back_after_retiring_comes_back_with_new_tokens(world: LedgerWorld, clock: Clock) -> None:
    old = [issue(world.ledger, "bob", CARL).token for _ in range(2)]
    retire(world.ledger, "bob", CARL)
    register(world.ledger, "bob", CARL, roles=["operator"], scopes=[])
    for token in old:  # one of them may be why bob was retired
        with pytest.raises(PermissionRefusedError, match="was revoked"):
            who(world.ledger, clock, token, "approve")
    assert who(world.ledger, clock, issue(world.ledger, "bob", CARL).token, "approve") == BOB
    issue(world.ledger, "carl", CARL)
    register(world.ledger, "dora", CARL, roles=["admin"], scopes=[])
    issue(world.ledger, "dora", CARL)
    retire(world.ledger, "carl", CARL)  # himself
    report = verify(world.ledger)
    assert report.ok, report.first_wrong


@pytest.mark.usefixtures("token")
def test_a_token_of_nobody_is_not_issued(world: LedgerWorld) -> None:
    with pytest.raises(NotFoundError):
        issue(world.ledger, "zoe", CARL)
    retire(world.ledger, "ada", CARL)
    with pytest.raises(RefusedError, match="retired"):
        issue(world.ledger, "ada", CARL)


def test_the_log_still_says_who_might_act_and_verifies(world: LedgerWorld, token: str, tmp_path: Path) -> None:
    register(world.ledger, "ada", CARL, roles=["requester", "operator"], scopes=SCOPES)
    ada = world.ledger.principal("ada")
    assert ada is not None and (ada.roles, ada.scopes) == (("requester", "operator"), SCOPES)
    report = verify(world.ledger)
    assert report.ok, report.first_wrong
    world.ledger.rebuild()
    assert [one.principal for one in world.ledger.principals()] == ["ada", "bob", "carl"]
    found, carl = world.ledger.bearer(token_hash(token))
    assert found is not None and found.principal == "carl"
    assert carl == world.ledger.principal("carl") and world.ledger.bearer("0" * 64) == (None, None)
    world.close()
    again = Ledger.open(address_of(tmp_path / "home"), keys=world.keys, checkpoints=tmp_path / "home" / "checkpoints")
    assert again.has_principals()
    again.close()


def test_whoever_is_let_into_some_tenants_alone_decides_nothing_for_all(world: LedgerWorld, token: str) -> None:
    """Whatever door they come through: a freeze of everything, its end, and the policy reach every tenant."""
    del token  # Carl and Bob are registered
    zoe, max_ = Actor(principal="zoe", role="operator"), Actor(principal="max", role="admin")
    register(world.ledger, "zoe", CARL, roles=["operator"], scopes=[], tenants=["elsewhere"])
    register(world.ledger, "max", CARL, roles=["admin"], scopes=[], tenants=["elsewhere"])
    before = world.ledger.active_policy()
    with pytest.raises(PermissionRefusedError, match="some tenants alone"):
        freeze(world.ledger, zoe, "stop", "elsewhere", "tutor", everywhere=True)
    freeze(world.ledger, BOB, "stop", "acme", "tutor", everywhere=True)
    with pytest.raises(PermissionRefusedError, match="some tenants alone"):
        unfreeze(world.ledger, zoe, "go on", "elsewhere", "tutor", everywhere=True)
    assert world.ledger.frozen("acme", "tutor") is not None
    with pytest.raises(PermissionRefusedError, match="some tenants alone"):
        activate_policy(world.ledger, shipped_policy("strict"), max_, "elsewhere", "tutor")
    assert world.ledger.active_policy() == before
    assert not freeze(world.ledger, zoe, "stop", "elsewhere", "tutor").already  # a deployment of their own they may


def test_two_who_approve_one_change_are_pointed_at_where_one_issued_the_others_token(
    tmp_path: Path, clock: Clock
) -> None:
    world = LedgerWorld.make(tmp_path / "two", TWO, clock=clock)
    register(world.ledger, "carl", NOBODY, roles=["admin"], scopes=[])
    dan, bob = Actor(principal="dan", role="admin"), Actor(principal="bob", role="operator")
    register(world.ledger, "dan", CARL, roles=["admin"], scopes=[])
    register(world.ledger, "ada", dan, roles=["requester"], scopes=["instance"])
    register(world.ledger, "bob", CARL, roles=["operator"], scopes=[])
    for name, giver in (("ada", dan), ("bob", CARL)):
        issue(world.ledger, name, giver)
    held = world.record("held", step_norm=0.7)
    shown = Proof(read_behaviour(world.ledger, held).digest)
    assert approve(world.ledger, held.change_id, bob, "fine", shown).change.status == "held"
    assert approve(world.ledger, held.change_id, CARL, "fine", shown).change.status == "applied"
    world.close()
    report = verify(address_of(world.folder), keys=world.keys, checkpoints=world.folder / "checkpoints")
    found = [warning for warning in report.warnings if "two people" in warning]
    assert report.ok and len(found) == 1 and "carl had issued bob's token" in found[0]


def test_a_name_from_before_anybody_was_registered_is_no_second_person(tmp_path: Path, clock: Clock) -> None:
    """Nobody proved it: neither where it proposed a policy that lets more pass, nor where it approved a change."""
    world = LedgerWorld.make(tmp_path / "early", TWO, clock=clock)
    wider = load_policy(TWO.source.replace(b"version: 1", b"version: 2").replace(b"required: 2", b"required: 1"))
    assert not activate_policy(world.ledger, wider, Actor(principal="bob", role="admin"), "acme", "tutor").activated
    held = world.record("held", step_norm=0.7)
    shown = Proof(read_behaviour(world.ledger, held).digest)
    assert approve(world.ledger, held.change_id, BOB, "fine", shown).change.status == "held"
    register(world.ledger, "carl", NOBODY, roles=["admin"], scopes=[])
    register(world.ledger, "bob", CARL, roles=["operator", "admin"], scopes=[])
    assert not activate_policy(world.ledger, wider, CARL, "acme", "tutor").activated
    with pytest.raises(RefusedError, match="nobody proved that name"):
        approve(world.ledger, held.change_id, CARL, "fine", shown)
    assert world.ledger.change(held.change_id).status == "held"
    assert activate_policy(world.ledger, wider, Actor(principal="bob", role="admin"), "acme", "tutor").activated
    world.close()
