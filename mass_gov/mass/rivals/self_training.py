"""Self-training without meta-training: an untrained hand writes the practice (Test-Time Self-Synthesis, TT-SS).

    tt-ss               every parsed sample counts alike
    tt-ss-agreement     weight = share of `re_solves` fresh solutions of the sample's question that end in its answer
    tt-ss-self-judged   weight = softmax of the model's own mean log-probability of the solution (self-rewarding)

Both judges see the practice question in the context that it was written in, because practice may lean on the task ("F2"
for "F of the task, at 2"): a question asked alone may mean nothing.

Rules: the base folder, no core; one step of one step size, which the evaluation tunes on a validation seed. A question
whose samples all weigh nothing is answered by the model as it is.

Does not know scorers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from mass_gov.mass.prompting import ParsedSample, parse_sample
from mass_gov.mass.rivals.answering import fits, sampled
from mass_gov.mass.rivals.practice import (
    Samples,
    normalised,
    practise_and_answer,
    softmax,
    write_practice,
)
from mass_gov.mass.rivals.values import Engine, Replies, Setup, Surroundings, Written, derived_seed


def tt_ss(engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings) -> Replies:
    """Uniform weights."""
    samples = write_practice(engine, questions, setup, seed, scored=False)
    return practise_and_answer(engine, questions, samples, setup)


def tt_ss_agreement(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """Weights from how often the model, asked again in the same context, comes to the same answer."""
    samples = write_practice(engine, questions, setup, seed, scored=False)
    usable, k = _usable(questions, samples), setup.re_solves
    asked = [engine.template.practise_prompt(task) + (one.question or "") for task, one in usable]
    able = [row for row, prompt in enumerate(asked) if fits(engine, prompt, setup.answer_tokens)]
    prompts = [asked[row] for row in able for _ in range(k)]
    seeds = [derived_seed(seed, "re-solve", prompt, i % k) for i, prompt in enumerate(prompts)]
    written = sampled(engine, prompts, seeds, setup) if prompts else []
    found = [parse_sample("?" + one.text, engine.template, finished=one.finished) for one in written]
    answers = [one.answer if isinstance(one, ParsedSample) else None for one in found]
    shares = [0.0] * len(usable)
    for place, row in enumerate(able):
        shares[row] = answers[place * k : (place + 1) * k].count(usable[row][1].answer) / k
    return practise_and_answer(engine, questions, _reweighed(samples, shares, normalised), setup)


def tt_ss_self_judged(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """Weights from how likely the model finds its own solutions, question alone."""
    samples = write_practice(engine, questions, setup, seed, scored=False)
    pairs = [(_up_to_solution(engine, task, one), one.solution or "") for task, one in _usable(questions, samples)]
    losses = engine.score_answers(pairs, None) if pairs else []
    likelihoods = [-sum(tokens) / len(tokens) for tokens in losses]
    return practise_and_answer(engine, questions, _reweighed(samples, likelihoods, softmax), setup)


def _usable(questions: Sequence[str], samples: Samples) -> list[tuple[str, Written]]:
    """(the task's question, sample) of every sample that can be practised on."""
    return [(q, one) for q, task in zip(questions, samples, strict=True) for one in task if one.solution is not None]


def _up_to_solution(engine: Engine, task: str, sample: Written) -> str:
    """The task and the practice question as the generator wrote it, without scratch working."""
    return f"{engine.template.practise_prompt(task)}{sample.question}{engine.template.separator}"


def _reweighed(
    samples: Samples, values: Sequence[float], to_weights: Callable[[Sequence[float]], list[float]]
) -> Samples:
    """The samples of every task with `to_weights` of their own values, which come in the order of `_usable`."""
    remaining, found = iter(values), []
    for task in samples:
        weights = iter(to_weights([next(remaining) for one in task if one.solution is not None]))
        found.append(tuple(replace(one, weight=next(weights) if one.solution is not None else 0.0) for one in task))
    return tuple(found)
