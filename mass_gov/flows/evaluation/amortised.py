"""When does an update pay for itself? A stream of tasks about one operator: one promoted update, or thinking each time.

    base            no update
    slow-think      thinks on every task, learns nothing
    mass-gold       adapts for every task and forgets
    promoted        adapts once, on the first task's practice, and answers all that follow with it
    promoted-4m     the same with four times the samples

At length n the promoted update costs (update + n answers) / n per task. Break-even against a method that thinks each
time is the first n at which that is below the method's cost per task; whether it is as accurate stands beside it.

Rules: streams are a hard task and its siblings (another problem of the same operator, as the domain makes them), no
question twice; accuracy at n is over the first n tasks of all streams. Does not know reports or plots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mass_gov.errors import InputError
from mass_gov.flows.evaluation.engines import Engines
from mass_gov.mass.batched_lora import pick
from mass_gov.mass.rivals.answering import greedy
from mass_gov.mass.rivals.catalogue import BASE, GOLD, find
from mass_gov.mass.rivals.practice import adapted, write_practice
from mass_gov.mass.rivals.values import Answer, Engine, Setup, Surroundings
from mass_gov.tasks.registry import AnyDomain, domain
from mass_gov.tasks.task import Task

MORE = 4
_TRIES = 40


@dataclass(frozen=True)
class Curve:
    """accuracy[n-1] and flops[n-1]: of the first n tasks of every stream, per task."""

    accuracy: tuple[float, ...]
    flops: tuple[float, ...]


def streams_of(name: str, count: int, length: int, seed: int) -> list[list[Task]]:
    """`count` streams of `length` tasks that share an operator; operators with fewer tasks are passed over.

    Raises InputError for a domain without operators, or with too few that have so many tasks.
    """
    found: list[list[Task]] = []
    for place in range(_TRIES * count):
        stream = _stream(domain(name), domain(name).sample(seed * _TRIES * count + place, "hard"), length)
        if stream is not None:
            found.append(stream)
        if len(found) == count:
            return found
    raise InputError(f"{name} has too few operators with {length} different tasks. Ask for shorter streams.")


def _stream(source: AnyDomain, first: Task, length: int) -> list[Task] | None:
    tasks = {first.question: first}
    for i in range(_TRIES):
        other = source.sibling(first, i)
        if other is None:
            raise InputError(f"tasks of {source.name} share no operator. Name a practice domain.")
        tasks.setdefault(other.question, other)
        if len(tasks) == length:
            return list(tasks.values())
    return None


def amortised(
    streams: Sequence[Sequence[Task]], setup: Setup, seed: int, surroundings: Surroundings, engines: Engines
) -> dict[str, Curve]:
    """A curve per way of using the model."""
    questions = [task.question for stream in streams for task in stream]
    length = len(streams[0])

    def measured(weights: str, work: Callable[[Engine], Sequence[Answer]]) -> tuple[list[list[bool]], float]:
        engine = engines.open(weights)
        with engine.meter() as cost:
            answers = iter(work(engine))
        right = [[next(answers).key == task.answer for task in stream] for stream in streams]
        return right, cost.flops / len(questions)

    curves = {}
    for name in (BASE, "slow-think", GOLD):
        right, each = measured(find(name).weights, partial(_answers, name, questions, setup, seed, surroundings))
        curves[name] = Curve(_running(right), (each,) * length)
    firsts = [stream[0].question for stream in streams]
    for name, samples in (("promoted", setup.samples), (f"promoted-{MORE}m", MORE * setup.samples)):
        curves[name] = _promoted(streams, firsts, questions, replace(setup, samples=samples), seed, engines)
    return curves


def _answers(
    name: str, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings, engine: Engine
) -> Sequence[Answer]:
    return find(name).run(engine, questions, setup, seed, surroundings).answers


def _promoted(
    streams: Sequence[Sequence[Task]],
    firsts: Sequence[str],
    questions: Sequence[str],
    setup: Setup,
    seed: int,
    engines: Engines,
) -> Curve:
    engine, length = engines.open(GOLD), len(streams[0])
    with engine.meter() as once:
        adapters = adapted(engine, write_practice(engine, firsts, setup, seed, scored=True), setup)
    with engine.meter() as answering:
        rows = [place for place in range(len(streams)) for _ in range(length)]
        answers = iter(greedy(engine, questions, setup, pick(adapters, rows)))
    right = [[next(answers).key == task.answer for task in stream] for stream in streams]
    update, each = once.flops / len(streams), answering.flops / len(questions)
    return Curve(_running(right), tuple(update / n + each for n in range(1, length + 1)))


def break_even(curves: dict[str, Curve], promoted: str = "promoted") -> dict[str, dict[str, float | int | None]]:
    """method -> {"tasks": first n at which promoting costs less (None: not within the stream), both accuracies}."""
    own, found = curves[promoted], {}
    for name in ("slow-think", GOLD):
        cheaper = [n for n, (a, b) in enumerate(zip(own.flops, curves[name].flops, strict=True)) if a < b]
        at = cheaper[0] if cheaper else len(own.flops) - 1
        found[name] = {
            "tasks": at + 1 if cheaper else None,
            "accuracy_promoted": own.accuracy[-1],
            "accuracy_other": curves[name].accuracy[-1],
        }
    return found


def _running(right: Sequence[Sequence[bool]]) -> tuple[float, ...]:
    """Share right over the first n tasks of all streams, for n = 1 .. length."""
    length = len(right[0])
    return tuple(sum(sum(row[:n]) for row in right) / (n * len(right)) for n in range(1, length + 1))
