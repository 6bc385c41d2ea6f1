"""Whatever is done to pointers, in whatever order: they stand where an independent replay of the log says.

200 random sequences of adapting, approving, promoting, rejecting, rolling back (also with what stands on it, and to a
named state), freezing and moving to another base, each on a deployment of its own in one ledger; then a few with a real
model, so that the weights which serve are real. `tests.fakes.reference_log` reads the export and imports nothing of the
program.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mass_gov.errors import MassGovError
from mass_gov.evidence.model_signing import delta_digest
from mass_gov.evidence.state import state_digest
from mass_gov.flows.approve import approve
from mass_gov.flows.audit import verify
from mass_gov.flows.exchange import Request
from mass_gov.flows.freeze import freeze, unfreeze
from mass_gov.flows.log_export import export_log
from mass_gov.flows.respond import respond
from mass_gov.flows.rollback import rollback, rollback_to
from mass_gov.flows.workbench import current_origin, delta_files
from mass_gov.ledger import ChangeView, Ledger, derived
from mass_gov.records.events import ModelRegistered
from tests.fakes.breakable import ALICE, GENTLE, ROUGH, breakable
from tests.fakes.ledger_world import BASE_MODEL, BOB, BOTH_SCOPES, EVE, TEMPLATE, LedgerWorld
from tests.fakes.reference_log import Meaning, Pointer, read_export
from tests.unit.test_change_states import OTHER_MODEL, base_move

pytestmark = [pytest.mark.both_engines]
LEDGERS, SEQUENCES, STEPS, REAL_SEQUENCES, REAL_STEPS = 5, 40, 12, 4, 8
ACTIONS = {
    "adapt": 8,
    "approve": 4,
    "promote": 4,
    "reject": 1,
    "roll back": 3,
    "roll back with cascade": 2,
    "roll back to": 2,
    "freeze": 1,
    "unfreeze": 2,
    "move the base": 1,
}
"""How often each is tried, beside the others."""


class Walk:
    """One random sequence on one deployment. A refusal is an outcome too, and must leave everything as it was."""

    def __init__(self, world: LedgerWorld, number: int) -> None:
        self.world, self.random, self.number = world, random.Random(number), number
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.changes: list[str] = []
        self.tasks = 0

    def step(self) -> None:
        """Do one thing, or be refused."""
        acts: dict[str, Callable[[], object]] = {
            "adapt": self.adapt,
            "approve": self.approve,
            "promote": self.promote,
            "reject": self.reject,
            "roll back": self.roll_back,
            "roll back with cascade": self.cascade,
            "roll back to": self.roll_back_to,
            "freeze": self.freeze,
            "unfreeze": self.unfreeze,
            "move the base": self.move_base,
        }
        (name,) = self.random.choices(list(ACTIONS), list(ACTIONS.values()))
        before = self.world.ledger.size
        try:
            acts[name]()
            self.done[name] += 1
        except MassGovError:
            assert self.world.ledger.size == before, f"{name} was refused and something was written"
            self.refused[name] += 1

    def adapt(self) -> None:
        self.tasks += 1
        scope = self.random.choice(["instance", "deployment"])
        made = self.world.record(
            f"{self.number}-{self.tasks}",
            scope=scope,
            step_norm=self.random.choice([0.05, 0.05, 0.7, 0.7, 1.5]),
            learned=self.random.random() > 0.1,
        )
        self.changes.append(made.change_id)

    def approve(self) -> None:
        change = self.any("held", "pending")
        drafts = [self.world.approval(change)]
        if change.body.identity.scope == "deployment":
            drafts.append(self.world.activation(change, "approval"))
        self.world.ledger.append(drafts)

    def promote(self) -> None:
        self.world.promote(self.any("applied"))

    def reject(self) -> None:
        self.world.ledger.append([self.world.rejection(self.any("held"))])

    def roll_back(self) -> None:
        rollback(self.world.ledger, self.any("active", "applied").change_id, BOB, "It was worse.")

    def cascade(self) -> None:
        rollback(self.world.ledger, self.any("active").change_id, BOB, "It was worse.", cascade=True)

    def roll_back_to(self) -> None:
        stack = self.world.ledger.pointer_stack(*self.place)
        to = self.random.choice(stack).state[:20] if stack else "base"
        rollback_to(self.world.ledger, *self.place, to, BOB, "It was worse.", cascade=self.random.random() > 0.3)

    def freeze(self) -> None:
        freeze(self.world.ledger, EVE, "It looks wrong.", *self.place)

    def unfreeze(self) -> None:
        unfreeze(self.world.ledger, EVE, "It was the data.", *self.place)

    def move_base(self) -> None:
        now = self.world.ledger.pointer(*self.place).base_model or BASE_MODEL
        self.world.ledger.append([base_move(self.world, OTHER_MODEL if now == BASE_MODEL else BASE_MODEL)])

    def any(self, *wanted: str) -> ChangeView:
        """A change of one of these statuses; where there is none, any change, so that refusals are met too."""
        found = [self.world.ledger.change(one) for one in self.changes]
        fitting = [one for one in found if one.status in wanted] or found
        if not fitting:
            raise MassGovError("nothing is recorded yet")
        return self.random.choice(fitting)

    @property
    def place(self) -> tuple[str, str]:
        """Where this sequence takes place."""
        return self.world.tenant, self.world.deployment


def assert_same(ledger: Ledger, meaning: Meaning, place: tuple[str, str], changes: list[str]) -> None:
    """The ledger says of a deployment what the independent replay says."""
    wanted, pointer = meaning.pointers.get(place, Pointer()), ledger.pointer(*place)
    assert (pointer.state, pointer.change_id, pointer.head_index) == (wanted.state, wanted.change, wanted.head)
    stack = [(one.change.change_id, one.state) for one in ledger.pointer_stack(*place) if one.change is not None]
    assert stack == [(change, state) for change, state, _ in wanted.stack]
    assert {one: ledger.change(one).status for one in changes} == {one: meaning.status[one] for one in changes}
    assert (ledger.frozen(*place) is not None) == meaning.is_frozen(place)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(LEDGERS))
def test_200_random_sequences_leave_every_pointer_where_an_independent_replay_of_the_log_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    world = LedgerWorld.make(tmp_path / "home", BOTH_SCOPES)
    model = ModelRegistered(model=OTHER_MODEL, prompt_template=TEMPLATE, parameters="200000")
    world.ledger.append([world.draft(model, BOB)])
    walks = []
    for number in range(part * SEQUENCES, (part + 1) * SEQUENCES):
        world.deployment = f"walk-{number}"
        walk = Walk(world, number)
        for _ in range(STEPS):
            walk.step()
        walks.append((world.deployment, walk))
    export_log(world.ledger, tmp_path / "log.ndjson")
    meaning = read_export(tmp_path / "log.ndjson")
    for deployment, walk in walks:
        place = (world.tenant, deployment)
        assert_same(world.ledger, meaning, place, walk.changes)
        pointer = world.ledger.pointer(*place)
        if pointer.change_id is not None:  # what is stored for the pointer is what its digest names
            files = delta_files(world.ledger, world.ledger.change(pointer.change_id))
            assert state_digest(pointer.base_model or "", delta_digest(files)) == pointer.state
    done, refused = (sum((getattr(walk, name) for _, walk in walks), Counter()) for name in ("done", "refused"))
    assert all(done[name] >= 3 for name in ACTIONS), done  # each of them happened, and was refused where that can be
    assert all(refused[name] >= 3 for name in ("adapt", "approve", "promote", "roll back")), refused
    report = verify(world.ledger)
    assert report.ok, report.first_wrong
    world.close()
    monkeypatch.setattr(derived, "_replay", None)  # what was written adds up: nobody has to replay it
    LedgerWorld.make(tmp_path / "home", BOTH_SCOPES).close()


@pytest.mark.usefixtures("engine_settings")
@pytest.mark.parametrize("number", range(REAL_SEQUENCES))
def test_with_a_real_model_the_weights_that_serve_are_those_that_the_pointer_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    chance = random.Random(number)
    with breakable(tmp_path, monkeypatch) as deployed:
        bench, place, made = deployed.bench, ("local", "default"), list[str]()
        for step in range(REAL_STEPS):
            try:
                match chance.choice(["adapt", "adapt", "approve", "roll back", "freeze", "unfreeze"]):
                    case "adapt":
                        size = chance.choice([GENTLE, ROUGH])
                        made.append(deployed.ask(f"{number}-{step}", size).change.change_id)
                    case "approve":
                        approve(bench.ledger, chance.choice(made or ["0" * 8]), ALICE, "looked at it")
                    case "roll back":
                        chosen = chance.choice(made or ["0" * 8])
                        rollback(bench.ledger, chosen, BOB, "worse", cascade=chance.random() > 0.5)
                    case "freeze":
                        freeze(bench.ledger, BOB, "stop", *place)
                    case _:
                        unfreeze(bench.ledger, BOB, "go on", *place)
            except MassGovError:
                continue
        export_log(bench.ledger, tmp_path / "log.ndjson")
        meaning = read_export(tmp_path / "log.ndjson")
        assert_same(bench.ledger, meaning, place, made)
        origin = current_origin(bench)
        served = respond(Request("what is served?", "served"), bench).response
        delta = delta_digest(bench.learner.write_adapter(origin.adapter)) if origin.adapter is not None else None
        loaded = state_digest(bench.learner.base_digest, delta)  # of the tensors that answered, written out again
        stands = meaning.pointers.get(place, Pointer()).state or bench.base_state
        assert served.state == loaded == stands
        report = verify(bench.ledger)
        assert report.ok, report.first_wrong
