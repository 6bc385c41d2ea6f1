"""Asking a model: greedy answers, votes, and the adapters that a set of tasks starts from.

Rules: the answer is what stands after the last marker of a finished generation, unless the setup reads otherwise.
A vote counts answers; among equally frequent ones the first that was written wins. Votes draw from a seed of their own
per question.

Does not know practice or updates.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

from mass_gov.errors import TaskError
from mass_gov.mass.prompting import PromptTemplate, parse_answer
from mass_gov.mass.rivals.values import Answer, Engine, Setup, derived_seed
from mass_gov.mass.values import Generation


def read_answer(generation: Generation, template: PromptTemplate, setup: Setup) -> Answer:
    """A solution and the answer that it ends in."""
    if setup.read is not None:
        return Answer(generation.text, setup.read(generation.text, generation.finished))
    return Answer(generation.text, parse_answer(generation.text, template) if generation.finished else None)


def greedy(
    engine: Engine, questions: Sequence[str], setup: Setup, adapters: Mapping[str, Tensor] | None = None
) -> tuple[Answer, ...]:
    """One greedy answer per question; `adapters` are (questions, ...) or None for the folder's model as it is."""
    prompts = [engine.template.solve_prompt(question) for question in questions]
    return greedy_from(engine, prompts, setup, adapters)


def greedy_from(
    engine: Engine, prompts: Sequence[str], setup: Setup, adapters: Mapping[str, Tensor] | None = None
) -> tuple[Answer, ...]:
    """The same from prompts that are already written out."""
    found = engine.generate(prompts, adapters, max_new_tokens=setup.answer_tokens)
    return tuple(read_answer(generation, engine.template, setup) for generation in found)


def sampled(engine: Engine, prompts: Sequence[str], seeds: Sequence[int], setup: Setup) -> list[Generation]:
    """One sampled solution per prompt at the voting temperature, from the folder's model as it is."""
    return engine.generate(
        prompts, None, max_new_tokens=setup.answer_tokens, temperature=setup.vote_temperature, seeds=seeds
    )


def drawn_solutions(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, label: str = "vote"
) -> list[list[Generation]]:
    """`setup.votes` sampled solutions of every question, in question order."""
    k = setup.votes
    prompts = [engine.template.solve_prompt(question) for question in questions for _ in range(k)]
    seeds = [derived_seed(seed, label, question, i) for question in questions for i in range(k)]
    return grouped(sampled(engine, prompts, seeds, setup), k)


def grouped(rows: Sequence[Generation], size: int) -> list[list[Generation]]:
    """Rows in task order, cut into one list of `size` per task."""
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def majority(answers: Sequence[Answer]) -> Answer:
    """The first of those with the most frequent answer, the earliest of equals; the first of all where none has one."""
    counts = Counter(answer.key for answer in answers if answer.key is not None)
    if not counts:
        return answers[0]
    chosen = counts.most_common(1)[0][0]
    return next(answer for answer in answers if answer.key == chosen)


def fits(engine: Engine, prompt: str, new_tokens: int) -> bool:
    """Whether the model can read this prompt and write so much behind it."""
    try:
        engine.check_prompt(prompt, max_new_tokens=new_tokens)
    except TaskError:
        return False
    return True


def posable(engine: Engine, question: str, setup: Setup) -> bool:
    """Whether the question can be put to this model, for an answer and for practice."""
    asked = fits(engine, engine.template.solve_prompt(question), setup.answer_tokens)
    return asked and fits(engine, engine.template.practise_prompt(question), setup.practice_tokens)


def digests(adapters: Mapping[str, Tensor] | None, tasks: int) -> tuple[str, ...]:
    """SHA-256 of every task's adapter: names and little-endian float bytes in name order; '' without one."""
    if adapters is None:
        return ("",) * tasks
    rows = {name: adapters[name].detach().cpu().float().contiguous().numpy() for name in sorted(adapters)}
    found = []
    for task in range(tasks):
        digest = hashlib.sha256()
        for name, values in rows.items():
            digest.update(name.encode() + b"\0" + values[task].tobytes())
        found.append(digest.hexdigest())
    return tuple(found)
