"""MASS itself, and what is left of it when one part is taken out or exchanged.

    mass                  the trained generator's samples, weights = softmax of the scorer's scores, K steps from the
                          learned start with the learned step sizes, then a greedy answer
    /no-adaptation        no step: the learned start answers
    /uniform              all parsed samples weigh the same
    /shuffled-scores      the scores of a task change places among its samples
    /other-task-delta     answered with the adapter that practice for another task of the same domain made
    /random-delta         the step goes in a random direction: per module, as long as the real one in the change of
                          weights that it makes (Frobenius norm of BA - B0A0)
    /corrupted-answers    every sample's answer is replaced by another one, working and weight stay
    /off-path             samples whose question the task itself passes through are dropped, the others weighed anew
    /accumulated          one adapter per domain is kept over the stream of its tasks instead of being reset
    /oracle-practice      m right sub-problems from the domain in place of the generator's: an upper bound

`/k=N` and `/m=N` are settings, `/first-order` and `/alignment-scorer` other folders: the catalogue knows them.

Does not know which folder it runs on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from mass_gov.mass.batched_lora import Adapters, pick
from mass_gov.mass.rivals.answering import digests, greedy, posable
from mass_gov.mass.rivals.deltas import random_delta
from mass_gov.mass.rivals.practice import (
    Samples,
    adapted,
    answered,
    from_pairs,
    practise_and_answer,
    softmax_of_scores,
    uniform,
    weighed,
    write_practice,
)
from mass_gov.mass.rivals.values import Answer, Engine, Replies, Setup, Surroundings, Written, derived_seed

_NEIGHBOURS = 100
"""How many other questions `/other-task-delta` looks at for one that the model can read."""


def mass(engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings) -> Replies:
    """The method as trained."""
    samples = write_practice(engine, questions, setup, seed, scored=True)
    return practise_and_answer(engine, questions, samples, setup)


def no_adaptation(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """The learned start, which no sample has moved."""
    start = adapted(engine, [()] * len(questions), setup)
    return answered(engine, questions, (), start, setup)


def uniform_weights(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """The same samples, weighed alike."""
    samples = write_practice(engine, questions, setup, seed, scored=True)
    return practise_and_answer(engine, questions, tuple(weighed(task, uniform) for task in samples), setup)


def shuffled_scores(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """The same samples and weights, matched at random within each task."""
    samples = write_practice(engine, questions, setup, seed, scored=True)
    return practise_and_answer(engine, questions, _changed(questions, samples, seed, _shuffle), setup)


def other_task_delta(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """Practice for another question of the same group; the answer to this one."""
    others = [_another(engine, question, setup, seed, surroundings) for question in questions]
    asked = [other for other in others if other is not None]
    written = iter(write_practice(engine, asked, setup, seed, scored=True) if asked else ())
    samples = tuple(next(written) if other is not None else () for other in others)
    return practise_and_answer(engine, questions, samples, setup)


def _another(engine: Engine, question: str, setup: Setup, seed: int, surroundings: Surroundings) -> str | None:
    """Another question that can be put to this model; None, and so no practice, where none is near."""
    first = derived_seed(seed, "another", question)
    others = (surroundings.another(question, first + i) for i in range(_NEIGHBOURS))
    return next((other for other in others if posable(engine, other, setup)), None)


def random_direction(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """As far as MASS goes, module by module, anywhere."""
    samples = write_practice(engine, questions, setup, seed, scored=True)
    start = adapted(engine, [()] * len(questions), setup)
    seeds = [derived_seed(seed, "direction", question) for question in questions]
    return answered(engine, questions, samples, random_delta(start, adapted(engine, samples, setup), seeds), setup)


def corrupted_answers(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """The same samples with wrong answers."""
    marker = engine.template.marker

    def corrupt(samples: tuple[Written, ...], generator: np.random.Generator) -> tuple[Written, ...]:
        return tuple(_corrupted(one, marker, generator) for one in samples)

    samples = write_practice(engine, questions, setup, seed, scored=True)
    return practise_and_answer(engine, questions, _changed(questions, samples, seed, corrupt), setup)


def off_path(engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings) -> Replies:
    """Only practice that the task itself never visits."""
    samples = write_practice(engine, questions, setup, seed, scored=True)
    kept = tuple(
        tuple(
            replace(one, solution=None) if surroundings.on_path(question, one.question or "") else one for one in task
        )
        for question, task in zip(questions, samples, strict=True)
    )
    return practise_and_answer(engine, questions, tuple(weighed(task, softmax_of_scores) for task in kept), setup)


def oracle_practice(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """Right sub-problems, weighed alike."""
    samples = tuple(
        from_pairs(surroundings.oracle(question, derived_seed(seed, "oracle", question), setup.samples))
        for question in questions
    )
    return practise_and_answer(engine, questions, samples, setup)


def accumulated(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """One stream per group, side by side; at the end each stream's adapter answers every question (`crossed`)."""
    streams: dict[str, list[int]] = {}
    for row, question in enumerate(questions):
        streams.setdefault(surroundings.group(question), []).append(row)
    names = list(streams)
    current = adapted(engine, [()] * len(names), setup)
    answers = [Answer("", None)] * len(questions)
    record: list[tuple[Written, ...]] = [()] * len(questions)
    deltas = [""] * len(questions)
    for turn in range(max(map(len, streams.values()))):
        live = [place for place, name in enumerate(names) if turn < len(streams[name])]
        rows = [streams[names[place]][turn] for place in live]
        now = [questions[row] for row in rows]
        samples = write_practice(engine, now, setup, seed, scored=True)
        moved = adapted(engine, samples, setup, pick(current, live))
        for row, answer, used, delta in zip(
            rows, greedy(engine, now, setup, moved), samples, digests(moved, len(rows)), strict=True
        ):
            answers[row], record[row], deltas[row] = answer, used, delta
        current = _put(current, live, moved)

    def crossed() -> dict[str, tuple[Answer, ...]]:
        return {
            name: greedy(engine, questions, setup, pick(current, [place] * len(questions)))
            for place, name in enumerate(names)
        }

    return Replies(tuple(answers), tuple(record), tuple(deltas), crossed)


def _put(current: Adapters, places: list[int], moved: Adapters) -> Adapters:
    """`current` with the rows at `places` taken from `moved`; nothing is changed in place."""
    return {name: tensor.index_copy(0, torch.tensor(places), moved[name]) for name, tensor in current.items()}


_Change = Callable[[tuple[Written, ...], np.random.Generator], tuple[Written, ...]]


def _changed(questions: Sequence[str], samples: Samples, seed: int, change: _Change) -> Samples:
    """`change` applied to every task's samples with a generator that depends on seed and question alone."""
    return tuple(
        change(task, np.random.default_rng(derived_seed(seed, "change", question)))
        for question, task in zip(questions, samples, strict=True)
    )


def _shuffle(samples: tuple[Written, ...], generator: np.random.Generator) -> tuple[Written, ...]:
    usable = [i for i, one in enumerate(samples) if one.solution is not None]
    order = generator.permutation(len(usable))
    weights = {usable[i]: samples[usable[j]].weight for i, j in enumerate(order)}
    return tuple(replace(one, weight=weights.get(i, 0.0)) for i, one in enumerate(samples))


def _corrupted(sample: Written, marker: str, generator: np.random.Generator) -> Written:
    if sample.solution is None or sample.answer is None:
        return sample
    working, _, _ = sample.solution.rpartition(marker)
    wrong = _wrong(sample.answer, generator)
    return replace(sample, solution=f"{working}{marker}{wrong}", answer=wrong)


def _wrong(answer: str, generator: np.random.Generator) -> str:
    """Another answer of the same shape: every digit moved on by 1..9; text without digits is turned round, or said
    twice where that changes nothing."""
    if re.search(r"[0-9]", answer):
        return re.sub(r"[0-9]", lambda digit: str((int(digit[0]) + int(generator.integers(1, 10))) % 10), answer)
    return answer[::-1] if answer[::-1] != answer else answer + answer
