"""Practice: samples that the model writes for a question, their weights, and the update on them.

Rules: m samples per question, each from its own seed; one that does not parse is kept in the record with weight 0;
weights of the rest sum to 1 (softmax of the scores where there is a scorer). A sample that repeats the question may be
written, but not practised on: its solution would be the answer. A question left without samples is answered by the
adapter that the others started from.

Does not know whether a sample is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from mass_gov.mass.prompting import ParsedSample, parse_sample
from mass_gov.mass.rivals.answering import digests, fits, greedy
from mass_gov.mass.rivals.values import Answer, Engine, Pair, Replies, Setup, Written, derived_seed
from mass_gov.mass.values import Generation, TrainingSample

Weigh = Callable[[Sequence[Written]], Sequence[float]]
"""The parsed samples of one question -> their weights, not negative."""
Samples = tuple[tuple[Written, ...], ...]  # per question


def write_practice(engine: Engine, questions: Sequence[str], setup: Setup, seed: int, *, scored: bool) -> Samples:
    """`setup.samples` samples for every question, weighed by the scorer where `scored`, else alike."""
    prompts = [engine.template.practise_prompt(question) for question in questions for _ in range(setup.samples)]
    seeds = [derived_seed(seed, "practice", question, i) for question in questions for i in range(setup.samples)]
    found = engine.generate(
        prompts,
        None,
        max_new_tokens=setup.practice_tokens,
        temperature=setup.temperature,
        seeds=seeds,
        strata=setup.samples,
    )
    scores = engine.score(found).tolist() if scored else [None] * len(found)
    rows = [_read(engine, one, score) for one, score in zip(found, scores, strict=True)]
    m = setup.samples
    per_task = [rows[start : start + m] for start in range(0, len(rows), m)]
    return tuple(
        weighed(_without_copies(question, task), softmax_of_scores if scored else uniform)
        for question, task in zip(questions, per_task, strict=True)
    )


def _read(engine: Engine, generation: Generation, score: float | None) -> Written:
    parsed = parse_sample(generation.text, engine.template, finished=generation.finished)
    if not isinstance(parsed, ParsedSample):
        return Written(generation.text, score=score)
    whole = engine.template.solve_prompt(parsed.question) + parsed.solution
    solution = parsed.solution if fits(engine, whole, 1) else None  # what a model writes, it cannot always be asked
    return Written(generation.text, parsed.question, solution, parsed.answer, score)


def _without_copies(question: str, samples: Sequence[Written]) -> list[Written]:
    return [replace(one, solution=None) if one.question == question.strip() else one for one in samples]


def weighed(samples: Sequence[Written], weigh: Weigh) -> tuple[Written, ...]:
    """The same samples with the weights that `weigh` gives to those that can be practised on; the others get 0."""
    usable = [one for one in samples if one.solution is not None]
    weights = iter(weigh(usable))
    return tuple(replace(one, weight=next(weights) if one.solution is not None else 0.0) for one in samples)


def own_answer(sample: Written) -> Answer:
    """The answer that a sample ends in, as if it answered the question."""
    return Answer(sample.solution if sample.solution is not None else sample.text, sample.answer)


def uniform(samples: Sequence[Written]) -> list[float]:
    """1/n each."""
    return [1.0 / len(samples) for _ in samples]


def softmax_of_scores(samples: Sequence[Written]) -> list[float]:
    """exp(s_i) / sum_j exp(s_j) over the samples given."""
    return softmax([one.score or 0.0 for one in samples])


def softmax(values: Sequence[float]) -> list[float]:
    """The softmax of some numbers; empty for none."""
    largest = max(values, default=0.0)
    raised = [math.exp(value - largest) for value in values]
    return [value / sum(raised) for value in raised]


def normalised(values: Sequence[float]) -> list[float]:
    """Shares of the sum; all zero where the sum is."""
    total = sum(values)
    return [value / total if total > 0 else 0.0 for value in values]


def from_pairs(pairs: Sequence[Pair]) -> tuple[Written, ...]:
    """Given (question, solution) pairs as samples of equal weight."""
    return weighed([Written("", question, solution) for question, solution in pairs], uniform)


def training(samples: Sequence[Sequence[Written]]) -> list[list[TrainingSample]]:
    """What `adapt` takes: the samples that have a weight."""
    return [
        [
            TrainingSample(one.question, one.solution, one.weight)
            for one in task
            if one.question is not None and one.solution is not None and one.weight > 0
        ]
        for task in samples
    ]


def adapted(
    engine: Engine, samples: Sequence[Sequence[Written]], setup: Setup, start: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """One update per task on its samples, all tasks at once: learned step sizes where the folder has a core."""
    scale = 1.0 if engine.core is not None else setup.step_size
    return dict(engine.adapt(training(samples), start, steps=setup.steps, step_scale=scale))


def practise_and_answer(
    engine: Engine,
    questions: Sequence[str],
    samples: Samples,
    setup: Setup,
    start: Mapping[str, Tensor] | None = None,
) -> Replies:
    """Update on the samples, then answer greedily with the adapted model."""
    adapters = adapted(engine, samples, setup, start)
    return answered(engine, questions, samples, adapters, setup)


def answered(
    engine: Engine, questions: Sequence[str], samples: Samples, adapters: Mapping[str, Tensor], setup: Setup
) -> Replies:
    """Greedy answers with given adapters, and the record of how they came about."""
    answers = greedy(engine, questions, setup, adapters)
    return Replies(answers, samples, digests(adapters, len(questions)))
