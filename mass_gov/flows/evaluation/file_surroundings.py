"""What methods may know about a question of a benchmark file: the file's other questions, and a pool if one is given.

Rules: question texts only. The pool comes from a file of its own (a benchmark's training part) and is trained on as
`{marker} {gold}`; questions of the evaluation are left out of it. There are no demonstrations, no path and no
sub-problems in a file: `unavailable` names the methods that need them, and they are refused before anything runs.

Does not know models.
"""

from __future__ import annotations

from collections.abc import Sequence

from mass_gov.errors import InputError

Pair = tuple[str, str]
NEEDS_POOL = ("ttt-random", "ttt-nearest")
NEEDS_DOMAIN = ("oracle-practice", "off-path")


class FileSurroundings:
    """The world of a benchmark file's questions."""

    def __init__(self, source: str, questions: Sequence[str], pool: Sequence[Pair] = ()) -> None:
        self._source = source
        self._questions = list(questions)
        asked = set(questions)
        self._pool = [pair for pair in pool if pair[0] not in asked]

    def group(self, question: str) -> str:
        """The file's name."""
        return self._source

    def pool(self) -> Sequence[Pair]:
        """The given pool without the evaluation's own questions."""
        return self._pool

    def another(self, question: str, seed: int) -> str:
        """Another question of the file. Raises InputError where it has no other."""
        others = [other for other in self._questions if other != question]
        if not others:
            raise InputError("the file has one question, and other-task-delta needs two. Evaluate more: --n 2.")
        return others[seed % len(others)]

    def demonstrations(self, question: str) -> Sequence[Pair]:
        """None: a word problem states no demonstration in a form that could be read."""
        return ()

    def on_path(self, question: str, practice: str) -> bool:
        """Refused: nothing says what a question of a file passes through."""
        raise InputError(_refusal("off-path"))

    def oracle(self, question: str, seed: int, count: int) -> Sequence[Pair]:
        """Refused: a file has no sub-problems."""
        raise InputError(_refusal("oracle-practice"))


def unavailable(methods: Sequence[str], pool: int, samples: int) -> str | None:
    """Why these methods cannot run on a file with a pool of this size; None where they can."""
    for name in methods:
        if name in NEEDS_POOL and pool < samples:
            return f"{name} needs a pool of at least {samples} solved problems. Name the training file: --pool FILE."
        if any(part in NEEDS_DOMAIN for part in name.split("/")):
            return _refusal(name)
    return None


def _refusal(name: str) -> str:
    return f"{name} needs a task domain that knows sub-problems, and a file has none. Leave the method out."
