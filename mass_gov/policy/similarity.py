"""How alike two questions are: what a copy cannot hide behind, and the Jaccard index of what is left.

Rules: exact, and the same number on every machine, because a verdict hangs on it and an auditor finds it again
(decision 0006). An index over many questions finds the nearest one without comparing with each.

Does not know gates, or what is done about a copy.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

SHINGLE = 4

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Default_Ignorable_Code_Point of Unicode 16 (DerivedCoreProperties.txt): what is not shown hides nothing."""
_CLOSING = ".?!,;:\u2026\u3002\u037e\u060c\u061b\u061f"
"""Marks that end a sentence, after NFKC: with or without them it is the same question."""


def normalise(text: str) -> str:
    """Reduce a question to what a copy cannot hide behind.

    Compatibility-normalised and case-folded; characters that are not shown, white space, and the marks that end the
    sentence are gone.
    """
    # Folding can bring back what NFKC composes otherwise, so it is normalised once more (UAX 15, NFKC_Casefold).
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", shown(text)).casefold())
    compact = "".join(shown(folded).split())
    return compact.rstrip(_CLOSING) or compact


def shown(text: str) -> str:
    """The characters of `text` that a reader sees."""
    if text.isascii():
        return text  # it has none of the others
    visible = _INVISIBLE.sub("", text)
    return "".join(letter for letter in visible if unicodedata.category(letter) != "Cf")


def similarity(first: str, second: str, task: str = "") -> float:
    """Return the Jaccard index of what the two questions have beyond the task, in [0, 1]."""
    kept = KeptQuestions(task)
    kept.keep(second)
    return kept.nearest(first)


class KeptQuestions:
    """The questions of one change that were let through, each normalised once."""

    def __init__(self, task: str = "") -> None:
        """`task`: what it gives to all of them does not count."""
        self._given = shingles(normalise(task)) if task else frozenset[str]()
        self._kept: list[tuple[str, frozenset[str]]] = []

    def keep(self, question: str) -> None:
        """Compare later ones with this one too."""
        text = normalise(question)
        self._kept.append((text, shingles(text) - self._given))

    def nearest(self, question: str) -> float:
        """The largest Jaccard index with a kept one, in [0, 1]; 0 where there is none."""
        text = normalise(question)
        beyond = shingles(text) - self._given
        return max((1.0 if text == other else _jaccard(beyond, its) for other, its in self._kept), default=0.0)


def _jaccard(one: frozenset[str], two: frozenset[str]) -> float:
    shared = len(one & two)
    union = len(one) + len(two) - shared
    return shared / union if union else 0.0


def shingles(text: str) -> frozenset[str]:
    """Every run of four characters of a normalised text; a shorter text is one run."""
    return frozenset(text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1)))


class NearestCase:
    """Finds the most similar of many questions, exactly: shared 4-grams are counted by an inverted index."""

    def __init__(self, cases: Mapping[str, str]) -> None:
        """`cases`: name -> question."""
        self._sizes: list[tuple[str, str, int]] = []
        self._holders: dict[str, list[int]] = {}
        for place, (name, question) in enumerate(cases.items()):
            text = normalise(question)
            runs = shingles(text)
            self._sizes.append((name, text, len(runs)))
            for run in runs:
                self._holders.setdefault(run, []).append(place)

    def nearest(self, question: str) -> tuple[float, str | None]:
        """The largest Jaccard index in [0, 1] and the first case that has it; (0, None) where nothing is shared."""
        text = normalise(question)
        runs = shingles(text)
        shared = Counter(place for run in runs for place in self._holders.get(run, ()))
        best, name = 0.0, None
        for place in sorted(shared):
            case, its_text, size = self._sizes[place]
            common = shared[place]
            value = 1.0 if its_text == text else common / (len(runs) + size - common)
            if value > best:
                best, name = value, case
        return best, name


def nearest_case(cases: Mapping[str, str]) -> NearestCase:
    """The index over these cases; the same cases are indexed once."""
    return _indexed(tuple(cases.items()))


@lru_cache(maxsize=8)
def _indexed(cases: tuple[tuple[str, str], ...]) -> NearestCase:
    return NearestCase(dict(cases))
