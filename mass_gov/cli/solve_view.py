"""What `solve` reports: the JSON object of one task, a panel for a person, a table for a file of tasks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from mass_gov.cli.grading import Grader, correct
from mass_gov.cli.output import FAINT, WIDE, emit, err, facts, grid, one_line, out, panel, say, styled, visible
from mass_gov.documents.pointers import freeze_document
from mass_gov.policy.decision import EXPLANATIONS
from mass_gov.records.artifacts import AnswerText
from mass_gov.tasks.readers import BenchmarkTask
from mass_gov.tasks.registry import recognise

if TYPE_CHECKING:
    from mass_gov.flows.exchange import Answered
    from mass_gov.flows.respond import Responded
    from mass_gov.flows.workbench import Workbench


def result(task: BenchmarkTask, answered: Answered, bench: Workbench, grader: Grader) -> dict[str, Any]:
    """The JSON object of one solved task (docs/reference/cli.md lists the fields)."""
    body, answer = answered.change.body, answered.answer
    texts: dict[str, AnswerText | None] = {"adapted": answer.adapted, "parent": answer.parent, "base": answer.base}
    served = texts.get(answered.served_from)
    head = bench.ledger.latest_checkpoint()
    outcome = grader.outcome(task.gold, served.answer if served else None)
    return {
        "change_id": answered.change.change_id,
        "task": {"id": task.task_id, "question": task.question, "domain": task.domain or recognise(task.question)},
        "answer": served.answer if served else None,
        "text": answered.served,
        "served": answered.served_from,
        "base_answer": answer.base.answer,
        "adapted_answer": answer.adapted.answer if answer.adapted else None,
        "gold": task.gold,
        "correct": correct(outcome),
        "outcome": outcome,
        "base_correct": correct(grader.outcome(task.gold, answer.base.answer)),
        "decision": {
            "verdict": body.decision.verdict,
            "reason": body.decision.reason,
            "violated": list(body.decision.violated),
        },
        "status": answered.change.status,
        "gates": [gate.document() for gate in body.gates],
        "samples": {
            "generated": body.synthesis.generated,
            "kept": body.synthesis.kept,
            "forced": body.synthesis.forced,
        },
        "state_digest": body.update.state,
        "delta_digest": body.update.delta,
        "config_digest": body.parents.config,
        "log": {"index": answered.change.index, "size": head.size, "root": head.root},
        "cost": {
            "flops": body.cost.flops,
            "generated_tokens": body.cost.generated_tokens,
            "seconds": body.cost.seconds,
        },
        "repeated": answered.repeated,
        "seed": body.parents.seed,
        "policy": {"name": bench.policy.label, "digest": body.parents.policy},
    }


def unadapted_result(task: BenchmarkTask, responded: Responded, bench: Workbench, grader: Grader) -> dict[str, Any]:
    """The JSON object of one problem that was answered without adapting: there is a response, and no change."""
    origin, answer, head = responded.origin, responded.answer, bench.ledger.latest_checkpoint()
    frozen = bench.ledger.frozen(bench.tenant, bench.deployment)
    outcome = grader.outcome(task.gold, answer.answer)
    return {
        "change_id": None,
        "response_id": responded.response.response_id,
        "task": {"id": task.task_id, "question": task.question, "domain": task.domain or recognise(task.question)},
        "answer": answer.answer,
        "text": answer.text,
        "served": "unadapted",
        "frozen": freeze_document(frozen),
        "note": responded.note,
        "gold": task.gold,
        "correct": correct(outcome),
        "outcome": outcome,
        "state_digest": answer.state,
        "config_digest": origin.config,
        "log": {"index": responded.response.index, "size": head.size, "root": head.root},
        "cost": origin.cost.document(),
        "policy": {"name": bench.policy.label, "digest": origin.policy},
    }


def unadapted_panel(document: dict[str, Any]) -> RenderableType:
    """The same for a person."""
    rows: dict[str, RenderableType] = {
        "answer": Text(_shown(document["answer"]), style="bold"),
        "served": "the pointer's state, with no update",
        "response": document["response_id"],
        "log": f"event {document['log']['index']} of {document['log']['size']}",
        "next": Text(f"mass-gov replay {document['response_id']}", style=FAINT),
    }
    if document["note"] is not None:
        rows["note"] = Text(document["note"])
    elif document["frozen"] is not None:
        rows["note"] = f"learning is frozen since event {document['frozen']['index']}: nothing was learned"
    if document["outcome"] is not None:
        rows["graded"] = Text.assemble(styled(document["outcome"]), f" (gold {one_line(document['gold'], 60)})")
    return panel(one_line(document["task"]["question"], 60), facts(rows))


def answer_panel(document: dict[str, Any]) -> RenderableType:
    """One answer for a person: what it is, where it comes from, what was decided, what to do next."""
    decision, kept = document["decision"], document["samples"]
    reason = EXPLANATIONS.get(decision["reason"], decision["reason"])
    failed = f" ({', '.join(decision['violated'])})" if decision["violated"] else ""
    rows: dict[str, RenderableType] = {
        "answer": Text(_shown(document["answer"]), style="bold"),
        "base answer": _shown(document["base_answer"]),
        "served": _SERVED[document["served"]],
        "decision": Text.assemble(styled(decision["verdict"]), f": {reason}{failed}"),
        "practised": f"{kept['kept']} of {kept['generated']} samples kept" + (" (forced)" if kept["forced"] else ""),
        "change": document["change_id"],
        "log": f"event {document['log']['index']} of {document['log']['size']}",
    }
    if document["outcome"] is not None:
        rows["graded"] = Text.assemble(styled(document["outcome"]), f" (gold {one_line(document['gold'], 60)})")
    if document["repeated"]:
        rows["note"] = "this task was adapted before; this is its recorded change"
    rows["next"] = Text(_next(document), style=FAINT)
    return panel(one_line(document["task"]["question"], 60), facts(rows))


_SERVED = {
    "adapted": "the adapted answer",
    "base": "the answer of the frozen base model",
    "parent": "the answer of the state before",
    "none": "nothing, while the change waits",
}


def _shown(answer: str | None) -> str:
    return "unparseable" if answer is None else one_line(answer, 200)


def _next(document: dict[str, Any]) -> str:
    change = document["change_id"]
    if document["status"] == "held":
        return f"mass-gov changes diff {change}, then mass-gov changes approve or reject"
    return f"mass-gov changes show {change}"


class Tally:
    """Prints results as they come, keeps count, and ends with a table.

    With `as_json` every result is a line on stdout. Progress goes to stderr: a bar on a terminal, else a line a task.
    """

    def __init__(self, total: int, as_json: bool) -> None:
        self.total, self.as_json = total, as_json
        self.done = self.failed = 0
        self._rows: list[dict[str, Any]] = []
        self._bar = _bar(total) if sys.stderr.isatty() else None
        if self._bar is not None:
            self._bar.start()

    def add(self, document: dict[str, Any]) -> None:
        """Take the result, or the error, of one task."""
        self.done += 1
        self.failed += "error" in document
        self._rows.append(_row(document))
        if self.as_json:
            emit(document, line=True)
        if self._bar is not None:
            self._bar.console.print(_line(document))
            self._bar.advance(self._bar.task_ids[0])
        else:
            say(f"[{self.done}/{self.total}] {_line(document)}")

    def close(self) -> None:
        """Stop the progress, and without `as_json` print the table."""
        if self._bar is not None:
            self._bar.stop()
        if not self.as_json and self._rows:
            console = out()
            console.print(_table(self._rows, console.width))
            console.print(_sum(self._rows))


def _bar(total: int) -> Progress:
    bar = Progress(
        TextColumn("solving", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err(),
        transient=True,
    )
    bar.add_task("solving", total=total)
    return bar


def _row(document: dict[str, Any]) -> dict[str, Any]:
    """What the table keeps of a result: memory does not grow with gates and texts."""
    if "error" in document:
        return {"task": document["task"]["id"], "error": document["error"]["message"]}
    if document["change_id"] is None:  # learning is frozen
        plain = {"base_answer": document["answer"], "base_correct": document["correct"], "adapted_answer": None}
        same = {key: document[key] for key in ("served", "change_id", "correct")}
        return {"task": document["task"]["id"], "status": "unadapted", **plain, **same}
    kept = ("base_answer", "adapted_answer", "status", "served", "change_id", "correct", "base_correct")
    return {"task": document["task"]["id"], **{key: document[key] for key in kept}}


def _line(document: dict[str, Any]) -> str:
    if "error" in document:
        return f"{one_line(document['task']['id'], 60)}: error: {visible(document['error']['message'])}"
    graded = f" ({document['outcome']})" if document["outcome"] else ""
    task = one_line(document["task"]["id"], 60)
    if document["change_id"] is None:
        return f"{task}: {_shown(document['answer'])}{graded}, un-adapted"
    again = ", recalled" if document["repeated"] else ""
    return f"{task}: {_shown(document['answer'])}{graded}, {document['status'].replace('_', ' ')}{again}"


def _table(rows: list[dict[str, Any]], width: int) -> RenderableType:
    """The first 13 characters of a change id, where there is no room for all, are enough for `changes show`."""
    table = grid("task", "base answer", "adapted", "status", "change")
    digits, task = (36, 28) if width >= WIDE else (13, 24)
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        named = one_line(row["task"], task)
        if "error" in row:
            table.add_row(named, "-", "-", Text("error", style="red"), "-")
            continue
        table.add_row(
            named,
            _graded(row["base_answer"], row["base_correct"]),
            _graded(row["adapted_answer"], row["correct"] if row["served"] == "adapted" else None),
            styled(row["status"]),
            (row["change_id"] or "-")[:digits],
        )
    return table


def _graded(answer: str | None, right: bool | None) -> Text:
    style = "" if right is None else "green" if right else "red"
    mark = "" if right is None else " ✓" if right else " ✗"
    return Text(("-" if answer is None else one_line(answer, 12)) + mark, style=style)


def _sum(rows: list[dict[str, Any]]) -> str:
    solved = [row for row in rows if "error" not in row]
    statuses = sorted({row["status"] for row in solved})
    parts = [f"{sum(row['status'] == status for row in solved)} {status.replace('_', ' ')}" for status in statuses]
    graded = [row for row in solved if row["correct"] is not None]
    if graded:
        right, base = sum(row["correct"] for row in graded), sum(row["base_correct"] for row in graded)
        parts.append(f"right: {right} of {len(graded)} served, {base} by the base alone")
    if failed := len(rows) - len(solved):
        parts.append(f"{failed} could not be posed")
    return f"{len(rows)} tasks: " + "; ".join(parts) + "."
