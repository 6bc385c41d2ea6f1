"""A home whose changes replay quickly: short answers, and a tiny model that writes its own samples and scores them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mass_gov.config import load_settings
from mass_gov.records.events import Actor
from mass_gov.records.settings import AnswerSpec
from tests.fakes.policies import lean_policy

ALICE = Actor(principal="alice", role="operator")


@dataclass(frozen=True)
class Told:
    """A home, its model, and in it: a change whose state was promoted, one that stands on it, and a plain answer."""

    home: Path
    model: Path
    first: str
    second: str
    plain: str


def tell(folder: Path) -> Told:
    """Make the model and the home in an empty folder."""
    from mass_gov.flows.adapt import adapt
    from mass_gov.flows.approve import approve, promote
    from mass_gov.flows.exchange import Request
    from mass_gov.flows.respond import respond
    from mass_gov.wiring import initialise, open_workbench, recommended_spec
    from tests.fakes.small_core import make_core, make_talkative, with_core

    core = replace(make_core(make_talkative(folder / "plain", "llama")), samples=48)
    model, home = with_core(folder / "plain", folder / "cored", core), folder / "home"
    settings = load_settings(home=home, model=model, principal="alice")
    initialise(settings, lean_policy(folder))[0].close()
    spec = recommended_spec(settings).model_copy(update={"answer": AnswerSpec(max_new_tokens=6)})
    bench = open_workbench(settings, spec)
    first = adapt(Request("what is 7?", "one", seed=3), bench).change
    if first.status == "held":
        approve(bench.ledger, first.change_id, ALICE, "looked at it")
    promote(bench.ledger, first.change_id, ALICE, "good")
    second = adapt(Request("what is 7?", "two", seed=3), bench).change
    plain = respond(Request("what is 9?", "three"), bench).response
    bench.ledger.close()
    assert second.body.parents.parent_state == first.body.update.state == plain.state
    assert second.body.synthesis.kept > 0 and second.body.update.delta is not None
    return Told(home, model, first.change_id, second.change_id, plain.response_id)
