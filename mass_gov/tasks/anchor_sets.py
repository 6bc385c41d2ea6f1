"""Anchors: real questions with worked solutions, on which a new state is compared with the base, word by word.

Rules: a set is a versioned file named by the digest of its bytes, read whole or refused. Its tasks are from the easy
split of base training, so that no suite, no evaluation and no calibration asks one of them; they are short, because
every update reads all of them. A released set is never rebuilt, only superseded.

Not known here: models, and what a divergence from the base means.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from mass_gov.errors import TaskError
from mass_gov.tasks.registry import DOMAINS
from mass_gov.tasks.task import TRAINING_SEEDS

SHIPPED = "core-v1"
MAX_BYTES = 1024 * 1024
_FIELDS = ("anchor_id", "domain", "question", "solution")
_MOST_CHARS = 30
"""Of a question and its solution together."""
_OFFSET = 900_000_000_000
"""Where in the range of base training the seeds begin."""


@dataclass(frozen=True, slots=True)
class AnchorSet:
    """(question, solution) in the file's order, and the SHA-256 of the file's bytes."""

    digest: str
    pairs: tuple[tuple[str, str], ...]


@cache
def shipped_anchors() -> AnchorSet:
    """The set that comes with this release."""
    return parse_anchors((files("mass_gov.tasks") / "anchors" / f"{SHIPPED}.jsonl").read_bytes(), SHIPPED)


def parse_anchors(source: bytes, where: str = "anchors") -> AnchorSet:
    """Read a set: JSON Lines, one object with exactly the fields `anchor_id`, `domain`, `question`, `solution` each.

    Raises:
        TaskError: with `where`, the line and what is wrong with it.
    """
    if not 0 < len(source) <= MAX_BYTES:
        raise TaskError(f"{where}: anchors have 1 to {MAX_BYTES} bytes, these {len(source)}. Use the shipped set.")
    pairs = tuple(_pair(line, f"{where}, line {i}") for i, line in enumerate(source.splitlines(), start=1))
    if len({question for question, _ in pairs}) != len(pairs):
        raise TaskError(f"{where}: a question stands there twice. Keep one of the two anchors.")
    return AnchorSet(hashlib.sha256(source).hexdigest(), pairs)


def build_anchors(name: str, per_domain: int) -> bytes:
    """The file of a set: `per_domain` short tasks of every domain, by the length of what is read."""
    found = [
        {
            "anchor_id": f"{name}/{domain}/{i}",
            "domain": domain,
            "question": task.question,
            "solution": task.solution,
        }
        for domain, one in DOMAINS.items()
        for i, task in enumerate(_short(one, per_domain))
    ]
    found.sort(key=lambda anchor: (len(anchor["question"]) + len(anchor["solution"]), anchor["anchor_id"]))
    return "".join(json.dumps(anchor, sort_keys=True) + "\n" for anchor in found).encode("ascii")


def _short(one: Any, count: int) -> list[Any]:
    found: dict[str, Any] = {}
    for seed in range(TRAINING_SEEDS + _OFFSET, TRAINING_SEEDS + _OFFSET + 10**6):
        if len(found) == count:
            return list(found.values())
        task = one.sample(seed, "easy")
        if len(task.question) + len(task.solution) <= _MOST_CHARS:
            found.setdefault(task.question, task)
    raise TaskError(f"{one.name} has no {count} short tasks: ask for fewer anchors")


def _pair(line: bytes, where: str) -> tuple[str, str]:
    try:
        raw: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{where}: not JSON ({error}). Mend or remove the line.") from None
    if not isinstance(raw, dict) or sorted(raw) != list(_FIELDS) or not all(type(raw[name]) is str for name in _FIELDS):
        raise TaskError(f"{where}: an anchor has exactly the fields {', '.join(_FIELDS)}, all text. Mend the line.")
    return raw["question"], raw["solution"]
