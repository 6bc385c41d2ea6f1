"""What stands in a change's window, and every `window.*` measure that follows from it.

Rules:

  1. the window is the deployment's last changes with a new state, this one included, after the last alarm: an alarm
     freezes learning, so whatever comes after it was let go on by an operator, and starts anew
  2. every change records the newest earlier change that it was judged with (`window.head`; its n counts the changes
     since the last alarm) and the last alarm (`window.since`), so that anybody finds the same window; one that
     was recorded while this one was computed is in the next window, not in this
  3. a change records what only its samples and its probe tell (`OWN`), the window's figures follow from the leaves
  4. flips are counted over the changes that asked a probe; the others are judged on none
  5. a window that is not full starts from neutral values: diversity from PRIOR_CHANGES changes without a repetition,
     coverage and density from `coverage.PRIOR`, the e-process from 1

The learner and `verify` call the same `measures_of`. What this does not know: samples, models, or how leaves are read.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mass_gov.policy.gate_settings import FlipsGate, Gates
from mass_gov.policy.measures import KINDS, OWN
from mass_gov.policy.monitors import coverage, flips
from mass_gov.records.change import ChangeBody, Measure, Scope

PRIOR_CHANGES = 10
"""Changes that a window starts from, each without a repeated pair of words."""
HEAD, SINCE = "window.head", "window.since"
_KINDS = dict(zip(KINDS, coverage.BITS, strict=True))


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier change: its log index, scope, measures, and whether it raised an alarm."""

    index: int
    scope: Scope
    measures: Mapping[str, Measure]
    alarmed: bool

    def number(self, name: str) -> float | None:
        """The value of a measure, None where there is none."""
        return self.measures[name].value if name in self.measures else None


@dataclass(frozen=True, slots=True)
class History:
    """Earlier changes of one deployment with a new state, oldest first: the last of all scopes, and the last probed.

    `Reach` says how many of each; more than that is never looked at.
    """

    recent: tuple[Past, ...] = ()
    probed: tuple[Past, ...] = ()


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back the windows of a policy look: twice the longest, so that changes made at once push none out."""

    recent: int
    probed: int
    scopes: tuple[Scope, ...] = field(default=())
    """Scopes of the changes that ask a probe."""

    def cut(self, history: History) -> History:
        """The part of a longer history that the windows look at."""
        probed = tuple(past for past in history.probed if past.scope in self.scopes)
        return History(_last(history.recent, self.recent), _last(probed, self.probed))


def reach_of(gates: Gates) -> Reach | None:
    """How far back these gates look; None where no window gate is in use."""
    longest = max((gate.window for gate in gates.used("window").values()), default=0)
    if longest == 0:
        return None
    probes = gates.window_flips
    return Reach(2 * longest, 0) if probes == "unused" else Reach(2 * longest, 2 * probes.window, probes.scopes)


def past_of(index: int, change: ChangeBody) -> Past:
    """What later windows have to know of a recorded change."""
    measures = {measure.name: measure for measure in change.measures or () if measure.name in _KEPT}
    return Past(index, change.identity.scope, measures, alarm_of(change) is not None)


def alarm_of(change: ChangeBody) -> str | None:
    """The first window gate that a recorded change failed: learning freezes for its sake."""
    return next((gate.name for gate in change.gates if gate.level == "window" and gate.verdict == "fail"), None)


def measures_of(gates: Gates, own: Mapping[str, Measure], history: History) -> tuple[Measure, ...]:
    """Every measure of the window.

    Arguments:
        gates: those that judge this change.
        own: this change's measures so far, those of `OWN` and `update.generation_depth` among them.
        history: the deployment's earlier changes, cut to the policy's reach.
    """
    since = _since(history)
    recent = [past for past in history.recent if since is None or past.index > since]
    probed = [past for past in history.probed if since is None or past.index > since]
    newest = history.recent[-1] if history.recent else None
    count = max((past.measures[HEAD].n for past in recent if HEAD in past.measures), default=0) + 1
    found = [
        Measure(name=HEAD, value=float(newest.index) if newest else None, n=count),
        Measure(name=SINCE, value=float(since) if since is not None else None, n=0),
    ]
    if gates.window_flips != "unused":
        found += _flips(gates.window_flips, own, probed)
    if gates.window_distinct_2 != "unused":
        values = _values("window.distinct_2.own", own, _last(recent, gates.window_distinct_2.window - 1))
        found += _mean("window.distinct_2", values, PRIOR_CHANGES)
    if gates.window_generation_depth != "unused":
        values = _values("update.generation_depth", own, _last(recent, gates.window_generation_depth.window - 1))
        found += _mean("window.generation_depth", values, 0) if "update.generation_depth" in own else []
    return (*found, *_compared_with_the_pool(gates, own, recent))


def _compared_with_the_pool(gates: Gates, own: Mapping[str, Measure], recent: Sequence[Past]) -> Iterator[Measure]:
    tail, density = gates.window_tail_coverage, gates.window_density_ratio
    if tail != "unused":
        shown, n = _shown(own, _last(recent, tail.window - 1))
        yield Measure(name="window.tail_coverage", value=coverage.tail_coverage(shown), n=n)
    if density != "unused":
        shown, n = _shown(own, _last(recent, density.window - 1))
        yield Measure(name="window.density_ratio", value=coverage.density_ratio(shown), n=n)


def _since(history: History) -> int | None:
    """The last alarm that the history knows of: one of its own, or one that a change names."""
    alarms = [past.index for past in (*history.recent, *history.probed) if past.alarmed]
    named = [past.number(SINCE) for past in (*history.recent, *history.probed)]
    return max([*alarms, *(int(index) for index in named if index is not None)], default=None)


def _flips(gate: FlipsGate, own: Mapping[str, Measure], probed: Sequence[Past]) -> list[Measure]:
    """The e-process, one probe further; nothing where this change asked none, so that its gate fails."""
    if any(name not in own for name in _FLIPS):
        return []
    before = [past for past in probed if all(name in past.measures for name in (*_FLIPS, "window.flips"))]
    number = max((past.measures["window.flips"].n for past in before), default=0) + 1
    block = flips.block_of(number, gate.window)
    inside = [p.measures for p in before if flips.block_of(p.measures["window.flips"].n, gate.window) == block]
    earlier = [p for p in before if flips.block_of(p.measures["window.flips"].n, gate.window) < block]
    start = earlier[-1].number("window.flips") if earlier else None
    values = [
        flips.e_value(flips.total(_counts(names, measures) for measures in (*inside, own)), gate.tolerance)
        for names in (_FLIPS[:2], _FLIPS[2:])
    ]
    value = flips.carried(1.0 if start is None else start, block, sum(values) / len(values))
    return [Measure(name="window.flips", value=value, n=number)]


_FLIPS = ("window.flips.lost", "window.flips.gained", "window.flips.lost_to_base", "window.flips.gained_to_base")
_KEPT = frozenset((*OWN, *_FLIPS, HEAD, SINCE, "window.flips", "update.generation_depth"))


def _counts(names: Sequence[str], measures: Mapping[str, Measure]) -> flips.Flips:
    lost, gained = (measures[name] for name in names)
    return flips.Flips(int(lost.value or 0), int(gained.value or 0), lost.n)


def _values(name: str, own: Mapping[str, Measure], window: Sequence[Past]) -> list[float]:
    values = [past.number(name) for past in window] + ([own[name].value] if name in own else [])
    return [value for value in values if value is not None]


def _mean(name: str, values: Sequence[float], prior: int) -> list[Measure]:
    """The mean of an exactly rounded sum (the same bits everywhere); below `prior` values the missing ones are 1."""
    n = len(values)
    if n == 0:
        return []
    whole = max(n, prior)
    return [Measure(name=name, value=math.fsum([*values, whole - n]) / whole, n=n)]


def _shown(own: Mapping[str, Measure], window: Sequence[Past]) -> tuple[dict[str, list[coverage.Shown]], int]:
    """Per domain what each change of the window showed, and the number of samples."""
    found: dict[str, list[coverage.Shown]] = defaultdict(list)
    for measures in (*(past.measures for past in window), own):
        for name, domain in _KINDS.items():
            if name in measures and measures[name].value is not None:
                found[domain].append((int(measures[name].value or 0), measures[name].n))
    return found, sum(n for changes in found.values() for _, n in changes)


def _last(items: Sequence[Past], count: int) -> tuple[Past, ...]:
    return tuple(items[-count:]) if count > 0 else ()
