"""Which recorded things to replay when many are asked for: every change, and every answer that no change stands behind.

Rules: they are found in the signed events, in the order of the log, and not in what derives from them. An event that
cannot be read stays in the list with what is wrong with it, because it may have been one of them. A draw is a matter of
the seed and the ids alone, so that whoever has the seed draws the same again, on any machine: the smallest digests of
seed and id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mass_gov.errors import IntegrityError
from mass_gov.evidence.canonical import sha256_hex
from mass_gov.ledger import Entry, Ledger
from mass_gov.records.events import ChangeRecorded, ResponseServed


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to replay: its log index and its id; `fault` says why the event cannot be read."""

    index: int
    name: str
    fault: str = ""


def recorded_targets(ledger: Ledger, *, start: int = 0, since: str = "") -> list[Target]:
    """What can be replayed, oldest first.

    Arguments:
        start: the first log index to look at.
        since: only events whose own time is this one or later, in the form of events.
    """
    found = (_target(one, since) for one in _readable(ledger, start))
    return [target for target in found if target is not None]


def draw(targets: Sequence[Target], count: int, seed: int) -> list[Target]:
    """Draw `count` of them without replacement, each as likely as any other; the order stays that of the log."""
    chosen = sorted(targets, key=lambda target: sha256_hex(f"{seed}:{target.name}".encode()))[:count]
    return sorted(chosen, key=lambda target: target.index)


def _target(one: Entry | Target, since: str) -> Target | None:
    if isinstance(one, Target):
        return one
    if one.predicate.time < since:
        return None
    match one.predicate.body:
        case ChangeRecorded(change=change):
            return Target(one.index, change.identity.change_id)
        case ResponseServed(change_id=None, response_id=response_id):
            return Target(one.index, response_id)
        case _:
            return None


def _readable(ledger: Ledger, start: int) -> Iterator[Entry | Target]:
    """Every event as it stands now, and in the place of one that is not what was signed, what is wrong with it."""
    index, size = start, ledger.size
    while index < size:
        try:
            for entry in ledger.entries(index, size):
                yield entry
                index = entry.index + 1
            return
        except IntegrityError as error:
            yield Target(index, f"event {index}", str(error))
            index += 1
