"""Rivals that only spend more decoding: one answer, a vote, the best of n, a revision.

    base            one greedy answer
    majority-vote   the commonest answer of `votes` sampled solutions
    best-of-n       the sampled solution with the highest mean log-probability under the model itself
    self-critique   the model sees its own solution and writes another, `votes` times; the last one counts

`self-critique` puts a chat model's solution before it with the request to find its faults; a plain model reads its
transcript so far (problem, solution) and then the problem again, since it knows no other language.

Does not know practice, updates, or how many votes are fair: the caller sets them from metered FLOPs or tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from mass_gov.mass.prompting import PromptTemplate
from mass_gov.mass.rivals.answering import drawn_solutions, fits, greedy, majority, read_answer
from mass_gov.mass.rivals.values import Engine, Replies, Setup, Surroundings
from mass_gov.mass.values import Generation

_REVISE = (
    "\n\nA proposed solution:\n{attempt}\n\nLook for faults in it, then write a correct solution in the same form."
)


def base(engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings) -> Replies:
    """One greedy answer from the folder's weights, without any adapter."""
    return Replies(greedy(engine, questions, setup))


def majority_vote(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """Self-consistency (Wang et al., 2023, arXiv 2203.11171): the commonest of `setup.votes` sampled answers."""
    drawn = drawn_solutions(engine, questions, setup, seed)
    return Replies(tuple(majority([read_answer(one, engine.template, setup) for one in task]) for task in drawn))


def best_of_n(engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings) -> Replies:
    """Of `setup.votes` sampled solutions that have an answer, the one the model itself finds likeliest per token."""
    drawn = drawn_solutions(engine, questions, setup, seed)
    pairs = [
        (engine.template.solve_prompt(question), one.text)
        for question, task in zip(questions, drawn, strict=True)
        for one in task
    ]
    losses = iter(engine.score_answers(pairs, None))
    answers = []
    for task in drawn:
        rated = [(_mean(next(losses)), read_answer(one, engine.template, setup)) for one in task]
        able = [pair for pair in rated if pair[1].key is not None] or rated
        answers.append(min(able, key=lambda pair: pair[0])[1])
    return Replies(tuple(answers))


def self_critique(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """Answer, then revise `setup.votes` times, greedily. What has no answer, or no room, changes nothing."""
    prompts = [engine.template.solve_prompt(question) for question in questions]
    written = engine.generate(prompts, None, max_new_tokens=setup.answer_tokens)
    answers = [read_answer(one, engine.template, setup) for one in written]
    for _ in range(setup.votes):
        prompts = [_revision(q, one, engine.template) for q, one in zip(questions, written, strict=True)]
        able = [row for row, prompt in enumerate(prompts) if fits(engine, prompt, setup.answer_tokens)]
        revised = (
            engine.generate([prompts[row] for row in able], None, max_new_tokens=setup.answer_tokens) if able else []
        )
        for row, one in zip(able, revised, strict=True):
            written[row], new = one, read_answer(one, engine.template, setup)
            answers[row] = new if new.key is not None else answers[row]
    return Replies(tuple(answers))


def _revision(question: str, attempt: Generation, template: PromptTemplate) -> str:
    if template.chat:
        return template.solve_prompt(question) + _REVISE.replace("{attempt}", attempt.text)
    return f"{template.solve_prompt(question)}{attempt.text}\n{template.solve_prompt(question)}"


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses) if losses else float("inf")
