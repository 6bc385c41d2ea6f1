"""Fresh cases for one change: asked of the states before and after it, and of no other.

Rules: the cases follow from the change's id alone, so that whoever knows it asks the same ones again; they are drawn
anew for each change, so no state was chosen by how it answers them. No case is asked twice in a probe, and none is a
question of a shipped suite: what passes the regression gates was selected on those, and would look better than it is.
The questions lie in the bucket that only suites and probes may ask (`in_suite_bucket`) and the seeds in a range of
their own, so no training example, no test task and no sub-problem equals a case. The domains are those of the suites,
in turn; three in four cases are easy.

Not promised: that no other change was ever asked the same question (a domain has some sixty hard ones), or that no
practice that a model writes happens to equal one. Neither depends on what the draw will be.
"""

from __future__ import annotations

import random

from mass_gov.errors import TaskError
from mass_gov.tasks.registry import DOMAINS, AnyDomain
from mass_gov.tasks.shipped_suites import questions_of
from mass_gov.tasks.suites import SuiteCase
from mass_gov.tasks.task import PROBE_SEEDS, Split, Task, counter_rng

SUITES = ("core-v1", "deployment-v1", "instance-v1")
"""Suites whose questions no probe asks. Recorded probes are drawn again: a later suite needs a later kind of probe."""
MOST = 400
"""Cases that one probe can have: every domain holds as many distinct ones."""
_SPAN = 10**12
_HARD_EVERY = 4
_TRIES = 10_000


def probe_cases(change_id: str, count: int) -> tuple[SuiteCase, ...]:
    """`count` different cases for this change, round-robin over the domains that suites ask about; none is critical.

    Raises:
        TaskError: more than `MOST` were asked for.
    """
    if count > MOST:
        raise TaskError(f"a probe has at most {MOST} cases, and {count} were asked for. Name fewer in the policy.")
    domains = [one for one in DOMAINS.values() if one.kind != "practice"]
    rng = counter_rng("probe", change_id)
    asked, cases = set(questions_of(SUITES)), []
    for index in range(count):
        one = domains[index % len(domains)]
        split: Split = "hard" if index // len(domains) % _HARD_EVERY == _HARD_EVERY - 1 else "easy"
        task = _unasked(one, split, rng, asked)
        asked.add(task.question)
        cases.append(SuiteCase(f"probe/{index}", one.name, split, task.question, task.answer, critical=False))
    return tuple(cases)


def _unasked(one: AnyDomain, split: Split, rng: random.Random, asked: set[str]) -> Task:
    for _ in range(_TRIES):
        task = one.sample(PROBE_SEEDS + rng.randrange(_SPAN), split)
        if task.question not in asked:
            return task
    raise TaskError(f"{one.name} has no {split} question left that was not asked yet: ask for fewer cases")
