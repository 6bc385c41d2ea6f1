"""Making regression suites from the suites' own seed range.

Rules: a suite asks for abilities that an update must keep, so practice domains have no cases: there every task defines
an operator of its own, and what an update stores about one is wrong for any other. A suite's questions lie in the hash
bucket that only suites may ask (`in_suite_bucket`), so no test task, no training example and no sub-problem ever
equals a case. A released suite is never rebuilt, only superseded by the next version. Which cases are critical is
chosen by whoever knows a model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mass_gov.errors import TaskError
from mass_gov.tasks.domains.base import in_suite_bucket
from mass_gov.tasks.registry import DOMAINS, AnyDomain
from mass_gov.tasks.suites import FORMAT, Suite, SuiteCase, SuiteHeader, parse_suite
from mass_gov.tasks.task import SUITE_SEEDS, Split

_SEED_SPAN = 10**6
_HARD_SHARE = 0.25


def build_suite(name: str, version: int, seed: int, n_per_domain: int) -> list[SuiteCase]:
    """Cases of every domain but the practice ones, the first three quarters easy, the rest hard; none critical yet.

    Args:
        name, version: the cases' ids begin with `{name}-v{version}`.
        seed: 0 .. 999,999; other seeds, other cases.

    Raises:
        TaskError: a number out of range, or a domain without enough distinct questions.
    """
    if n_per_domain < 1 or version < 1 or not 0 <= seed < _SEED_SPAN:
        raise TaskError(f"no suite for seed {seed}, {n_per_domain} a domain: use seed < 10^6 and at least one case")
    hard = int(n_per_domain * _HARD_SHARE)
    cases: list[SuiteCase] = []
    for one in (one for one in DOMAINS.values() if one.kind != "practice"):
        for split, count in (("easy", n_per_domain - hard), ("hard", hard)):
            prefix = f"{name}-v{version}/{one.name}/{split}"
            cases.extend(_distinct(one, "hard" if split == "hard" else "easy", count, seed, prefix))
    return cases


def _distinct(one: AnyDomain, split: Split, count: int, seed: int, prefix: str) -> list[SuiteCase]:
    found: dict[str, SuiteCase] = {}
    for index in range(_SEED_SPAN):
        if len(found) == count:
            return list(found.values())
        task = one.sample(SUITE_SEEDS + seed * _SEED_SPAN + index, split)
        case = SuiteCase(f"{prefix}/{len(found)}", one.name, split, task.question, task.answer, critical=False)
        found.setdefault(task.question, case)
    raise TaskError(f"{one.name} has no {count} distinct {split} cases: ask for fewer")


def describe(
    name: str, version: int, cases: Sequence[SuiteCase], *, margin: float, discordance: float, power: float, needed: int
) -> SuiteHeader:
    """The header of these cases; `needed` is what `mass_gov.policy.power.cases_needed` says of the other three."""
    return SuiteHeader(
        format=FORMAT,
        name=name,
        version=version,
        domains=tuple(dict.fromkeys(case.domain for case in cases)),
        cases=len(cases),
        critical=sum(case.critical for case in cases),
        margin=margin,
        discordance=discordance,
        power=power,
        needed=needed,
    )


def suite_bytes(cases: Sequence[SuiteCase], header: SuiteHeader | None = None) -> bytes:
    """The file of a suite: one JSON object a line, keys sorted, the header first."""
    first = [asdict(header)] if header is not None else []
    lines = first + [asdict(case) for case in cases]
    return "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode("ascii")


def load_suite(path: Path) -> Suite:
    """Read a suite file of generated tasks, and check what `parse_suite` can't: that its golds are golds.

    Raises:
        TaskError: the file cannot be read, a line is malformed, a question is of no known domain or of another one
            than stated, is not a suite's question, or the answer is wrong.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise TaskError(f"the suite {path} cannot be read ({error.strerror}). Check the path.") from error
    suite = parse_suite(source, str(path))
    for case in suite.cases:
        _check(case, str(path))
    return suite


def _check(case: SuiteCase, where: str) -> None:
    one = DOMAINS.get(case.domain)
    problem = None if one is None else one.parse(case.question)
    if one is None or problem is None:
        raise TaskError(f"{where}: {case.case_id} is no question of domain {case.domain!r}. Mend the case.")
    if one.split_of(problem) != case.split or not in_suite_bucket(case.question):
        raise TaskError(f"{where}: {case.case_id} is no {case.split} question of the suites. Build it anew.")
    if one.answer(problem) != case.answer:
        raise TaskError(f"{where}: the gold of {case.case_id} is wrong, {one.answer(problem)} is right. Mend the case.")
