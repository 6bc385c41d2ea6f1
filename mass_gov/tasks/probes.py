"""Fresh cases for one change: asked once, of the states before and after it, and never again.

Rules: the cases follow from the change's id alone, so that whoever knows it asks the same ones again; an id is used for
one change, so that nobody could have learned from them before. Their questions lie in the bucket that only suites and
probes may ask (`in_suite_bucket`) and their seeds in a range of their own, so no training example, no test task and no
sub-problem equals a case. The domains are those of the suites, in turn; three in four cases are easy.
"""

from __future__ import annotations

from mass_gov.tasks.registry import DOMAINS
from mass_gov.tasks.suites import SuiteCase
from mass_gov.tasks.task import PROBE_SEEDS, Split, counter_rng

_SPAN = 10**12
_HARD_EVERY = 4


def probe_cases(change_id: str, count: int) -> tuple[SuiteCase, ...]:
    """`count` cases for this change, round-robin over the domains that suites ask about; none is critical."""
    domains = [one for one in DOMAINS.values() if one.kind != "practice"]
    rng = counter_rng("probe", change_id)
    cases = []
    for index in range(count):
        one = domains[index % len(domains)]
        split: Split = "hard" if index // len(domains) % _HARD_EVERY == _HARD_EVERY - 1 else "easy"
        task = one.sample(PROBE_SEEDS + rng.randrange(_SPAN), split)
        cases.append(SuiteCase(f"probe/{index}", one.name, split, task.question, task.answer, critical=False))
    return tuple(cases)
