"""A behaviour diff on one screen: what stood in the way, what answers differently, what it practised on."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from mass_gov.cli.change_why import violated
from mass_gov.cli.output import BAD, FAINT, GOOD, UNSURE, facts, grid, number, one_line, panel, styled
from mass_gov.flows.behaviour import Behaviour
from mass_gov.ledger import ChangeView
from mass_gov.policy import Policy

_SHOWN = 12
"""Rows of a table; --json has them all."""


def print_diff(console: Console, change: ChangeView, behaviour: Behaviour, policy: Policy) -> None:
    """Print the document, and the digest that an approval names."""
    document = behaviour.document
    console.print(panel(f"change {change.change_id}: what it does", _head(change, document)))
    if (table := violated(change.body, policy)) is not None:
        console.print(panel("what stood in the way", table))
    console.print(panel("the task's answer", _answers(document["task"])))
    console.print(panel("regression cases that flip", _flipped(document["flipped"])))
    console.print(panel("what it practised on", _samples(document["samples"], document["forced"])))
    # On a line of its own, unwrapped and outside the panels: it is there to be copied.
    console.print(f"shown: {behaviour.digest}", soft_wrap=True)


def _head(change: ChangeView, document: dict[str, Any]) -> RenderableType:
    update, regression = document["update"], document["regression"]
    rows: dict[str, RenderableType] = {
        "asks for": f"scope {document['identity']['scope']}, by {document['identity']['requester']}",
        "stands": styled(change.status),
        "update": f"{update['steps']} step(s), largest relative norm {number(update['step_norm'])}, "
        f"{number(update['cumulative_norm'])} from the base" + (", projected" if update["projected"] else ""),
    }
    if regression is not None:
        previous, base = regression["against_previous"], regression["against_base"]
        rows["regression"] = (
            f"{regression['n']} cases: {previous['lost']} lost and {previous['gained']} gained against the state "
            f"before, {base['lost']} and {base['gained']} against the base; {regression['critical_lost']} of "
            f"{regression['critical_n']} critical ones lost"
        )
    if document["measures"]:
        rows["measures"] = ", ".join(f"{one['name']} {number(one['value'])}" for one in document["measures"])
    return facts(rows)


def _answers(task: dict[str, Any]) -> RenderableType:
    rows: dict[str, RenderableType] = {"task": one_line(task["question"], 240)}
    for name, said in (("base", "the frozen base"), ("before", "before"), ("after", "after")):
        answer = task[name]
        rows[said] = Text("none", style=FAINT) if answer is None else _answer(answer)
    return facts(rows)


def _answer(answer: dict[str, Any]) -> Text:
    found = Text("unparseable", style=BAD) if answer["answer"] is None else Text(one_line(answer["answer"]), "bold")
    return Text.assemble(found, (f"  {one_line(answer['text'], 120)}", FAINT))


def _flipped(cases: list[dict[str, Any]]) -> RenderableType:
    if not cases:
        return Text("none: every case is right or wrong under all three states alike", style=FAINT)
    table = grid("case", "question", "base", "before", "after", "now")
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    lost_first = sorted(cases, key=lambda case: (case["after"], not case["critical"]))
    for case in lost_first[:_SHOWN]:
        table.add_row(
            one_line(case["case_id"]) + (" (critical)" if case["critical"] else ""),
            one_line(case["question"] or "-", 80),
            *(_case_answer(case, state) for state in ("base", "before", "after")),
            styled("right" if case["after"] else "wrong"),
        )
    return Group(table, *_more(len(cases)))


def _case_answer(case: dict[str, Any], state: str) -> Text:
    return Text(one_line(case[f"{state}_answer"] or "-", 16), style=GOOD if case[state] else BAD)


def _samples(samples: list[dict[str, Any]], forced: bool) -> RenderableType:
    table = grid("#", "practice problem", "answer", "weight", "dropped by")
    table.columns[1].overflow = table.columns[4].overflow = "fold"
    for sample in samples[:_SHOWN]:
        dropped = ", ".join(f"{one['gate']}: {one['detail']}" for one in sample["dropped_by"])
        table.add_row(
            str(sample["index"]),
            one_line(sample["question"] or sample["text"], 90),
            one_line(sample["answer"] or "-", 20),
            number(sample["weight"]),
            Text(one_line(dropped, 80), style=UNSURE),
        )
    marks = [Text("supplied by the caller, not generated", style=UNSURE)] if forced else []
    return Group(*marks, table, *_more(len(samples)))


def _more(count: int) -> list[RenderableType]:
    return [Text(f"and {count - _SHOWN} more: --json has them all", style=FAINT)] if count > _SHOWN else []
