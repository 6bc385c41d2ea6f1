"""Approvals: nobody decides about something they did not see, alone where it takes two, too late, or as somebody else.

Denials first, on both engines. Races run in threads and in processes of their own: exactly one wins, the other is told.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mass_gov.errors import (
    IntegrityError,
    MassGovError,
    PermissionRefusedError,
    RefusedError,
    StaleChangeError,
)
from mass_gov.evidence.approval import sign_approval
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.signing import Ed25519Signer
from mass_gov.flows.approve import Proof, approve, promote, reject
from mass_gov.flows.audit import verify
from mass_gov.flows.behaviour import read_behaviour
from mass_gov.flows.expiry import Overdue, expire
from mass_gov.flows.principals import issue, register
from mass_gov.ledger import ChangeView, Ledger
from mass_gov.ledger.ledger import SYSTEM
from mass_gov.policy import Policy, load_policy
from mass_gov.records.base import timestamp
from mass_gov.records.events import AccessDenied, Actor, ChangeApproved, ChangeRejected
from tests.fakes.clock import Clock
from tests.fakes.engines import address_of
from tests.fakes.ledger_world import BOB, EVE, REASON, LedgerWorld, shipped_policy

pytestmark = pytest.mark.both_engines

DEFAULT = shipped_policy("default")


def _with(setting: str, value: str) -> Policy:
    """The default policy with one of its approvals settings changed."""
    document = yaml.safe_load(DEFAULT.source)
    assert setting in document["approvals"]
    document["approvals"][setting] = yaml.safe_load(value)
    return load_policy(yaml.safe_dump(document).encode())


TWO, ADMINS = _with("required", "2"), _with("roles", "[admin]")
FRESH, SIGNED = _with("max_authentication_age_seconds", "600"), _with("signature_required", "true")
EXPIRING = _with("expires_after_hours", "2.0")
NOBODY, CARL = Actor(principal="local", role="admin"), Actor(principal="carl", role="admin")


def wait_for_the_lock(ledger: Ledger, clock: Clock, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on an append begins so much later than it was called, as behind another process that writes."""
    append = ledger.append

    def later(drafts: Any) -> Any:
        clock.add(seconds)
        return append(drafts)

    monkeypatch.setattr(ledger, "append", later)


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Iterator[Callable[[Any], LedgerWorld]]:
    made: list[LedgerWorld] = []

    def of(policy: Any) -> LedgerWorld:
        made.append(LedgerWorld.make(tmp_path / "home", policy, clock=clock))
        return made[-1]

    yield of
    for world in made:
        world.close()


def seen(ledger: Ledger, change: ChangeView) -> Proof:
    return Proof(read_behaviour(ledger, change).digest)


def approved(ledger: Ledger) -> list[ChangeApproved]:
    bodies = (entry.predicate.body for entry in ledger.entries())
    return [body for body in bodies if isinstance(body, ChangeApproved)]


def with_people(world: LedgerWorld, key: Ed25519Signer | None = None) -> None:
    """Carl is an admin, Ada asks, Bob operates and signs with `key` where there is one."""
    register(world.ledger, "carl", NOBODY, roles=["admin"], scopes=[])
    register(world.ledger, "ada", CARL, roles=["requester"], scopes=["instance"])
    public = key.public_key if key is not None else None
    register(world.ledger, "bob", CARL, roles=["operator"], scopes=[], public_key=public)


def test_what_was_not_shown_is_not_approved(make: Callable[[Any], LedgerWorld]) -> None:
    world = make(DEFAULT)
    held = world.record("one", step_norm=0.7)
    with pytest.raises(RefusedError, match="changes diff"):
        approve(world.ledger, held.change_id, BOB, "looks fine")
    assert world.ledger.change(held.change_id).status == "held"


def test_what_was_shown_of_another_change_is_not_approved(make: Callable[[Any], LedgerWorld]) -> None:
    world = make(DEFAULT)
    held, other = world.record("one", step_norm=0.7), world.record("two", step_norm=0.7)
    with pytest.raises(StaleChangeError, match="is not what"):
        approve(world.ledger, held.change_id, BOB, "looks fine", seen(world.ledger, other))


def test_what_was_shown_stands_in_the_event_and_is_found_again_by_verify(make: Callable[[Any], LedgerWorld]) -> None:
    world = make(DEFAULT)
    held = world.record("one", step_norm=0.7)
    proof = seen(world.ledger, held)
    assert approve(world.ledger, held.change_id, BOB, "looks fine", proof).change.status == "applied"
    assert [body.shown for body in approved(world.ledger)] == [proof.shown]
    report = verify(world.ledger)
    assert report.ok, report.first_wrong


def test_verify_names_an_approval_that_says_something_else_was_shown(make: Callable[[Any], LedgerWorld]) -> None:
    world = make(DEFAULT)
    held = world.record("one", step_norm=0.7)
    world.ledger.append([world.approval(held, BOB, shown="ab" * 32)])
    report = verify(world.ledger)
    assert report.first_wrong is not None and report.first_wrong.step == 9
    assert "shown something else" in report.first_wrong.what


def test_verify_names_an_approval_of_something_that_nobody_saw(make: Callable[[Any], LedgerWorld]) -> None:
    world = make(DEFAULT)
    held = world.record("one", step_norm=0.7)
    world.ledger.append([world.approval(held, BOB, shown=None)])
    report = verify(world.ledger)
    assert report.first_wrong is not None and report.first_wrong.step == 10
    assert "have seen what the change does" in report.first_wrong.what


def test_the_diff_is_not_guessable_from_its_digest(make: Callable[[Any], LedgerWorld]) -> None:
    """Another key store gives another digest of the same document: a leaf gives nothing away."""
    from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
    from mass_gov.flows.behaviour import shown_digest

    world = make(DEFAULT)
    behaviour = read_behaviour(world.ledger, world.record("one", step_norm=0.7))
    other = KeyStore.open(world.folder / "other keys", create=True)
    assert behaviour.digest != shown_digest(other, behaviour.document)
    assert behaviour.digest != sha256_hex(canonical_bytes(behaviour.document))
    assert {"flipped", "samples", "task", "gates", "update", "regression"} <= behaviour.document.keys()


def test_a_role_that_the_policy_does_not_name_does_not_count(make: Callable[[Any], LedgerWorld]) -> None:
    world = make(ADMINS)
    held = world.record("one", step_norm=0.7)
    with pytest.raises(PermissionRefusedError, match="whose role is admin"):
        approve(world.ledger, held.change_id, BOB, "looks fine", seen(world.ledger, held))
    decided = approve(world.ledger, held.change_id, CARL, "looks fine", seen(world.ledger, held))
    assert decided.change.status == "applied"
    report = verify(world.ledger)
    assert report.ok, report.first_wrong


def test_verify_names_an_approval_by_the_wrong_role(make: Callable[[Any], LedgerWorld]) -> None:
    world = make(ADMINS)
    held = world.record("one", step_norm=0.7)
    world.ledger.append([world.approval(held, BOB)])
    report = verify(world.ledger)
    assert report.first_wrong is not None and "approval of a operator" in report.first_wrong.what.replace("an ", "a ")


def test_one_person_is_not_two(make: Callable[[Any], LedgerWorld]) -> None:
    world = make(TWO)
    held = world.record("one", step_norm=0.7)
    first = approve(world.ledger, held.change_id, BOB, "looks fine", seen(world.ledger, held))
    assert (first.approvals, first.required, first.change.status) == (1, 2, "held")
    with pytest.raises(RefusedError, match=r"approved .* already"):
        approve(world.ledger, held.change_id, BOB, "I do insist", seen(world.ledger, held))
    with pytest.raises(PermissionRefusedError, match="requester's own"):
        own = Actor(principal="ada", role="operator")
        approve(world.ledger, held.change_id, own, "mine", seen(world.ledger, held))
    second = approve(world.ledger, held.change_id, EVE, "so do I", seen(world.ledger, held))
    assert (second.approvals, second.change.status) == (2, "applied")


def test_a_proof_of_identity_gets_old(make: Callable[[Any], LedgerWorld], clock: Clock) -> None:
    world = make(FRESH)
    with_people(world)
    held = world.record("one", step_norm=0.7)
    view = issue(world.ledger, "bob", CARL).view
    shown = read_behaviour(world.ledger, held).digest
    with pytest.raises(PermissionRefusedError, match="there is none"):
        approve(world.ledger, held.change_id, BOB, "fine", Proof(shown))
    clock.add(601)
    with pytest.raises(PermissionRefusedError, match="601 seconds old"):
        approve(world.ledger, held.change_id, BOB, "fine", Proof(shown, view.issued_at))
    with pytest.raises(IntegrityError, match="no token in use that was issued"):
        approve(world.ledger, held.change_id, BOB, "fine", Proof(shown, timestamp(clock.now)))  # made up
    fresh = issue(world.ledger, "bob", CARL).view
    approve(world.ledger, held.change_id, BOB, "fine", Proof(shown, fresh.issued_at))
    report = verify(world.ledger)
    assert report.ok, report.first_wrong


def denied(ledger: Ledger) -> list[tuple[str, str, int]]:
    said = (entry.predicate for entry in ledger.entries())
    return [(p.actor.principal, p.body.action, p.body.count) for p in said if isinstance(p.body, AccessDenied)]


def test_whoever_is_refused_for_key_or_proof_leaves_a_trace(make: Callable[[Any], LedgerWorld], clock: Clock) -> None:
    world = make(FRESH)
    with_people(world, Ed25519Signer.generate())
    held = world.record("one", step_norm=0.7)
    shown = read_behaviour(world.ledger, held).digest
    for signer in (None, Ed25519Signer.generate()):  # a stolen token alone, and with a key of the thief's own
        with pytest.raises(PermissionRefusedError, match="signs approvals with the key"):
            approve(world.ledger, held.change_id, BOB, "fine", Proof(shown, None, signer))
        clock.add(61)
    register(world.ledger, "bob", CARL, roles=["operator"], scopes=[])
    with pytest.raises(PermissionRefusedError, match="there is none"):
        approve(world.ledger, held.change_id, BOB, "fine", Proof(shown))
    assert denied(world.ledger) == [("bob", "approve", 1)] * 3


def test_a_proof_from_the_future_is_none(make: Callable[[Any], LedgerWorld], clock: Clock) -> None:
    world = make(FRESH)
    with_people(world)
    held, view = world.record("one", step_norm=0.7), issue(world.ledger, "bob", CARL).view
    proof = Proof(read_behaviour(world.ledger, held).digest, view.issued_at)
    clock.add(-86400)
    with pytest.raises(PermissionRefusedError, match="ran backwards"):
        approve(world.ledger, held.change_id, BOB, "fine", proof)


@pytest.mark.parametrize("policy", [FRESH, EXPIRING], ids=["proof", "change"])
def test_what_gets_too_old_while_it_waits_for_the_lock_is_not_written(
    make: Callable[[Any], LedgerWorld], clock: Clock, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is looked at before the lock is had: what is written in time for nobody fails verification for good."""
    world = make(policy)
    with_people(world)
    held, view = world.record("one", step_norm=0.7), issue(world.ledger, "bob", CARL).view
    proof = Proof(read_behaviour(world.ledger, held).digest, view.issued_at)
    clock.add(590 if policy is FRESH else 7190)
    with monkeypatch.context() as patched:
        wait_for_the_lock(world.ledger, clock, 20, patched)
        with pytest.raises(StaleChangeError, match="was good until 2026-11-28T"):
            approve(world.ledger, held.change_id, BOB, "fine", proof)
    assert world.ledger.change(held.change_id).status == "held"
    report = verify(world.ledger)
    assert report.ok, report.first_wrong


def test_verify_names_an_approval_on_an_old_proof(make: Callable[[Any], LedgerWorld], clock: Clock) -> None:
    world = make(FRESH)
    with_people(world)
    held = world.record("one", step_norm=0.7)
    view = issue(world.ledger, "bob", CARL).view
    clock.add(601)
    world.ledger.append([world.approval(held, BOB, authenticated_at=view.issued_at)])
    report = verify(world.ledger)
    assert report.first_wrong is not None and "601 seconds old" in report.first_wrong.what


def test_a_policy_that_wants_signatures_takes_nothing_unsigned(make: Callable[[Any], LedgerWorld]) -> None:
    world = make(SIGNED)
    with_people(world)
    held = world.record("one", step_norm=0.7)
    with pytest.raises(PermissionRefusedError, match="registered no key"):
        approve(world.ledger, held.change_id, BOB, "fine", seen(world.ledger, held))
    world.ledger.append([world.approval(held, BOB)])
    report = verify(world.ledger)
    assert report.first_wrong is not None and "own signature" in report.first_wrong.what


def test_a_registered_key_signs_every_approval_and_no_other_does(make: Callable[[Any], LedgerWorld]) -> None:
    key, thief = Ed25519Signer.generate(), Ed25519Signer.generate()
    world = make(FRESH)
    with_people(world, key)
    held = world.record("one", step_norm=0.7)
    shown = read_behaviour(world.ledger, held).digest
    for signer in (None, thief):
        with pytest.raises(PermissionRefusedError, match="signs approvals with the key"):
            approve(world.ledger, held.change_id, BOB, "fine", Proof(shown, None, signer))
    # Past the flow the ledger refuses the same: unsigned, by another key, and a signature of something else.
    unsigned = world.approval(held, BOB)
    with pytest.raises(RefusedError, match="is not signed"):
        world.ledger.append([unsigned])
    for signer, change in ((thief, {}), (key, {"required": 2})):
        body = unsigned.body.model_copy(update={"signing_key": key.keyid})
        signature = sign_approval(body.model_copy(update=change).document(), signer)
        forged = world.draft(body.model_copy(update={"signature": signature}), BOB, REASON)
        with pytest.raises(IntegrityError, match="not signed by the key"):
            world.ledger.append([forged])
    approve(world.ledger, held.change_id, BOB, "fine", Proof(shown, None, key))
    (body,) = approved(world.ledger)
    assert body.signing_key == key.keyid and body.authenticated_at is not None  # signing now is a proof of now
    report = verify(world.ledger)
    assert report.ok, report.first_wrong


def test_nobody_signs_who_registered_no_key(make: Callable[[Any], LedgerWorld]) -> None:
    world = make(DEFAULT)
    held = world.record("one", step_norm=0.7)
    with pytest.raises(PermissionRefusedError, match="registered no key"):
        proof = Proof(read_behaviour(world.ledger, held).digest, None, Ed25519Signer.generate())
        approve(world.ledger, held.change_id, BOB, "fine", proof)


def test_a_change_whose_time_is_over_is_rejected_and_not_approved(
    make: Callable[[Any], LedgerWorld], clock: Clock
) -> None:
    world = make(EXPIRING)
    held, other = world.record("one", step_norm=0.7), world.record("two", step_norm=0.7)
    assert expire(world.ledger) == []
    clock.add(7200)
    with pytest.raises(RefusedError, match="waited until 2026-11-28 11:00"):
        approve(world.ledger, held.change_id, BOB, "late", seen(world.ledger, held))
    assert [change.change_id for change in expire(world.ledger)] == [other.change_id]
    assert expire(world.ledger) == []
    ends = [e.predicate for e in world.ledger.entries() if isinstance(e.predicate.body, ChangeRejected)]
    assert [(p.actor, p.body.cause) for p in ends] == [(SYSTEM, "expired")] * 2  # type: ignore[union-attr]
    report = verify(world.ledger)
    assert report.ok, report.first_wrong


def test_verify_names_an_expiry_before_its_time_and_an_approval_after_it(
    make: Callable[[Any], LedgerWorld], clock: Clock
) -> None:
    world = make(EXPIRING)
    early, late = world.record("one", step_norm=0.7), world.record("two", step_norm=0.7)
    body = ChangeRejected(change_id=early.change_id, recorded=early.entry.leaf_hash, cause="expired")
    world.ledger.append([world.draft(body, SYSTEM, REASON)])
    report = verify(world.ledger)
    assert report.first_wrong is not None and "its time was not over" in report.first_wrong.what
    clock.add(10800)
    world.ledger.append([world.approval(late, BOB)])
    report = verify(world.ledger)
    assert sum(step.wrong for step in report.steps) == 2


def _all_at_once(ledger: Ledger, held: ChangeView, proof: Proof) -> list[tuple[str, object]]:
    """Ten operators decide about one change in the same moment; returns what each was told."""
    barrier, outcomes = threading.Barrier(10), list[tuple[str, object]]()

    def decide(n: int) -> None:
        who = Actor(principal=f"op{n}", role="operator")
        barrier.wait()
        try:
            if n % 2:
                outcomes.append(("rejected", reject(ledger, held.change_id, who, "no").status))
            else:
                outcomes.append(("approved", approve(ledger, held.change_id, who, "yes", proof).approvals))
        except MassGovError as error:
            outcomes.append(("refused", str(error)))

    threads = [threading.Thread(target=decide, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.parametrize("policy", [DEFAULT, TWO], ids=["one of", "two of"])
def test_of_many_who_decide_at_once_each_change_is_decided_once(
    make: Callable[[Any], LedgerWorld], policy: Any
) -> None:
    """Five approve and five reject at once, in threads: it is applied or rejected, and nobody hears a falsehood."""
    world = make(policy)
    required = policy.document.approvals.required
    for name in ("race 1", "race 2", "race 3"):
        held = world.record(name, step_norm=0.7)
        outcomes = _all_at_once(world.ledger, held, seen(world.ledger, held))
        change = world.ledger.change(held.change_id)
        said = [kind for kind, _ in outcomes]
        assert change.status in ("applied", "rejected")
        assert said.count("rejected") == (change.status == "rejected")
        assert said.count("approved") == len(change.approvals)
        assert (len(change.approvals) == required) == (change.status == "applied")
        assert len(outcomes) == 10 and all(why for kind, why in outcomes if kind == "refused")
    report = verify(world.ledger)
    assert report.ok, report.first_wrong


def _decide_elsewhere(home: str, address: str, change_id: str, shown: str, n: int, results: Any) -> None:
    """What one process of an operator does."""
    folder = Path(home)
    keys = KeyStore.open(folder / "keys")
    who = Actor(principal=f"op{n}", role="operator")
    with Ledger.open(address, keys=keys, checkpoints=folder / "checkpoints") as ledger:
        try:
            if n % 2:
                reject(ledger, change_id, who, "no")
                results.put((n, "rejected"))
            else:
                approve(ledger, change_id, who, "yes", Proof(shown))
                results.put((n, "approved"))
        except MassGovError as error:
            results.put((n, f"refused: {error}"))


def test_of_processes_that_approve_and_reject_at_once_one_side_wins(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home", TWO)
    held = world.record("race", step_norm=0.7)
    shown = read_behaviour(world.ledger, held).digest
    address = world.ledger.address
    where = (tmp_path / "home" / "ledger.url").read_text() if (tmp_path / "home" / "ledger.url").exists() else None
    world.close()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    arguments = [
        (str(tmp_path / "home"), where or f"sqlite:///{address.path}", held.change_id, shown, n, results)
        for n in range(4)
    ]
    processes = [context.Process(target=_decide_elsewhere, args=one) for one in arguments]
    for process in processes:
        process.start()
    said = dict(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    with Ledger.open(
        address_of(tmp_path / "home"), keys=world.keys, checkpoints=tmp_path / "home" / "checkpoints"
    ) as ledger:
        change = ledger.change(held.change_id)
        wins = [outcome for outcome in said.values() if not outcome.startswith("refused")]
        assert change.status in ("applied", "rejected")
        assert wins.count("rejected") == (change.status == "rejected")
        assert wins.count("approved") == len(change.approvals)
        assert verify(ledger).ok


def test_promoting_takes_the_same_as_approving(make: Callable[[Any], LedgerWorld]) -> None:
    world = make(DEFAULT)
    applied = world.record("one")
    with pytest.raises(RefusedError, match="changes diff"):
        promote(world.ledger, applied.change_id, BOB, "good")
    decided = promote(world.ledger, applied.change_id, BOB, "good", seen(world.ledger, applied))
    assert decided.change.status == "active"


def test_what_is_over_is_rejected_again_and_again_by_whoever_stays(
    make: Callable[[Any], LedgerWorld], clock: Clock
) -> None:
    """A server's learner opens its ledger once; held changes end all the same, at most a minute after they could."""
    world, seconds = make(EXPIRING), [0.0]
    overdue = Overdue(world.ledger, lambda: seconds[0])
    held = world.record("held", step_norm=0.7)
    clock.add(7200)
    overdue.reject()
    assert world.ledger.change(held.change_id).status == "held"
    seconds[0] = 61.0
    overdue.reject()
    assert world.ledger.change(held.change_id).status == "rejected"
