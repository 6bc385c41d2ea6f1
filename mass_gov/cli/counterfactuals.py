"""`mass-gov replay CHANGE --drop-sample …`: what would have come out otherwise. Never a replay, and never recorded."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from mass_gov.cli import exits
from mass_gov.cli.options import identifier, settings
from mass_gov.cli.output import emit, err, facts, grid, one_line, out, panel, styled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mass_gov.flows.counterfactual import Counterfactual, Course, SampleEffect

NOT_A_REPLAY = "This is not a replay: one thing was changed. Nothing is written to the log."
NO_CONTROL = "With nothing changed this machine does not give what was recorded, so a difference says nothing."


def would_have_been(
    target: str,
    *,
    dropped: Sequence[int],
    without_scorer: bool,
    policy: str | None,
    seed: int | None,
    model: Path | None,
    as_json: bool,
) -> int:
    """Compute a change with one thing changed and print both; returns the exit status."""
    from mass_gov.flows.counterfactual import Otherwise, counterfactual
    from mass_gov.records.settings import AdaptationSpec
    from mass_gov.wiring import find_policy, open_workbench, read_ledger

    chosen = settings(model=model)
    otherwise = Otherwise(tuple(dropped), without_scorer, find_policy(policy) if policy else None, seed)
    with ExitStack() as stack:
        ledger = stack.enter_context(read_ledger(chosen))
        change = ledger.change(identifier(target, "change"))
        with err().status(f"computing {change.change_id} with and without the change…"):
            found = counterfactual(change, otherwise, open_workbench(chosen, AdaptationSpec(), existing=ledger))
    emit(document(found)) if as_json else _print(found)
    return exits.DONE if found.reproduced else exits.NO


def attribution(target: str, *, model: Path | None, as_json: bool) -> int:
    """Print what every sample did to the recorded answer; returns the exit status."""
    from mass_gov.flows.counterfactual import attribute
    from mass_gov.records.settings import AdaptationSpec
    from mass_gov.wiring import open_workbench, read_ledger

    chosen = settings(model=model)
    with ExitStack() as stack:
        ledger = stack.enter_context(read_ledger(chosen))
        change = ledger.change(identifier(target, "change"))
        with err().status(f"leaving out every sample of {change.change_id} in turn…"):
            found = attribute(change, open_workbench(chosen, AdaptationSpec(), existing=ledger))
    if as_json:
        effects = [_effect(one) for one in found.effects]
        emit({"change_id": change.change_id, "replay": False, "reproduced": found.reproduced, "effects": effects})
    else:
        _print_effects(found.effects)
        if not found.reproduced:
            err().print("These steps do not give the recorded weights here: the figures are of others. Replay it.")
    return exits.DONE if found.reproduced else exits.NO


def document(found: Counterfactual) -> dict[str, Any]:
    """One counterfactual as JSON."""
    return {
        "change_id": found.change_id,
        "replay": False,
        "from": found.start,
        "control_reproduced": found.reproduced,
        "decision_differs": found.decision_differs,
        "served_differs": found.served_differs,
        "answer_differs": found.answer_differs,
        "recorded": _course(found.recorded),
        "otherwise": _course(found.otherwise),
    }


def _course(course: Course) -> dict[str, Any]:
    return {
        "decision": course.decision.document(),
        "served_from": course.served_from,
        "served": course.served,
        "answer": course.answer,
        "kept": course.kept,
        "step_norm": course.step_norm,
        "regression": course.regression.document() if course.regression else None,
    }


def _effect(one: SampleEffect) -> dict[str, Any]:
    return {
        "sample": one.index,
        "question": one.question,
        "weight": one.weight,
        "score": one.score,
        "leave_one_out": one.leave_one_out,
        "attribution": one.attribution,
        "answer_without": one.answer,
        "answer_differs": one.answer_differs,
    }


def _print(found: Counterfactual) -> None:
    console = out()
    console.print(panel(f"{found.change_id}: what would have been", NOT_A_REPLAY))
    table = grid("", "recorded", "otherwise")
    for name, was, would_be in zip(_ROWS, _row(found.recorded), _row(found.otherwise), strict=True):
        table.add_row(name, was, would_be)
    console.print(table)
    rows: dict[str, RenderableType] = {
        "the decision": _said(found.decision_differs),
        "what is served": _said(found.served_differs),
        "the new weights' answer": _said(found.answer_differs),
        "control": "reproduced" if found.reproduced else styled("differs"),
    }
    console.print(facts(rows))
    if not found.reproduced:
        console.print(NO_CONTROL)


_ROWS = ("verdict", "because of", "samples kept", "step norm", "cases lost, gained", "new weights answer", "served")


def _row(course: Course) -> tuple[RenderableType, ...]:
    regression = course.regression
    return (
        styled(course.decision.verdict),
        one_line(", ".join(course.decision.violated) or "-", 60),
        str(course.kept),
        "-" if course.step_norm is None else f"{course.step_norm:.4g}",
        "-" if regression is None else f"{regression.against_previous.lost}, {regression.against_previous.gained}",
        one_line(course.answer or "-", 60),
        one_line(f"{course.served_from}: {course.served or '-'}", 60),
    )


def _said(differs: bool) -> str:
    return "would have been another" if differs else "would have been the same"


def _print_effects(effects: Sequence[SampleEffect]) -> None:
    console = out()
    table = grid("sample", "asks", "weight", "leave-one-out", "attribution", "answer without it")
    for one in sorted(effects, key=lambda effect: effect.leave_one_out):
        answer = one_line(one.answer or "-", 30)
        table.add_row(
            str(one.index),
            one_line(one.question, 40),
            f"{one.weight:.4f}",
            f"{one.leave_one_out:+.4f}",
            f"{one.attribution:+.4f}" if one.attribution is not None else "-",
            f"{answer} (another)" if one.answer_differs else answer,
        )
    console.print(table)
    console.print(
        "Nats of the recorded answer's loss, per token; below zero: the sample made it likelier. Leave-one-out weighs "
        "the rest anew; attribution is the gradient by the sample's score. Nothing is written to the log.",
        soft_wrap=True,
    )
