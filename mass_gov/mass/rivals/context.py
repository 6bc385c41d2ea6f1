"""Rivals that use the trained generator's samples without changing a weight.

    icl-samples     the m samples stand before the question as worked examples, best-scored last
    generator-vote  the answers of `votes` samples themselves are voted on: if they carry the task's answer, this finds
                    it as well as an update would
    slow-think      m times, the model reads one sample as it was written, scratch working included, goes on to the
                    question right behind it, and the m answers are voted on: the generator's working used as thought

Of the two ways to use working step by step (one long chain through all samples; one chain per sample and a vote),
`slow-think` takes the second: it spends the same samples, every chain stays within lengths that the model was trained
on, and the vote makes up for a chain that went astray.

Rules: greedy after the context; samples that do not parse are left out; a question without any is answered as base.
Does not know updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mass_gov.mass.prompting import PromptTemplate
from mass_gov.mass.rivals.answering import fits, greedy_from, majority
from mass_gov.mass.rivals.practice import own_answer, write_practice
from mass_gov.mass.rivals.values import Answer, Engine, Replies, Setup, Surroundings, Written


def icl_samples(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """Answer after the samples as examples; where the context is too short for all, the worst-scored go first."""
    samples = write_practice(engine, questions, setup, seed, scored=engine.core is not None)
    prompts = [_examples(engine, q, task, setup) for q, task in zip(questions, samples, strict=True)]
    return Replies(greedy_from(engine, prompts, setup), samples)


def generator_vote(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """The commonest answer among `setup.votes` samples."""
    samples = write_practice(engine, questions, replace(setup, samples=setup.votes), seed, scored=False)
    return Replies(tuple(majority([own_answer(one) for one in task]) for task in samples), samples)


def slow_think(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """One chain per sample, then a vote."""
    samples = write_practice(engine, questions, setup, seed, scored=False)
    prompts, owners = [], []
    for row, (question, task) in enumerate(zip(questions, samples, strict=True)):
        chains = [_chain(engine.template, question, one) for one in task if one.question is not None]
        fitting = [chain for chain in chains if fits(engine, chain, setup.answer_tokens)]
        chosen = fitting or [engine.template.solve_prompt(question)]
        prompts += chosen
        owners += [row] * len(chosen)
    found: list[list[Answer]] = [[] for _ in questions]
    for row, answer in zip(owners, greedy_from(engine, prompts, setup), strict=True):
        found[row].append(answer)
    return Replies(tuple(majority(answers) for answers in found), samples)


def _examples(engine: Engine, question: str, samples: Sequence[Written], setup: Setup) -> str:
    usable = sorted((one for one in samples if one.solution is not None), key=lambda one: one.score or 0.0)
    while True:
        prompt = _with_examples(engine.template, question, usable)
        if not usable or fits(engine, prompt, setup.answer_tokens):
            return prompt
        usable = usable[1:]


def _with_examples(template: PromptTemplate, question: str, samples: Sequence[Written]) -> str:
    shown = "".join(f"{template.solve_prompt(one.question or '')}{one.solution}\n" for one in samples)
    return shown + template.solve_prompt(question)


def _chain(template: PromptTemplate, question: str, sample: Written) -> str:
    return f"{template.practise_prompt(question)}{sample.text}\n{template.solve_prompt(question)}"
