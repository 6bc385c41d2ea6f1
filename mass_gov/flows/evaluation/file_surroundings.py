"""What methods may know about a question of a benchmark file: the file's other questions, and a pool if one is given.

Rules: question texts only. The pool comes from a file of its own (a benchmark's training part) and is trained on as
`{marker} {gold}`; questions of the evaluation are left out of it. There are no demonstrations, no path and no
sub-problems in a file: `unavailable` says which method needs them, and it is refused before anything runs.

Does not know models.
"""

from __future__ import annotations

from collections.abc import Sequence

from mass_gov.errors import InputError

Pair = tuple[str, str]
NEEDS_POOL = ("ttt-random", "ttt-nearest")
NEEDS_DOMAIN = ("oracle-practice", "off-path")
NEEDS_ANOTHER = "other-task-delta"


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
            raise InputError(_LONELY)
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

    def unavailable(self, methods: Sequence[str], samples: int) -> str | None:
        """Why one of these methods cannot run here, and what to do; None where all can."""
        for name in methods:
            parts, pool = name.split("/"), len(self._pool)
            if name in NEEDS_POOL and pool < samples:
                return (
                    f"{name} needs a pool of at least {samples} solved problems that are not asked, and has {pool}. "
                    "Name the training file of GSM8K, MATH or MMLU: --pool FILE."
                )
            if any(part in NEEDS_DOMAIN for part in parts):
                return _refusal(name)
            if NEEDS_ANOTHER in parts and len(set(self._questions)) < 2:
                return _LONELY
        return None


_LONELY = f"one question is asked, and {NEEDS_ANOTHER} needs two. Evaluate more, as with --n 2, or leave it out."


def _refusal(name: str) -> str:
    return f"{name} needs a task domain that knows sub-problems, and a file has none. Leave the method out."
