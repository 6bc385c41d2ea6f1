"""Which change broke a case: a bisection of the states that a pointer's present one stands on.

Rules: the states are the base and, on it, each change that is active, materialised from their recorded deltas. Both
ends are looked at first. Where the base has the case right and the present state has it wrong, a bisection finds a
change with the case right before it and wrong after it, in 2 + log2(n) states; that is proven of this change, and
nothing is said of the others: a history that goes back and forth has several such changes, and `every` looks at all
states. Where the base has it wrong already, or the present state has it right, there is nothing to bisect, and that is
the answer.

A case of a suite is asked in the batch in which the suite asks it, so that it comes out as it did in the regression
runs: numerics depend on the batch. What was retired by a move to another base model is no part of what the pointer
stands on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from mass_gov.errors import InputError, NotFoundError
from mass_gov.flows.workbench import Workbench, origin_of
from mass_gov.ledger import ChangeView, StateView
from mass_gov.mass.prompting import parse_answer
from mass_gov.tasks.suites import Suite

Verdict = Literal["broken", "right now", "never right", "wrong on the base", "no history"]


@dataclass(frozen=True, slots=True)
class Probe:
    """A case, how it is asked, and when an answer of it is right.

    Attributes:
        batch: the questions that are asked together.
        position: which of them is the case.
    """

    name: str
    batch: tuple[str, ...]
    position: int
    gold: str
    is_right: Callable[[str | None], bool]


@dataclass(frozen=True, slots=True)
class Looked:
    """What one state answered. `position` counts from the base, 0."""

    position: int
    state: str
    change_id: str | None
    answer: str | None
    right: bool


@dataclass(frozen=True, slots=True)
class Blamed:
    """What was found.

    Attributes:
        verdict: `broken`: `change` has the case right before it and wrong after it. `right now`: the present state has
            it right. `wrong on the base`: the base and the present state have it wrong, and nothing between was looked
            at. `never right`: every state has it wrong. `no history`: the pointer stands on its base.
        change: the change that broke it; with `every` the newest such one.
        others: with `every`, older ones that broke it too: the history is not monotone then.
        looked: every state that was evaluated, in the order of the history.
        states: how many states there are.
    """

    verdict: Verdict
    change: ChangeView | None
    others: tuple[ChangeView, ...]
    looked: tuple[Looked, ...]
    states: int


def case_of(suite: Suite, case_id: str, batch_size: int) -> Probe:
    """The case of a suite, in its own batch.

    Raises:
        NotFoundError: the suite has no such case.
    """
    ids = [case.case_id for case in suite.cases]
    if case_id not in ids:
        raise NotFoundError(f"the suite has no case {case_id[:60]!r}. Its cases are {ids[0]} to {ids[-1]}.")
    place = ids.index(case_id)
    start = place - place % batch_size
    gold = suite.cases[place].answer
    batch = tuple(case.question for case in suite.cases[start : start + batch_size])
    return Probe(case_id, batch, place - start, gold, lambda answer: answer == gold)


def blame(bench: Workbench, probe: Probe, *, every: bool = False) -> Blamed:
    """Find the change that broke a case.

    Arguments:
        every: look at each state instead of bisecting.

    Raises:
        RefusedError: the pointer stands on another base model than the bench's.
        NotRetainedError: a delta that is needed was erased.
    """
    stack = bench.ledger.pointer_stack(bench.tenant, bench.deployment)
    if len(stack) <= 1:
        return Blamed("no history", None, (), (), len(stack))
    search = _Search(bench, probe, stack)
    if every:
        return search.all_states()
    return search.bisect()


@dataclass
class _Search:
    bench: Workbench
    probe: Probe
    stack: list[StateView]
    seen: dict[int, Looked] = field(default_factory=dict)

    def right(self, position: int) -> bool:
        """Whether a state has the case right; each is asked once."""
        if position not in self.seen:
            self.seen[position] = self._look(position)
        return self.seen[position].right

    def bisect(self) -> Blamed:
        """Right at the lower end and wrong at the upper one, until they are neighbours."""
        lower, upper = 0, len(self.stack) - 1
        if self.right(upper):
            return self._found("right now")
        if not self.right(lower):
            return self._found("wrong on the base")
        while upper - lower > 1:
            middle = (lower + upper) // 2
            lower, upper = (middle, upper) if self.right(middle) else (lower, middle)
        return self._found("broken", (upper,))

    def all_states(self) -> Blamed:
        """Every change with the case right before it and wrong after it."""
        outcomes = [self.right(position) for position in range(len(self.stack))]
        breaking = [i for i in range(len(outcomes) - 1, 0, -1) if outcomes[i - 1] and not outcomes[i]]
        if outcomes[-1]:
            return self._found("right now", breaking)
        return self._found("broken", breaking) if breaking else self._found("never right")

    def _look(self, position: int) -> Looked:
        bench, one = self.bench, self.stack[position]
        adapter = origin_of(bench, one.state, None).adapter
        tokens = bench.spec.answer.max_new_tokens
        generations = bench.learner.answer(
            self.probe.batch, adapter, max_new_tokens=tokens, batch_size=max(len(self.probe.batch), 1)
        )
        answer = parse_answer(generations[self.probe.position].text, bench.learner.template)
        change_id = one.change.change_id if one.change is not None else None
        return Looked(position, one.state, change_id, answer, self.probe.is_right(answer))

    def _found(self, verdict: Verdict, breaking: tuple[int, ...] | list[int] = ()) -> Blamed:
        changes = [self.stack[position].change for position in breaking]
        named = [change for change in changes if change is not None]
        first = named[0] if named and verdict == "broken" else None
        others = tuple(named[1:] if first is not None else named)
        looked = tuple(self.seen[position] for position in sorted(self.seen))
        return Blamed(verdict, first, others, looked, len(self.stack))


def question_probe(question: str, gold: str, is_right: Callable[[str | None], bool]) -> Probe:
    """A question of one's own and the answer that is right, asked alone.

    Raises:
        InputError: one of them is empty.
    """
    if not question.strip() or not gold.strip():
        raise InputError("a question needs the answer that is right: give both, --question TEXT --answer TEXT.")
    return Probe("question", (question,), 0, gold, is_right)
