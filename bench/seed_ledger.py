"""Fill a ledger with many events, quickly: what `bench/api.py` asks.

    python bench/seed_ledger.py FOLDER [--events 1000000] [--engine sqlite|postgresql] [--crowd 1] [--seed 1]

Every event is signed with the folder's own key and stands in the tree, under signed heads: changes whose facts are
drawn with a seed and decided by the policy default, rejections, answers from the base model, replays, over the thirty
days before now. They are cast from moulds that the program made (`moulds`), in processes of their own. Two things are
left out: artifacts, since lists read none (`verify` says so in its step on artifacts), and asking the rules of each
event, whose rows `bulk_rows` writes many at a time; `verify` compares every one with the log. Among them stand a rare
tenant and filters that nothing matches. FOLDER is a home then: `ledger.sqlite3`, or `postgres/` with a server's data
(`seeded`), `keys/`, `checkpoints/`, `token` (an auditor's) and `tokens.json`: those of `--crowd` auditors and a tenth
as many operators.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import seeded  # noqa: E402 - found by the line above
from backtest import DEFAULT, drawn  # noqa: E402
from bulk_rows import Bulk, add_up  # noqa: E402
from moulds import PLACEHOLDERS, Cast, Caster, Mould, Moulds  # noqa: E402

from mass_gov.evidence.state import state_digest  # noqa: E402
from mass_gov.flows.principals import issue, register  # noqa: E402
from mass_gov.records.change import ChangeBody, Cost  # noqa: E402
from mass_gov.records.events import (  # noqa: E402
    Actor,
    Body,
    ChangeRecorded,
    ChangeRejected,
    Predicate,
    ReplayPerformed,
    ResponseServed,
    Unadapted,
)
from tests.fakes.ledger_world import ADA, BASE_MODEL, BOB, TEMPLATE, LedgerWorld  # noqa: E402

TURN = 4000
PROCESSES = 2
DRAWN = 200
"""Different changes, but for their ids, times, places and subjects."""
SPAN = dt.timedelta(days=30)
AUDITOR = Actor(principal="dora", role="auditor")
AT = PLACEHOLDERS


def seed_ledger(folder: Path, events: int, seed: int, engine: str = "sqlite", crowd: int = 1) -> float:
    """Fill a folder's ledger up to so many events; returns events per second."""
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder} is not empty. Give a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    with seeded.address_of(folder, create=engine == "postgresql") as address:
        if address.path is None:
            (folder / "ledger.url").write_text(address.url)  # where the world looks
        started = dt.datetime.now(dt.UTC) - SPAN
        clock = [started]
        world = LedgerWorld.make(folder, DEFAULT, clock=lambda: clock[-1])
        try:
            size, before = world.ledger.size, time.perf_counter()
            bulk = Bulk(world.ledger)
            caster = Caster(folder / "keys", _moulds(world, seed), seed, started, SPAN / events)
            for turn in _turns(caster, size, events):
                bulk.write(turn)
                done = turn[-1].index + 1
                rate = (done - size) / (time.perf_counter() - before)
                print(f"{done:>9,} of {events:,} events, {rate:,.0f}/s", file=sys.stderr)
            seconds = time.perf_counter() - before
            clock.append(dt.datetime.now(dt.UTC))
            add_up(world.ledger)
            _let_in(world, folder, crowd)
        finally:
            world.close()
            (folder / "ledger.url").unlink(missing_ok=True)
        if address.path is not None:
            (folder / "ledger.db").replace(address.path)
    return (events - size) / seconds


def _turns(caster: Caster, size: int, events: int) -> Iterator[list[Cast]]:
    bounds = [(start, min(start + TURN, events)) for start in range(size, events, TURN)]
    if len(bounds) == 1:
        yield caster.chunk(bounds[0])
        return
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        waiting = [pool.apply_async(caster.chunk, (one,)) for one in bounds[:PROCESSES]]
        for place in range(len(bounds)):
            if place + PROCESSES < len(bounds):
                waiting.append(pool.apply_async(caster.chunk, (bounds[place + PROCESSES],)))
            yield waiting.pop(0).get()


def _moulds(world: LedgerWorld, seed: int) -> Moulds:
    (draft, *_) = world.change_drafts(f"template {seed}", consequences=False)
    assert isinstance(draft.body, ChangeRecorded)
    template, chance = draft.body.change, random.Random(seed)

    def mould(actor: Actor, body: Body) -> Mould:
        predicate = Predicate(
            format=1,
            event_id=AT["event_id"],
            origin=world.ledger.origin,
            time=AT["time"],
            actor=actor,
            tenant=AT["tenant"],
            deployment=AT["deployment"],
            body=body,
            artifacts=(),
        )
        return Mould.of(predicate)

    return Moulds(
        changes=tuple(mould(draft.actor, _change(template, chance)) for _ in range(DRAWN)),
        answer=mould(ADA, _answer(world, template)),
        replay=mould(AUDITOR, _replay(template)),
        rejection=mould(BOB, ChangeRejected(change_id=AT["change_id"], recorded=AT["recorded"])),
    )


def _change(template: ChangeBody, chance: random.Random) -> ChangeRecorded:
    body = drawn(template, chance)
    said = {name: AT[name] for name in ("change_id", "tenant", "deployment", "subject")}
    said |= {"request_commitment": AT["commitment"], "requested_at": AT["time"], "recorded_at": AT["time"]}
    return ChangeRecorded(change=body.model_copy(update={"identity": body.identity.model_copy(update=said)}))


def _replay(template: ChangeBody) -> ReplayPerformed:
    return ReplayPerformed(
        target=AT["change_id"],
        start="scratch",
        verdict="equal",
        first_difference=None,
        fingerprint=template.parents.fingerprint,
    )


def _answer(world: LedgerWorld, template: ChangeBody) -> ResponseServed:
    origin = Unadapted(
        base_model=BASE_MODEL,
        pointer_head=None,
        config=template.parents.config,
        prompt_template=TEMPLATE,
        policy=world.policy.digest,
        fingerprint=template.parents.fingerprint,
        subject=AT["subject"],
        requested_at=AT["time"],
        cost=Cost(flops="1", generated_tokens=2, seconds={}),
    )
    state = state_digest(BASE_MODEL, None)
    return ResponseServed(
        response_id=AT["response_id"], change_id=None, state=state, served="unadapted", unadapted=origin
    )


def _let_in(world: LedgerWorld, folder: Path, crowd: int) -> None:
    """Register an admin and who else is to have a token, which is written down: `crowd` readers, the auditor first,
    and a tenth as many operators."""
    admin = Actor(principal="carl", role="admin")
    register(world.ledger, "carl", admin, roles=["admin"], scopes=[])
    names = [("dora", "auditor"), *((f"reader-{n}", "auditor") for n in range(1, crowd))]
    names += [(f"writer-{n}", "operator") for n in range(crowd // 10)]
    tokens = {}
    for name, role in names:
        register(world.ledger, name, admin, roles=[role], scopes=[])
        tokens[name] = issue(world.ledger, name, admin).token
    for file, text in (("token", tokens["dora"]), ("tokens.json", json.dumps(tokens))):
        (folder / file).touch(mode=0o600)
        (folder / file).write_text(text)


def options(about: str | None) -> argparse.ArgumentParser:
    """What every bench that asks a seeded ledger takes."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    return parser


@contextmanager
def asked_folder(asked: argparse.Namespace, crowd: int = 1) -> Iterator[Path]:
    """The folder that was given, or one that is seeded for the time."""
    with tempfile.TemporaryDirectory() as made:
        folder = asked.folder or Path(made) / "home"
        if asked.folder is None:
            seed_ledger(folder, asked.events, seed=1, engine=asked.engine, crowd=crowd)
        yield folder


def main() -> None:
    """Fill it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--crowd", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    print(f"{seed_ledger(asked.folder, asked.events, asked.seed, asked.engine, asked.crowd):,.0f} events/s")


if __name__ == "__main__":
    main()
