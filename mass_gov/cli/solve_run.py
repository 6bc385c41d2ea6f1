"""Runs `solve`: one problem, or a file of them, each one durable change. Loads torch, but only after the input is good.

Rules: the whole input is checked before a model is opened and before anything is written. A gold answer grades after
the change is recorded and never enters it. The first Ctrl-C (or SIGTERM) lets the current task finish, a second one
abandons it; an append is one transaction, so neither leaves half a change.
"""

from __future__ import annotations

import hashlib
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from uuid6 import uuid7

from mass_gov.cli import exits
from mass_gov.cli.forced import read_forced
from mass_gov.cli.grading import Grader
from mass_gov.cli.notifications import tell_in_passing
from mass_gov.cli.output import emit, err, out, say, visible
from mass_gov.cli.solve_view import Tally, answer_panel, result, unadapted_panel, unadapted_result
from mass_gov.config import Settings
from mass_gov.errors import InputError, MassGovError, TaskError
from mass_gov.records.change import Scope
from mass_gov.records.settings import AdaptationSpec
from mass_gov.tasks.readers import BenchmarkTask, read_tasks_jsonl
from mass_gov.tasks.text import MAX_TASK_CHARS, clean_task_text
from mass_gov.wiring import has_ledger, open_workbench

if TYPE_CHECKING:
    from mass_gov.flows.adapt_many import Reply
    from mass_gov.flows.exchange import Answered, Request
    from mass_gov.flows.respond import Responded
    from mass_gov.flows.workbench import Workbench


@dataclass(frozen=True)
class Asked:
    """What the options say."""

    settings: Settings
    spec: AdaptationSpec
    scope: Scope
    seed: int | None
    forced: Path | None
    as_json: bool
    subject: str | None = None


def solve_one(asked: Asked, text: str, task_id: str | None, gold: str | None) -> None:
    """Solve one problem and print the answer."""
    task = _task(text, task_id, gold)
    with _session(asked, task.question) as session, Grader() as grader, err().status("practising…"):
        document = session.solve(task, asked.seed, grader)
    if asked.as_json:
        emit(document)
    else:
        out().print(unadapted_panel(document) if document["change_id"] is None else answer_panel(document))


def answer_unadapted(asked: Asked, text: str, task_id: str | None, gold: str | None) -> None:
    """Answer one problem from the pointer's state with no update, recorded all the same, and print the answer."""
    from mass_gov.flows.exchange import Request
    from mass_gov.flows.respond import respond

    task = _task(text, task_id, gold)
    with _session(asked, task.question) as session, Grader() as grader, err().status("answering…"):
        responded = respond(Request(task.question, task.task_id, task.source, subject=asked.subject), session.bench)
        document = unadapted_result(task, responded, session.bench, grader)
    if asked.as_json:
        emit(document)
    else:
        out().print(unadapted_panel(document))


def solve_file(asked: Asked, path: Path, limit: int | None, batch: int) -> int:
    """Solve the tasks of a file in their order, `batch` of them computed at once; returns the exit status."""
    tasks = [_named(task) for task in islice(read_tasks_jsonl(path), limit)]
    with _session(asked) as session, Grader() as grader, _Stopper() as stopper:
        tally = Tally(len(tasks), asked.as_json)
        try:
            for task, reply in session.replies(tasks, batch):
                tally.add(session.explain(task, reply, grader))
                if stopper.asked:
                    break
        except KeyboardInterrupt:
            stopper.asked = True
        except MassGovError:
            say(f"stopped: {_progress(tally)}")
            raise
        finally:
            tally.close()
    if stopper.asked and tally.done < len(tasks):
        say(f"interrupted: {_progress(tally)}")
        return exits.INTERRUPTED
    return exits.BAD_INPUT if tally.failed else exits.DONE


def _progress(tally: Tally) -> str:
    return (
        f"{tally.done} of {tally.total} tasks are done and recorded. Run the same command again: it recalls those and "
        "goes on with the rest."
    )


def _task(text: str, task_id: str | None, gold: str | None) -> BenchmarkTask:
    question = clean_task_text(_stdin() if text == "-" else text)
    named = _clean_id(task_id) if task_id is not None else str(uuid7())
    if gold is not None and not clean_task_text(gold, limit=MAX_TASK_CHARS).strip():
        raise InputError("--gold is empty: give the right answer, or leave it out.")
    return BenchmarkTask(named, question, gold, "command line", 1)


@dataclass
class _Session:
    """An open workbench and what every task of this run shares."""

    bench: Workbench
    asked: Asked
    forced: list[Any] = field(default_factory=list)

    def solve(self, task: BenchmarkTask, seed: int | None, grader: Grader) -> dict[str, Any]:
        """Adapt to one task and describe what came out; the gold is looked at only then.

        While learning is frozen the answer is un-adapted, and says so.
        """
        from mass_gov.flows.respond import adapt_or_respond

        return self._described(task, adapt_or_respond(self._request(task, seed), self.bench), grader)

    def replies(self, tasks: Sequence[BenchmarkTask], batch: int) -> Iterator[tuple[BenchmarkTask, Reply]]:
        """Adapt to every task of a file, in order; each is recorded when it comes out."""
        from mass_gov.flows.adapt_many import adapt_many

        requests = [self._request(task, _seed_of(self.asked.seed, task)) for task in tasks]
        replies = adapt_many(requests, self.bench, size=batch)
        yield from ((task, reply) for task, (_, reply) in zip(tasks, replies, strict=True))

    def explain(self, task: BenchmarkTask, reply: Reply, grader: Grader) -> dict[str, Any]:
        """A task that cannot be answered must not lose the others: it becomes an error of its own."""
        if not isinstance(reply, MassGovError):
            return self._described(task, reply, grader)
        return {
            "task": {"id": task.task_id, "question": task.question, "domain": task.domain},
            "error": exits.error_document(type(reply).__name__, str(reply), exits.status_of(reply)),
        }

    def _request(self, task: BenchmarkTask, seed: int | None) -> Request:
        from mass_gov.flows.exchange import Request

        asked = self.asked
        forced = tuple(self.forced)
        return Request(task.question, task.task_id, task.source, asked.scope, seed, forced, subject=asked.subject)

    def _described(self, task: BenchmarkTask, reply: Answered | Responded, grader: Grader) -> dict[str, Any]:
        from mass_gov.flows.exchange import Answered

        describe: Any = result if isinstance(reply, Answered) else unadapted_result
        described: dict[str, Any] = describe(task, reply, self.bench, grader)
        return described


@contextmanager
def _session(asked: Asked, question: str | None = None) -> Iterator[_Session]:
    """Open everything, say what a first use means, and close the ledger at the end."""
    forced = read_forced(asked.forced) if asked.forced is not None else []
    first = not has_ledger(asked.settings)
    with err().status("opening the model…"):
        bench = open_workbench(asked.settings, asked.spec, question=question)
    with bench.ledger:
        if first:
            _say_first_use(bench, asked.settings)
        if forced:
            from mass_gov.stages.synthesis import ForcedSample

            yield _Session(bench, asked, [ForcedSample(question, solution) for question, solution in forced])
        else:
            yield _Session(bench, asked)
    tell_in_passing(asked.settings)


def _say_first_use(bench: Workbench, settings: Settings) -> None:
    own = (
        "you may approve your own changes, and each time is marked" if _self_approval(bench) else "it takes two people"
    )
    say(f"note: a new ledger in {visible(str(settings.home))}; policy {bench.policy.label} is in force: {own}.")


def _self_approval(bench: Workbench) -> bool:
    return bench.policy.document.approvals.self_approval


def _seed_of(seed: int | None, task: BenchmarkTask) -> int | None:
    """A seed of its own per line of the file; the seed stands in the leaf, so it must not depend on the task's text."""
    if seed is None:
        return None
    return int.from_bytes(hashlib.sha256(f"{seed}/{task.line}".encode()).digest()[:8]) >> 1


def _named(task: BenchmarkTask) -> BenchmarkTask:
    """Without an id, a task is called after its question, so that lines may move without being solved anew."""
    if task.task_id != f"{task.source}:{task.line}":
        return task
    digest = hashlib.sha256(task.question.encode()).hexdigest()
    return BenchmarkTask(f"q-{digest[:32]}", task.question, task.gold, task.source, task.line, task.domain)


def _clean_id(task_id: str) -> str:
    try:
        return clean_task_text(task_id, limit=500)
    except TaskError as error:
        raise InputError(f"--id cannot be used: {error}") from None


def _stdin() -> str:
    try:
        return sys.stdin.buffer.read(4 * MAX_TASK_CHARS + 2).decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise TaskError(f"stdin is not UTF-8 at byte {error.start}. Write the task as UTF-8.") from None


class _Stopper:
    """Turns the first SIGINT or SIGTERM into a wish to stop after this task, and the second into an interrupt."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Stopper:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *exception: object) -> None:
        # Once asked to stop, this process only closes the ledger and ends: a further signal must not cut that short.
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self.asked else handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        say("stopping after this task; once more abandons it.")
