"""A candidate policy over the changes that were recorded: which decisions would have been others.

Rules: what is compared is the policy's own decision, not what people made of it later. A recorded change was computed
under its own policy: where the candidate needs a statistic that was not recorded, or would have computed another one
(another suite, another threshold for a sample, another projection), its decision is `unknown`, and what was missing is
named. It is known all the same where what is known already rejects the change. Changes are read in pages and
forgotten: memory does not grow with the log. Needs no model and no torch; the policies in the log are sealed, so it
needs the keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from mass_gov.ledger import Ledger
from mass_gov.policy import Policy, decide, judge, load_policy
from mass_gov.policy.backtesting import OTHER_STEP, SUITE, computed_otherwise, not_recorded
from mass_gov.policy.judgement import facts_of
from mass_gov.records.change import ChangeBody, Decision, Scope, Verdict

PAGE = 256
Outcome = Literal["apply", "hold", "reject", "unknown"]


@dataclass
class Backtest:
    """What came out, in numbers that do not grow with the log."""

    changes: int = 0
    outcomes: Counter[tuple[Verdict, Outcome]] = field(default_factory=Counter)
    """(recorded, under the candidate) to how many changes."""
    reasons: dict[tuple[Verdict, Outcome], Counter[str]] = field(default_factory=dict)
    """Of decisions that flip: what stands in the way now, or stood in it before, to how many."""
    examples: dict[tuple[Verdict, Outcome], list[str]] = field(default_factory=dict)
    """Of decisions that flip: the first ids."""
    missing: Counter[str] = field(default_factory=Counter)
    """What was not recorded, or would have been computed otherwise, to how many changes it left unknown."""

    @property
    def flips(self) -> int:
        """Decisions that are known to be others."""
        return sum(n for (old, new), n in self.outcomes.items() if new not in (old, "unknown"))

    @property
    def unknown(self) -> int:
        """Changes of which nobody can tell."""
        return sum(n for (_, new), n in self.outcomes.items() if new == "unknown")


def backtest(
    ledger: Ledger,
    candidate: Policy,
    *,
    suites: Mapping[Scope, str],
    since: str | None = None,
    examples: int = 5,
) -> Backtest:
    """Replay a policy over recorded changes.

    Arguments:
        suites: digest of the candidate's suite by scope.
        since: only changes recorded at this moment or later (RFC 3339, UTC).
        examples: how many change ids to keep of each kind of flip.

    Raises:
        KeyUnavailableError: the ledger was opened without keys.
    """
    found = Backtest()

    @lru_cache(maxsize=32)
    def recorded_policy(digest: str) -> Policy:
        return load_policy(ledger.policy_bytes(digest))

    for change in _changes(ledger, since):
        _count(found, change, candidate, recorded_policy(change.parents.policy), suites, examples)
    return found


def _changes(ledger: Ledger, since: str | None) -> Iterator[ChangeBody]:
    cursor: int | None = None
    while page := ledger.changes(limit=PAGE, cursor=cursor, newest_first=False):
        for view in page:
            if since is None or view.body.identity.recorded_at >= since:
                yield view.body
        cursor = page[-1].index


def _count(
    found: Backtest,
    change: ChangeBody,
    candidate: Policy,
    recorded: Policy,
    suites: Mapping[Scope, str],
    examples: int,
) -> None:
    old, (new, because, missing) = change.decision, _again(change, candidate, recorded, suites)
    kind = (old.verdict, new)
    found.changes += 1
    found.outcomes[kind] += 1
    if new == "unknown":
        found.missing.update(missing)
    elif new != old.verdict:
        found.reasons.setdefault(kind, Counter()).update(because or _names(old))
        kept = found.examples.setdefault(kind, [])
        if len(kept) < examples:
            kept.append(change.identity.change_id)


def _again(
    change: ChangeBody, candidate: Policy, recorded: Policy, suites: Mapping[Scope, str]
) -> tuple[Outcome, Sequence[str], Sequence[str]]:
    """The candidate's decision, what stands in the way, and what is missing to know it."""
    facts = facts_of(change)
    gates = judge(facts, candidate)
    missing = dict.fromkeys((*computed_otherwise(change, candidate, recorded, suites), *not_recorded(facts, candidate)))
    if missing:
        # What is known can only be joined by more that stands in the way: a reject stays one.
        gates = tuple(gate for gate in gates if not _hangs_on(gate.name, missing))
    decision = decide(gates, facts.update, facts.scope, candidate, facts.measures)
    if missing and (decision.verdict != "reject" or not OTHER_STEP.isdisjoint(missing)):
        return "unknown", (), tuple(missing)
    return decision.verdict, _names(decision) if decision.verdict != "apply" else (), ()


def _hangs_on(gate: str, missing: Mapping[str, None]) -> bool:
    return gate in missing or (gate.startswith("regression.") and SUITE in missing)


def _names(decision: Decision) -> Sequence[str]:
    return decision.violated or (decision.reason,)
