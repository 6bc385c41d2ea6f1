"""A small learner that is trained on what it writes: for `bench/monitors.py`, no part of the product.

It practises the domain `largest`. Its generator is a character n-gram model with back-off to the longest context that
it has seen (prediction by partial matching: Cleary & Witten 1984), fitted on a memory of problems; what it writes goes
into the memory, and the oldest goes. Its solver is a softmax regression on character n-grams (`mass.rivals.ngrams`),
fitted on real problems to begin with; every step it takes one gradient step on what was written, with the answers that
it gives itself, and forgets a little (weight decay). With a real share, that part of every step is real problems with
gold answers, for generator and solver alike. Accuracy is on real problems that neither was fitted on.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mass_gov.mass.rivals.ngrams import unit_vectors, vocabulary_of
from mass_gov.tasks.kinds import practice_kind
from mass_gov.tasks.registry import DOMAINS
from mass_gov.tasks.task import META_SEEDS, Task

DOMAIN = "largest"
MEMORY, TEMPERATURE = 150, 1.0
STEP, DECAY = 12.0, 0.005
SAMPLES = 8
ANSWERS = 10
_BEGIN, _END = "\r", "\n"
_ORDER = 6
_LONGEST = 48
Matrix = npt.NDArray[np.float32]


class Generator:
    """Writes problems like those in its memory."""

    def __init__(self, memory: Sequence[str], rng: random.Random) -> None:
        self._memory = deque[str]()
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._size, self._rng = len(memory), rng
        self.learn(memory)

    def learn(self, texts: Sequence[str]) -> None:
        """Fit on these as well; the oldest are forgotten."""
        for text in texts:
            self._put(text, 1)
            self._memory.append(text)
        while len(self._memory) > self._size:
            self._put(self._memory.popleft(), -1)

    def write(self) -> str:
        """One text; whether it is a problem is another question."""
        return "".join(self._letters())

    def _letters(self) -> Iterator[str]:
        text = _BEGIN
        for _ in range(_LONGEST):
            seen = self._seen(text)
            weights = [count ** (1 / TEMPERATURE) for count in seen.values()]
            letter = self._rng.choices(list(seen), weights)[0]
            if letter == _END:
                return
            text += letter
            yield letter

    def _seen(self, text: str) -> Counter[str]:
        """What followed the longest context that was seen twice, or else once."""
        for least in (2, 1):
            for length in range(min(_ORDER, len(text)), -1, -1):
                seen = self._counts.get(text[len(text) - length :])
                if seen and seen.total() >= least:
                    return seen
        return Counter({_END: 1})

    def _put(self, text: str, sign: int) -> None:
        whole = _BEGIN + text + _END
        for end in range(1, len(whole)):
            for start in range(max(0, end - _ORDER), end + 1):
                context, letter = whole[start:end], whole[end]
                seen = self._counts[context]
                seen[letter] += sign
                if seen[letter] == 0:
                    del seen[letter]
                    if not seen:
                        del self._counts[context]


@dataclass(frozen=True)
class World:
    """Real problems and the solver as it was fitted on the first of them; the last are for measuring."""

    problems: tuple[Task, ...]
    columns: dict[str, int]
    idf: Matrix
    solver: Matrix
    held_out: Matrix
    gold: npt.NDArray[np.int64]

    @classmethod
    def make(cls, fitted: int = 2500, held_out: int = 500) -> World:
        """Draw the problems and fit the solver; the same each time."""
        problems = tuple(_problem(index) for index in range(fitted + held_out))
        columns, idf = vocabulary_of([one.question for one in problems[:fitted]])
        features = unit_vectors([one.question for one in problems], columns, idf)
        answers = np.asarray([int(one.answer) for one in problems])
        solver = np.zeros((len(columns), ANSWERS), dtype=np.float32)
        for _ in range(300):
            solver -= 20.0 * _gradient(solver, features[:fitted], answers[:fitted])
        return cls(problems[:fitted], columns, idf, solver, features[fitted:], answers[fitted:])

    def features(self, texts: Sequence[str]) -> Matrix:
        """(texts, columns)."""
        return unit_vectors(texts, self.columns, self.idf)


class RecursiveLearner:
    """One stream: every `step` writes, says what was written, and learns from it."""

    def __init__(self, world: World, seed: int, real_share: float) -> None:
        self._world, self._rng, self._share = world, random.Random(seed), real_share
        memory = [self._rng.choice(world.problems).question for _ in range(MEMORY)]
        self._generator, self._solver = Generator(memory, self._rng), world.solver.copy()

    def step(self) -> list[tuple[str, str]]:
        """Write, learn, and return (question, kind) of what parsed."""
        kept = [(text, kind) for text in (self._generator.write() for _ in range(SAMPLES)) if (kind := _kind(text))]
        texts = [text for text, _ in kept]
        anchors = self._anchors(len(kept))
        texts += [task.question for task in anchors]
        if texts:
            features = self._world.features(texts)
            answers = np.argmax(features @ self._solver, axis=1)
            answers[len(kept) :] = [int(task.answer) for task in anchors]
            gradient = _gradient(self._solver, features, answers)
            self._solver = self._solver * np.float32(1 - DECAY) - np.float32(STEP) * gradient
            self._generator.learn(texts)
        return kept

    def accuracy(self) -> float:
        """Share of the held-out real problems that are solved."""
        found = np.argmax(self._world.held_out @ self._solver, axis=1)
        return float((found == self._world.gold).mean())

    def _anchors(self, kept: int) -> list[Task]:
        wanted = kept * self._share / (1 - self._share)
        count = int(wanted) + (self._rng.random() < wanted - int(wanted))
        return [self._rng.choice(self._world.problems) for _ in range(count)]


def _problem(index: int) -> Task:
    """A real sub-problem of a task of the meta-training split, as the reference pool has them."""
    rng, one = random.Random(index), DOMAINS[DOMAIN]
    return one.subproblem(one.sample(META_SEEDS + rng.randrange(10**9), "meta"), rng.randrange(10**9))


def _kind(text: str) -> str | None:
    place = practice_kind(text, text)
    return place[1] if place is not None and place[0] == DOMAIN else None


def _gradient(solver: Matrix, features: Matrix, answers: npt.NDArray[np.int64]) -> Matrix:
    """Of the mean cross-entropy."""
    logits = features @ solver
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(answers)), answers] -= 1
    found: Matrix = features.T @ shares / np.float32(len(answers))
    return found
