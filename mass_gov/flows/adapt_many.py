"""Several requests as a batch: what needs only the model is computed for all of them at once, then each gets its turn.

The procedure:

  (1) leave out what cannot or need not be computed: a task that is known or stands here twice, one that cannot be posed
      to this model, one with samples of its own
  (2) write the practice of all the others at once; score, judge and learn one by one, as a change alone does; ask the
      regression suite of all new states at once, and all the answers
  (3) in the order of the requests, take each one through `adapt` as if it came alone: authority, freeze, budget,
      windows, decision, one append, the answer

Rules: every request is a change of its own, with its own decision, events and answer, and replaying it alone gives what
is written about it, to the bit: the batch's widths go into the record, so that replay computes it by itself. Whatever
was not computed beforehand, or starts from where the pointer stands no longer, is computed by itself at its turn. One
that cannot be answered is reported and stops no other. Nothing is written before its turn: a process that dies in
between leaves the changes that had theirs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mass_gov.errors import FrozenError, StaleChangeError, TaskError
from mass_gov.flows.adapt import mixed, practise, refuse_frozen, regress, seed_of
from mass_gov.flows.answering import Asked, answers_together
from mass_gov.flows.authority import authorise
from mass_gov.flows.exchange import Ahead, Answered, Practised, Request, Worked
from mass_gov.flows.handles import task_commitment
from mass_gov.flows.respond import Responded, adapt_or_respond
from mass_gov.flows.timing import Timed
from mass_gov.flows.workbench import Origin, Workbench, current_origin, under_policy_in_force
from mass_gov.mass.metering import Meter
from mass_gov.records.artifacts import BatchContent, SamplesContent
from mass_gov.records.base import timestamp
from mass_gov.records.change import SCOPES
from mass_gov.stages.synthesis import synthesise_together

SIZE = 32
"""Requests that are computed at once, unless told otherwise."""

Reply = Answered | Responded | TaskError | StaleChangeError


def adapt_many(requests: Sequence[Request], bench: Workbench, *, size: int = SIZE) -> Iterator[tuple[Request, Reply]]:
    """Adapt to every request, in order, `size` of them computed at once; each is recorded when it is yielded.

    A request that cannot be answered yields why. While learning is frozen or paused, requests are answered un-adapted.

    Raises:
        PermissionRefusedError: whoever asks may not ask for this.
        OutageError: the ledger or a key is unavailable; what was yielded is recorded.
    """
    for start in range(0, len(requests), size):
        part = requests[start : start + size]
        ready = compute_ahead(part, bench) if size > 1 else {}
        for place, request in enumerate(part):
            yield request, _in_turn(request, bench, ready.pop(place, None))


def _in_turn(request: Request, bench: Workbench, ahead: Ahead | None) -> Reply:
    try:
        return adapt_or_respond(request, bench, ahead)
    except (TaskError, StaleChangeError) as error:
        return error


@dataclass(frozen=True)
class _Task:
    """One request on its way."""

    turn: int
    """Which of the requests it is."""
    request: Request
    seed: int
    timed: Timed
    batch: BatchContent


Learning = list[tuple[_Task, Practised]]


def compute_ahead(requests: Sequence[Request], bench: Workbench) -> dict[int, Ahead]:
    """Compute what can be computed before anybody's turn, by place; nothing is written.

    Nothing comes back while learning is frozen, for fewer than two requests, or on a machine where a batch does not
    keep the bits of a change alone.

    Raises:
        PermissionRefusedError: whoever asks may not ask for this.
    """
    bench = under_policy_in_force(bench)
    for scope in (scope for scope in SCOPES if any(request.scope == scope for request in requests)):
        place = (bench.tenant, bench.deployment)
        authorise(bench.ledger, bench.actor, "solve", place, scope=scope, policy=bench.policy)
    requested_at = timestamp(bench.clock())
    try:
        refuse_frozen(bench)
    except FrozenError:
        return {}
    tasks = _tasks(requests, bench)
    if len(tasks) < 2 or not bench.learner.keeps_bits_together:
        return {}
    origin = current_origin(bench)
    written = zip(tasks, _write(tasks, origin, bench), strict=True)
    tried = [(task, _practise(task, samples, origin, bench)) for task, samples in written]
    learning = [(task, practised) for task, practised in tried if practised is not None]
    _ask_suites(learning, bench)
    worked = _conclude(learning, origin, bench)
    return {
        task.turn: Ahead(done, task.seed, requested_at, task.timed, origin, bench.policy.digest)
        for (task, _), done in zip(learning, worked, strict=True)
    }


def _tasks(requests: Sequence[Request], bench: Workbench) -> list[_Task]:
    """What can be computed together, each with its place in the batch and the batch's widths."""
    found: dict[str, tuple[int, Request, int, tuple[int, int]]] = {}
    for turn, request in enumerate(requests):
        try:
            if not request.forced and request.task_id not in found and not _known(request, bench):
                found[request.task_id] = (turn, request, seed_of(request), _widths(request, bench))
        except TaskError:
            continue  # said at its turn
    widest = [max(widths) for widths in zip(*(widths for *_, widths in found.values()), strict=True)] or [0, 0]
    batch = BatchContent(size=len(found), place=0, practise_width=widest[0], solve_width=widest[1])
    return [
        _Task(turn, request, seed, Timed(bench.learner), batch.model_copy(update={"place": place}))
        for place, (turn, request, seed, _) in enumerate(found.values())
    ]


def _known(request: Request, bench: Workbench) -> bool:
    commitment = task_commitment(bench.keys, request.task_id)
    return bench.ledger.change_by_request(bench.tenant, bench.deployment, commitment) is not None


def _widths(request: Request, bench: Workbench) -> tuple[int, int]:
    spec = bench.spec
    return bench.learner.widths(
        request.question, practise=spec.sampling.max_new_tokens, solve=spec.answer.max_new_tokens
    )


def _write(tasks: Sequence[_Task], origin: Origin, bench: Workbench) -> list[SamplesContent]:
    started = time.perf_counter()
    found = synthesise_together(
        bench.learner,
        [task.request.question for task in tasks],
        origin.adapter,
        [task.seed for task in tasks],
        bench.spec.sampling,
        [task.batch for task in tasks],
    )
    _share(tasks, "synthesis", started, [cost for _, cost in found])
    return [samples for samples, _ in found]


def _practise(task: _Task, samples: SamplesContent, origin: Origin, bench: Workbench) -> Practised | None:
    """Judge and learn, alone. What cannot be read back is left to the task's turn, which says why."""
    request = task.request
    try:
        with task.timed:
            samples = mixed(samples, request.question, request.scope, task.seed, bench)
            return practise(samples, request.question, request.scope, task.seed, origin, bench, task.timed)
    except TaskError:
        return None


def _ask_suites(learning: Learning, bench: Workbench) -> None:
    """Ask the suites of all new states at once; `regress` then finds the answers known."""
    for scope in SCOPES:
        asked = {
            practised.learned.summary.state: (task, practised.learned.adapter)
            for task, practised in learning
            if task.request.scope == scope and practised.learned.files is not None
        }
        started = time.perf_counter()
        adapters = {state: adapter for state, (_, adapter) in asked.items()}
        costs = bench.runner_for(scope).ask_together(adapters) if adapters else {}
        _share([asked[state][0] for state in costs], "regression", started, list(costs.values()))


def _conclude(learning: Learning, origin: Origin, bench: Workbench) -> list[Worked]:
    if not learning:
        return []
    tasks, regressions = [task for task, _ in learning], []
    for task, practised in learning:
        with task.timed, task.timed.stage("regression"):
            regressions.append(regress(task.request.scope, origin, practised.learned, bench))
    started = time.perf_counter()
    asked = [Asked(task.request.question, practised.learned) for task, practised in learning]
    found = answers_together(asked, origin, bench, tasks[0].batch.solve_width)
    _share(tasks, "answer", started, [cost for _, cost in found])
    return [
        Worked(practised, regression, answer)
        for (_, practised), regression, (answer, _) in zip(learning, regressions, found, strict=True)
    ]


def _share(tasks: Sequence[_Task], stage: str, started: float, costs: Sequence[Meter]) -> None:
    """Each change took its part of the time, and costs what it costs alone."""
    seconds = (time.perf_counter() - started) / max(1, len(tasks))
    for task, cost in zip(tasks, costs, strict=True):
        task.timed.took(stage, seconds, cost)
