"""The greedy answers to a task: by the base, by the parent and, where something was learned, by the new weights.

Rules: for one task alone, or for several tasks of one batch at once, each to the bits that it has at the batch's width
whoever is beside it. What was served for a state that was rolled back is no matter of this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mass_gov.flows.workbench import Origin, Workbench
from mass_gov.mass.metering import Meter
from mass_gov.mass.prompting import parse_answer
from mass_gov.mass.values import Adapter, Generation
from mass_gov.records.artifacts import AnswerContent, AnswerText, BatchContent
from mass_gov.stages.update import Learned


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and what was learned for it."""

    question: str
    learned: Learned


def answers(
    question: str, origin: Origin, learned: Learned, bench: Workbench, batch: BatchContent | None = None
) -> AnswerContent:
    """Answer with the base, with the parent's weights and, where something was learned, with the new ones.

    With `batch`, as the answers were written in that batch.
    """
    if batch is not None:
        return answers_together([Asked(question, learned)], origin, bench, batch.solve_width)[0][0]
    base = answer_from(question, bench.base_state, None, bench)
    parent = base if origin.adapter is None else answer_from(question, origin.state, origin.adapter, bench)
    adapted = (
        answer_from(question, learned.summary.state, learned.adapter, bench) if learned.files is not None else None
    )
    return AnswerContent(adapted=adapted, parent=parent, base=base)


def answer_from(question: str, state: str, adapter: Adapter | None, bench: Workbench) -> AnswerText:
    """Answer greedily with the weights of one state."""
    (generation,) = bench.learner.answer([question], adapter, max_new_tokens=bench.spec.answer.max_new_tokens)
    return _text(generation, state, bench)


def answers_together(
    asked: Sequence[Asked], origin: Origin, bench: Workbench, width: int
) -> list[tuple[AnswerContent, Meter]]:
    """The answers to several tasks that start from one origin, with what each costs alone."""
    costs = [Meter() for _ in asked]

    def ask(places: Sequence[int], states: Sequence[str], adapters: Sequence[Adapter | None]) -> dict[int, AnswerText]:
        if not places:
            return {}
        questions, limit = [[asked[place].question] for place in places], bench.spec.answer.max_new_tokens
        found = bench.learner.answer_together(questions, adapters, max_new_tokens=limit, width=width)
        for place, written in zip(places, found, strict=True):
            costs[place].add(written.cost)
        texts = zip(places, found, states, strict=True)
        return {place: _text(written.generations[0], state, bench) for place, written, state in texts}

    every, moved = range(len(asked)), [place for place, one in enumerate(asked) if one.learned.files is not None]
    base = ask(every, [bench.base_state] * len(asked), [None] * len(asked))
    parent = base if origin.adapter is None else ask(every, [origin.state] * len(asked), [origin.adapter] * len(asked))
    learned = [asked[place].learned for place in moved]
    adapted = ask(moved, [one.summary.state for one in learned], [one.adapter for one in learned])
    return [
        (AnswerContent(adapted=adapted.get(place), parent=parent[place], base=base[place]), costs[place])
        for place in every
    ]


def _text(generation: Generation, state: str, bench: Workbench) -> AnswerText:
    return AnswerText(
        state=state,
        tokens=generation.tokens,
        text=generation.text,
        answer=parse_answer(generation.text, bench.learner.template),
        finished=generation.finished,
    )
