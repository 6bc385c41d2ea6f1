"""Anchors: real tasks with gold answers that may be learned from beside what a model wrote, as a pool with a digest.

The shipped pool is a fixed draw from the splits that training may see (never `hard`, never a suite's question, by
construction). A deployment may bring a file of its own: JSON Lines, each line an object with exactly `question`,
`working` and `answer`. Rules: a pool is read whole or refused, and its digest is over its bytes. Which anchors a change
uses is chosen by its seed alone.

Does not know how a model is asked, or what share anchors should have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Self

from mass_gov.errors import TaskError
from mass_gov.tasks.registry import DOMAINS
from mass_gov.tasks.task import ANCHOR_SEEDS, MARKER, Split, Task, counter_rng

MAX_BYTES = 16 * 1024 * 1024
PER_DOMAIN = 32
COMPARED = 12
"""Anchors on which a new state is compared with the base: what reading them costs is paid by every update. Of the
shipped pool that is an easier and a harder task of every domain."""
_SPLITS: tuple[Split, ...] = ("easy", "meta")
_FIELDS = ("question", "working", "answer")


@dataclass(frozen=True, slots=True)
class Anchor:
    """A real task: what is asked, how it is worked out (may be empty), and the gold answer."""

    question: str
    working: str
    answer: str

    @classmethod
    def of(cls, task: Task) -> Self:
        """The anchor that a generated task makes."""
        working, _, answer = task.solution.rpartition(MARKER)
        return cls(task.question, working, answer)

    def solution(self, marker: str) -> str:
        """The worked solution as a model writes it whose template marks the answer so."""
        return f"{self.working}{marker}{self.answer}"


@dataclass(frozen=True, slots=True)
class AnchorPool:
    """Anchors in the file's order, and the SHA-256 of the file's bytes."""

    digest: str
    anchors: tuple[Anchor, ...]

    def in_order_of(self, seed: int) -> Iterator[Anchor]:
        """Every anchor once, in the order that this seed gives."""
        places = list(range(len(self.anchors)))
        counter_rng("anchors", self.digest, seed).shuffle(places)
        return (self.anchors[place] for place in places)

    def to_compare(self) -> tuple[Anchor, ...]:
        """The first `COMPARED` of the anchors that are not among the longest quarter: every update reads them all."""
        lengths = sorted(map(_length, self.anchors))
        most = lengths[(len(lengths) - 1) * 3 // 4]
        return tuple(anchor for anchor in self.anchors if _length(anchor) <= most)[:COMPARED]


@cache
def shipped_pool() -> AnchorPool:
    """Tasks of every domain, half of them as easy as base training saw, half as meta-training did."""
    tasks = [
        one.sample(ANCHOR_SEEDS + place, split)
        for place in range(PER_DOMAIN // len(_SPLITS))
        for split in _SPLITS
        for one in DOMAINS.values()
    ]
    different = {task.question: Anchor.of(task) for task in tasks}
    lines = [json.dumps({name: getattr(one, name) for name in _FIELDS}) for one in different.values()]
    return parse_pool("\n".join(lines).encode(), "the shipped anchors")


def parse_pool(source: bytes, where: str = "anchors") -> AnchorPool:
    """Read a pool.

    Raises:
        TaskError: with `where`, the line and what is wrong with it.
    """
    if not 0 < len(source) <= MAX_BYTES:
        raise TaskError(f"{where}: a pool has 1 to {MAX_BYTES} bytes, this one {len(source)}. Name another file.")
    lines = enumerate(source.splitlines(), start=1)
    return AnchorPool(hashlib.sha256(source).hexdigest(), tuple(_read(line, f"{where}, line {i}") for i, line in lines))


def _read(line: bytes, where: str) -> Anchor:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{where}: not JSON ({error}). Mend or remove the line.") from None
    if not isinstance(raw, dict) or raw.keys() != set(_FIELDS) or not all(isinstance(raw[n], str) for n in _FIELDS):
        raise TaskError(f"{where}: an anchor has exactly the texts {', '.join(_FIELDS)}. Mend the line.")
    if not raw["question"].strip() or not raw["answer"].strip():
        raise TaskError(f"{where}: question and answer must not be empty. Mend the line.")
    return Anchor(raw["question"].strip(), raw["working"], raw["answer"].strip())


def _length(anchor: Anchor) -> int:
    return len(anchor.question) + len(anchor.working) + len(anchor.answer)
