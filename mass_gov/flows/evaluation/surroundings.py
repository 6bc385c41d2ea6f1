"""What methods may know about a question, from its text: domains, the training pool, demonstrations, sub-problems.

Rules: every function takes question texts; no task of the evaluation, and so no gold answer, ever comes in here. The
pool is drawn from the easy split with training seeds, never from the evaluation's. Demonstrations are what the text
states, with nothing computed from it:

    induction           every demonstration, asked with the others shown: `4>11 9>21 2>?` is 7
    operator, binary    every row of the table that the question writes out, stated as practice states it: `f2` is 0
    others              none

Does not know models or methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

from mass_gov.errors import InputError
from mass_gov.tasks.registry import AnyDomain, domain, recognise
from mass_gov.tasks.task import TRAINING_SEEDS, Task

POOL_PER_DOMAIN = 400
Pair = tuple[str, str]
_TRIES = 100


class DomainSurroundings:
    """The world of generated questions. `domains` names those that the evaluation is about; the pool holds no other."""

    def __init__(self, domains: Sequence[str]) -> None:
        self._domains = tuple(domains)

    def group(self, question: str) -> str:
        """The domain's name. Raises InputError for a question of none."""
        return _domain_of(question).name

    def pool(self) -> Sequence[Pair]:
        """Easy (question, worked solution) pairs, equally many of each domain, no question twice."""
        return self._pool

    @cached_property
    def _pool(self) -> list[Pair]:
        return [pair for name in self._domains for pair in _easy(domain(name), POOL_PER_DOMAIN)]

    def another(self, question: str, seed: int) -> str:
        """A hard question of the same domain that is drawn from `seed`, and not this one."""
        source = _domain_of(question)
        drawn = (source.sample((seed + i) % TRAINING_SEEDS, "hard").question for i in range(_TRIES))
        return next(text for text in drawn if text != question)

    def demonstrations(self, question: str) -> Sequence[Pair]:
        """(question, answer) pairs that the text states; empty for domains whose questions state none."""
        stated = _STATED.get(recognise(question) or "")
        return stated(question) if stated is not None else []

    def on_path(self, question: str, practice: str) -> bool:
        """Whether solving the question passes through the practice question."""
        source = _domain_of(question)
        return source.on_path(bare(question, source), practice)

    def oracle(self, question: str, seed: int, count: int) -> Sequence[Pair]:
        """`count` sub-problems as practice states them, with right worked solutions."""
        source = _domain_of(question)
        found = [source.subproblem(bare(question, source), seed % TRAINING_SEEDS + i) for i in range(count)]
        return [(one.practice or one.question, one.solution) for one in found]


def bare(question: str, source: AnyDomain) -> Task:
    """A task that holds its question and no answer: domains read the question again."""
    return Task("", source.name, source.kind, 0, "hard", 0, question, "", "")


def _domain_of(question: str) -> AnyDomain:
    name = recognise(question)
    if name is None:
        raise InputError(f"{question[:60]!r} is no question of a known domain. Leave this method out for such tasks.")
    return domain(name)


def _easy(source: AnyDomain, count: int) -> list[Pair]:
    found: dict[str, str] = {}
    for i in range(4 * count):
        task = source.sample(TRAINING_SEEDS + i, "easy")
        found.setdefault(task.question, task.solution)
        if len(found) == count:
            break
    return list(found.items())


def _induction_demonstrations(question: str) -> list[Pair]:
    *shown, _ = question.split(" ")
    found = []
    for place, pair in enumerate(shown):
        asked, _, answer = pair.partition(">")
        found.append((" ".join([*shown[:place], *shown[place + 1 :], f"{asked}>?"]), answer))
    return found


def _table_demonstrations(question: str) -> list[Pair]:
    """The rows of the table, as practice states them: trained on with the table in view they would teach nothing."""
    return [(f"f{row[0]}", row[1:]) for row in question.partition(":")[0].split(" ")]


_STATED: Mapping[str, Callable[[str], list[Pair]]] = MappingProxyType(
    {"induction": _induction_demonstrations, "operator": _table_demonstrations, "binary": _table_demonstrations}
)
