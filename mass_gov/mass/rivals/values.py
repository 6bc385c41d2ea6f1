"""What goes into a method and what comes out of it.

Rules: frozen values; questions are texts. Everything random is a function of (seed, question): the company that a
question is asked in changes no number drawn for it.

Does not know how anything is computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from mass_gov.mass.prompting import PromptTemplate
from mass_gov.mass.values import Generation, TrainingSample

Pair = tuple[str, str]  # (question, solution)
Read = Callable[[str, bool], str | None]


class Engine(Protocol):
    """What methods need of a model: many prompts and many tasks at once. Adapters are {tensor name: (tasks, ...)}."""

    @property
    def template(self) -> PromptTemplate:
        """How problems are put to the model."""

    @property
    def core(self) -> Any | None:
        """The trained core (start, step sizes, scorer), None for a plain folder."""

    def generate(
        self,
        prompts: Sequence[str],
        adapters: Mapping[str, Tensor] | None,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        strata: int = 1,
    ) -> list[Generation]:
        """One text per prompt; with adapters, equally many prompts per task, in task order.

        `strata` prompts in a row are drawn together, so that they differ as often as they can.
        """

    def check_prompt(self, prompt: str, *, max_new_tokens: int) -> None:
        """Raise TaskError where a prompt cannot be read, or leaves no room for that many tokens."""

    def score(self, samples: Sequence[Generation]) -> Tensor:
        """(n,) the scorer's scores of practice."""

    def score_answers(self, pairs: Sequence[Pair], adapters: Mapping[str, Tensor] | None) -> list[tuple[float, ...]]:
        """The negative log-likelihood (nats) of every token of each (prompt, continuation)'s continuation."""

    def adapt(
        self,
        samples: Sequence[Sequence[TrainingSample]],
        start: Mapping[str, Tensor] | None = None,
        *,
        steps: int | None = None,
        step_scale: float = 1.0,
    ) -> Mapping[str, Tensor]:
        """One update per task on its own samples."""


class Answer(NamedTuple):
    """What was written, and the answer in it; `key` is None where there is none. Votes count keys."""

    text: str
    key: str | None


class Surroundings(Protocol):
    """What may be known about the world of a question, from its text alone. The evaluation's flow implements it."""

    def group(self, question: str) -> str:
        """The name of the domain (or file) that the question is of."""

    def pool(self) -> Sequence[Pair]:
        """Easy questions of the training pool with their worked solutions."""

    def another(self, question: str, seed: int) -> str:
        """Another question of the same group."""

    def demonstrations(self, question: str) -> Sequence[Pair]:
        """(question, answer) pairs that the text itself states; empty where it states none."""

    def on_path(self, question: str, practice: str) -> bool:
        """Whether the practice question takes a step that solving the question takes too."""

    def oracle(self, question: str, seed: int, count: int) -> Sequence[Pair]:
        """The domain's own sub-problems with right solutions: an upper bound, not a method."""


@dataclass(frozen=True)
class Setup:
    """How a method runs.

    Args:
        samples: m, practice samples per task.
        steps: K; None takes the number that the core was trained with (1 without a core).
        step_size: of every module, for models without learned step sizes.
        votes: solutions drawn per task by the voting methods, revisions by `self-critique`.
        temperature: of practice; `vote_temperature` of votes.
        practice_tokens, answer_tokens: limits of one generation.
        read: (text, finished) -> the answer in it; None reads what stands after the last marker of a finished text.
    """

    samples: int = 6
    steps: int | None = None
    step_size: float = 1.0
    votes: int = 8
    temperature: float = 1.0
    vote_temperature: float = 0.7
    practice_tokens: int = 120
    answer_tokens: int = 120
    re_solves: int = 4
    read: Read | None = None


@dataclass(frozen=True)
class Written:
    """One practice sample as used: raw text, parsed question and solution (None: unparseable), score and weight."""

    text: str
    question: str | None = None
    solution: str | None = None
    answer: str | None = None
    score: float | None = None
    weight: float = 0.0


@dataclass(frozen=True)
class Replies:
    """One answer per question.

    samples: per question, what was practised on; deltas: per question, SHA-256 of the adapter that answered;
    crossed: gives, by name of a stream, the answers to all questions by the adapter that the stream ended with. It is
    asked when costs have been counted: what a method has forgotten is measured, and not part of it.
    """

    answers: tuple[Answer, ...]
    samples: tuple[tuple[Written, ...], ...] = ()
    deltas: tuple[str, ...] = ()
    crossed: Callable[[], Mapping[str, tuple[Answer, ...]]] = field(default=dict, compare=False)


Method = Callable[[Engine, Sequence[str], Setup, int, Surroundings], Replies]


def derived_seed(seed: int, *parts: str | int) -> int:
    """A 63-bit seed that depends on `seed` and `parts` alone."""
    text = "\0".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
