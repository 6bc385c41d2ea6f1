"""What a task is, and where its randomness comes from.

Rules kept here: a task is a frozen value; every draw is a pure function of (domain, split, seed), so that any
interpreter gives equal tasks; no torch, no file, no clock. Not known here: which domains exist, who learns from them.

Seed ranges keep uses apart (the question buckets of `Domain` keep the suites apart by construction as well):

    [0, 10^12)         test tasks: `sample_tasks` maps (its seed, index) here
    [10^12, 2*10^12)   base training
    [2*10^12, 3*10^12) regression suites, which own a sixteenth of all questions
    [3*10^12, 4*10^12) the figures in the model card
    [4*10^12, 9*10^12) meta-training and its validation
    [9*10^12, ...)     anchors, which an update may learn from beside what the model wrote
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal["practice", "rewrite", "induction", "saturated"]
Split = Literal["easy", "meta", "hard"]

MARKER = "#"  # in a worked solution, the text after the last marker is the answer
TRAINING_SEEDS = 10**12
SUITE_SEEDS = 2 * 10**12
CARD_SEEDS = 3 * 10**12
META_SEEDS = 4 * 10**12
ANCHOR_SEEDS = 9 * 10**12


@dataclass(frozen=True, slots=True)
class Task:
    """One question with its gold answer and a worked solution.

    Args:
        task_id: `domain/split/seed`, unique among sampled tasks; sub-problems append `/sub/seed`.
        level: difficulty inside the domain; 1 is easiest. Each domain says what it counts.
        split: `easy` may be trained on by the base, `meta` by meta-training as well; `hard` is held out from both, by
            construction.
        question: printable ASCII, one line.
        answer: canonical text of the only right answer.
        solution: `{working}#{answer}`, in the form that the reference model writes; working may be empty.
        practice: of a sub-problem, the question as practice for its task states it; it may lean on that task (`F2`
            for "F of the task, at 2"). Of other tasks, the question itself.
        scratch: working that a practice problem shows before its solution and that is not trained on; may be empty.
    """

    task_id: str
    domain: str
    kind: Kind
    level: int
    split: Split
    seed: int
    question: str
    answer: str
    solution: str
    practice: str = ""
    scratch: str = ""


def counter_rng(*parts: str | int) -> random.Random:
    """A generator that depends on `parts` and on nothing else (SHA-256 of their text, joined by '/').

    Only integer draws (`randrange`, `choice`, `shuffle`) are used on it: their streams do not change between
    Python versions.
    """
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return random.Random(int.from_bytes(digest[:16], "big"))  # noqa: S311  (tasks are public, not secrets)


def split_by_hash(*parts: str, held_out: float = 0.25) -> Split:
    """The share `held_out` of all keys is `hard`, as large a one `meta`, the others are `easy`."""
    place = share(*parts)
    return "hard" if place < held_out else "meta" if place < 2 * held_out else "easy"


def share(*parts: str) -> float:
    """Where `parts` fall in [0, 1): a fixed partition by SHA-256, the same in every run and process."""
    digest = hashlib.sha256("/".join(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
