"""Test-time training on practice that the model did not write.

    ttt-random    m easy tasks of the training pool with their worked solutions, drawn at random
    ttt-nearest   the m that are nearest to the question: cosine of TF-IDF over character 1- to 4-grams
    ttt-demos     the demonstrations that the question itself states (Akyürek et al., 2024, arXiv 2411.07279)
    maml-demos    the same on a folder whose initial adapter and step sizes were meta-trained for it (no generator)

Where a question states no demonstration, the last two answer as they would without practice. What of the pool the model
cannot read, or has no room for, is passed over for the next one: a file's pool was written for no model in particular.

A demonstration comes with its answer, not with working. `ttt-demos` lets the model write `re_solves` workings for each
and keeps the first that ends in the stated answer, so that training on it does not unlearn to work; a demonstration
that the model never gets right is trained on with the answer alone. `maml-demos` trains on answers alone, as in its
meta-training.

Does not know who wrote the pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from mass_gov.mass.rivals.answering import fits, grouped, read_answer, sampled
from mass_gov.mass.rivals.ngrams import unit_vectors, vocabulary_of
from mass_gov.mass.rivals.practice import Samples, from_pairs, practise_and_answer
from mass_gov.mass.rivals.values import Engine, Pair, Replies, Setup, Surroundings, derived_seed


def ttt_random(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """Practise on random easy tasks."""
    pool = surroundings.pool()
    chosen = []
    for question in questions:
        generator = np.random.default_rng(derived_seed(seed, "pool", question))
        first = generator.choice(len(pool), min(setup.samples, len(pool)), replace=False)
        order = dict.fromkeys([*first.tolist(), *generator.permutation(len(pool)).tolist()])
        chosen.append(from_pairs(_readable(engine, (pool[i] for i in order), setup.samples)))
    return practise_and_answer(engine, questions, tuple(chosen), setup)


def ttt_nearest(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """Practise on the nearest easy tasks (Hardt & Sun, 2024, arXiv 2305.18466, with a text distance)."""
    pool = surroundings.pool()
    similarity = nearness(questions, [question for question, _ in pool])
    nearest = np.argsort(-similarity, axis=1, kind="stable")
    samples = tuple(from_pairs(_readable(engine, (pool[i] for i in row), setup.samples)) for row in nearest)
    return practise_and_answer(engine, questions, samples, setup)


def ttt_demos(engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings) -> Replies:
    """Practise on the question's own demonstrations, with working of the model's own."""
    stated = [list(surroundings.demonstrations(question)) for question in questions]
    worked = iter(_with_working(engine, [pair for pairs in stated for pair in pairs], setup, seed))
    samples: Samples = tuple(from_pairs([next(worked) for _ in pairs]) for pairs in stated)
    return practise_and_answer(engine, questions, samples, setup)


def maml_demos(
    engine: Engine, questions: Sequence[str], setup: Setup, seed: int, surroundings: Surroundings
) -> Replies:
    """Practise on the question's own demonstrations, answers alone, from the folder's learned start."""
    samples = tuple(
        from_pairs([(q, engine.template.marker + answer) for q, answer in surroundings.demonstrations(question)])
        for question in questions
    )
    return practise_and_answer(engine, questions, samples, setup)


def nearness(questions: Sequence[str], pool: Sequence[str]) -> npt.NDArray[np.float32]:
    """(questions, pool) cosines of TF-IDF vectors; the inverse document frequencies are those of the pool."""
    index, idf = vocabulary_of(pool)
    found: npt.NDArray[np.float32] = unit_vectors(questions, index, idf) @ unit_vectors(pool, index, idf).T
    return found


def _readable(engine: Engine, pairs: Iterable[Pair], count: int) -> list[Pair]:
    """The first `count` that the model can be trained on; fewer where there are no more."""
    solve = engine.template.solve_prompt
    return list(islice((pair for pair in pairs if fits(engine, solve(pair[0]) + pair[1], 1)), count))


def _with_working(engine: Engine, stated: Sequence[Pair], setup: Setup, seed: int) -> list[Pair]:
    """(question, solution) for every (question, answer)."""
    if not stated:
        return []
    k = setup.re_solves
    prompts = [engine.template.solve_prompt(question) for question, _ in stated for _ in range(k)]
    seeds = [derived_seed(seed, "demonstration", question, i) for question, _ in stated for i in range(k)]
    tries = grouped(sampled(engine, prompts, seeds, setup), k)
    found = []
    for (question, answer), written in zip(stated, tries, strict=True):
        right = (one.text for one in written if read_answer(one, engine.template, setup).key == answer)
        found.append((question, next(right, engine.template.marker + answer)))
    return found
