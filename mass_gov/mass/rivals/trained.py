"""Rivals trained on the same outer data and FLOPs as MASS, with no update at test time.

    solver-sft    fine-tuned on the reference solutions        solver-grpo   plain RL on the verifier's 0/1 reward
    rewrite-grpo  plain RL on "rewrite, then answer": the model writes a problem of its own in place of the question,
                  through the practise prompt, and the answer to that problem is its answer

Each also with `+vote`: the commonest answer of `votes` samples instead of one greedy answer.

Does not know how the folders were trained.
"""

from __future__ import annotations

from collections.abc import Sequence

from mass_gov.mass.prompting import ParsedSample, parse_sample
from mass_gov.mass.rivals.answering import greedy, grouped, majority
from mass_gov.mass.rivals.plain import majority_vote
from mass_gov.mass.rivals.values import Answer, Engine, Replies, Setup, Surroundings, derived_seed
from mass_gov.mass.values import Generation

solver_vote = majority_vote


def solver(engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings) -> Replies:
    """One greedy answer by the trained solver, with the initial adapter of its core where it has one."""
    return Replies(greedy(engine, questions, setup))


def rewrite(engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings) -> Replies:
    """One greedy rewriting; its answer is the answer."""
    prompts = [engine.template.practise_prompt(question) for question in questions]
    found = engine.generate(prompts, None, max_new_tokens=setup.practice_tokens)
    return Replies(tuple(_answer(engine, one) for one in found))


def rewrite_vote(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """The commonest answer of `setup.votes` sampled rewritings."""
    k = setup.votes
    prompts = [engine.template.practise_prompt(question) for question in questions for _ in range(k)]
    seeds = [derived_seed(seed, "rewrite", question, i) for question in questions for i in range(k)]
    found = engine.generate(
        prompts, None, max_new_tokens=setup.practice_tokens, temperature=setup.vote_temperature, seeds=seeds
    )
    return Replies(tuple(majority([_answer(engine, one) for one in task]) for task in grouped(found, k)))


def _answer(engine: Engine, generation: Generation) -> Answer:
    parsed = parse_sample(generation.text, engine.template, finished=generation.finished)
    return Answer(generation.text, parsed.answer if isinstance(parsed, ParsedSample) else None)
