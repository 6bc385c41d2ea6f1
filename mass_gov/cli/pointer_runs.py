"""Runs a model for pointers and changes: a test after activation, a move to another base, a change made again, blame.

Loads torch, but only once the command line is good.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mass_gov.cli import exits
from mass_gov.cli.output import emit, err, grid, number, one_line, out, say, styled
from mass_gov.config import Settings
from mass_gov.records.change import GateResult
from mass_gov.wiring import (
    acting,
    open_deployment_runner,
    open_model,
    open_workbench,
    read_ledger,
    recommended_spec,
)

if TYPE_CHECKING:
    from mass_gov.flows.blame import Blamed
    from mass_gov.flows.workbench import Workbench
    from mass_gov.ledger import ChangeView


def run_test(settings: Settings, freeze: bool, as_json: bool) -> int:
    """Test what a pointer stands on; returns the exit status."""
    from mass_gov.cli.rollback_view import print_rolled_back
    from mass_gov.documents.pointers import rolled_back_document
    from mass_gov.flows.recheck import recheck

    with _bench(settings) as bench, err().status("testing…"):
        done = recheck(bench, open_deployment_runner(bench), bench.actor, freeze=freeze)
        state = bench.ledger.pointer(bench.tenant, bench.deployment).state
    if as_json:
        emit(
            {
                "tested": done.change.change_id if done.change is not None else None,
                "index": done.index,
                "passed": done.passed,
                "gates": [gate.document() for gate in done.gates],
                "frozen": done.frozen,
                "undone": rolled_back_document(done.undone, state) if done.undone is not None else None,
            }
        )
        return exits.DONE if done.passed else exits.NO
    if done.change is None:
        say(f"{bench.tenant}/{bench.deployment} stands on its base model: there is nothing to test against it.")
        return exits.DONE
    _print_gates(done.gates)
    if done.undone is None:
        out().print(f"{done.change.change_id} passed (event {done.index}).", soft_wrap=True)
        return exits.DONE
    out().print("The test failed, and the newest change is undone." + (" Learning is frozen." if done.frozen else ""))
    print_rolled_back(done.undone, f"{bench.tenant}/{bench.deployment}", state)
    return exits.NO


def run_base_move(settings: Settings, model: Path, reason: str, as_json: bool) -> None:
    """Move a pointer to another base model."""
    from mass_gov.flows.base_move import move_base

    new = open_model(settings.model_copy(update={"model": model}))
    with _bench(settings) as bench, err().status("testing the new model…"):
        moved = move_base(bench, open_deployment_runner(bench), new, bench.actor, reason)
    if as_json:
        emit(
            {
                "index": moved.index,
                "from_model": moved.from_model,
                "to_model": moved.to_model,
                "state_digest": moved.pointer.state,
                "gates": [gate.document() for gate in moved.gates],
                "retired": [change.change_id for change in moved.retired],
            }
        )
        return
    _print_gates(moved.gates)
    out().print(f"{bench.tenant}/{bench.deployment} stands on the base model {moved.to_model}.", soft_wrap=True)
    for change in moved.retired:
        out().print(f"{change.change_id} is retired: nothing of it carries over.", soft_wrap=True)
    say(f"note: set MASS_GOV_MODEL={model} from now on; the old model is refused for this deployment.")


def run_rebase(settings: Settings, change_id: str, reason: str, as_json: bool) -> None:
    """Make a stale change again."""
    from mass_gov.flows.rebase import rebase

    with _bench(settings) as bench, err().status("practising…"):
        done = rebase(bench.ledger.change(change_id).change_id, bench, bench.actor, reason)
    decision = done.new.body.decision
    if as_json:
        emit(
            {
                "change_id": done.new.change_id,
                "rebased_from": done.old.change_id,
                "status": done.new.status,
                "decision": {
                    "verdict": decision.verdict,
                    "reason": decision.reason,
                    "violated": list(decision.violated),
                },
                "state_digest": done.new.body.update.state,
            }
        )
        return
    out().print(
        f"{done.new.change_id} takes the place of {done.old.change_id} and is {done.new.status.replace('_', ' ')} "
        f"({decision.reason.replace('_', ' ')}).",
        soft_wrap=True,
    )


def run_blame(
    settings: Settings, case: str | None, question: tuple[str, str] | None, every: bool, as_json: bool
) -> int:
    """Find the change that broke a case; returns the exit status."""
    from mass_gov.cli.grading import Grader
    from mass_gov.flows.blame import blame, case_of, question_probe

    with read_ledger(settings) as ledger, Grader() as grader:
        with err().status("opening the model…"):
            bench = open_workbench(settings, recommended_spec(settings), existing=ledger)
            runner = open_deployment_runner(bench, register=False)
        if question is not None:
            text, gold = question
            probe = question_probe(text, gold, lambda answer: grader.outcome(gold, answer) == "right")
        else:
            probe = case_of(runner.suite, case or "", bench.spec.answer.batch_size)
        with err().status("bisecting…"):
            found = blame(bench, probe, every=every)
    if as_json:
        emit({"case": probe.name, "gold": probe.gold} | _blamed(found))
    else:
        _print_blamed(found, probe.name)
    return exits.DONE if found.change is not None else exits.NO


@contextmanager
def _bench(settings: Settings) -> Iterator[Workbench]:
    """A bench on a ledger that is there, with an operator at it."""
    read_ledger(settings).close()  # which says so where there is none: nothing is made here
    with err().status("opening the model…"):
        bench = open_workbench(settings, recommended_spec(settings))
    with bench.ledger:
        yield replace(bench, actor=acting(settings, bench.ledger, "rebase").actor)


def _print_gates(gates: tuple[GateResult, ...]) -> None:
    table = grid("gate", "value", "limit", "n", "verdict")
    for gate in gates:
        limit = f"{gate.comparison} {number(gate.limit)}"
        table.add_row(gate.name, number(gate.value), limit, str(gate.n), styled(gate.verdict))
    out().print(table)


def _blamed(found: Blamed) -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        "change_id": found.change.change_id if found.change is not None else None,
        "activation_index": found.change.activation_index if found.change is not None else None,
        "decision": found.change.body.decision.document() if found.change is not None else None,
        "approved_by": [given.approver for given in found.change.approvals] if found.change is not None else [],
        "others": [change.change_id for change in found.others],
        "states": found.states,
        "looked": [
            {
                "position": one.position,
                "state_digest": one.state,
                "change_id": one.change_id,
                "answer": one.answer,
                "right": one.right,
            }
            for one in found.looked
        ],
    }


_SAID = {
    "broken": "It was right before this change and wrong after it.",
    "right now": "The present state has it right: there is nothing to blame.",
    "never right": "No state ever had it right.",
    "wrong on the base": (
        "The base has it wrong already, and so has the present state. What is between was not looked at: --every does."
    ),
    "no history": "The pointer stands on its base model: there is no change to blame.",
}


def _print_blamed(found: Blamed, case: str) -> None:
    table = grid("state", "by change", "answer", "")
    for one in found.looked:
        answer = "unparseable" if one.answer is None else one_line(one.answer, 40)
        table.add_row(
            one.state[:8], one.change_id or "the base model", answer, styled("right" if one.right else "wrong")
        )
    out().print(table)
    if found.change is not None:
        _print_culprit(found.change)
    out().print(f"{one_line(case, 60)}: {_SAID[found.verdict]}", soft_wrap=True)
    for change in found.others:
        out().print(f"{change.change_id} broke it too, and a later change mended it.", soft_wrap=True)
    if found.verdict == "broken" and len(found.looked) < found.states:
        say(
            f"note: {len(found.looked)} of {found.states} states were looked at; another change may have broken it too."
        )


def _print_culprit(change: ChangeView) -> None:
    decision = change.body.decision
    who = ", ".join(given.approver for given in change.approvals) or f"nobody: {decision.reason.replace('_', ' ')}"
    out().print(f"{change.change_id}, activated by event {change.activation_index}", soft_wrap=True)
    out().print(f"decision {decision.verdict} ({decision.reason.replace('_', ' ')}); approved by {who}", soft_wrap=True)
