"""What one change's own samples and probe say to the window monitors, from texts alone: for learner and auditor alike.

Rules: nothing is computed that no gate of the policy asks for. Anchors do not count: the real tasks that a policy mixes
in would make a generator look wider than it is, and hide its collapse. Needs no model and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from mass_gov.policy.diversity import distinct_2
from mass_gov.policy.gate_settings import Gates
from mass_gov.policy.monitors.coverage import shown_by
from mass_gov.records.artifacts import CaseContent, SamplesContent
from mass_gov.records.change import Measure
from mass_gov.tasks.kinds import practice_kinds


def own_measures(question: str, samples: SamplesContent, gates: Gates) -> tuple[Measure, ...]:
    """What later windows have to know of these samples: diversity and kinds of the model's own that were kept."""
    own = [sample for sample in samples.samples if not sample.dropped_by and not sample.real]
    kept = [sample.question for sample in own if sample.question is not None]
    found = []
    if gates.window_distinct_2 != "unused":
        share = distinct_2(kept)
        # No pair of tokens, so none that was repeated.
        found.append(Measure(name="window.distinct_2.own", value=1.0 if share is None else share, n=len(kept)))
    if gates.window_tail_coverage != "unused" or gates.window_density_ratio != "unused":
        kinds: dict[str, list[str | None]] = {}
        for place in practice_kinds(question, kept):
            if place is not None:
                kinds.setdefault(place[0], []).append(place[1])
        shown = {domain: shown_by(domain, of) for domain, of in sorted(kinds.items())}
        found += [Measure(name=f"window.kinds.{name}", value=float(bits), n=n) for name, (bits, n) in shown.items()]
    return tuple(found)


def flip_measures(cases: Sequence[CaseContent] | None) -> tuple[Measure, ...]:
    """Count a probe's flips against the parent and against the base."""
    if cases is None:
        return ()
    counts = {
        "lost": sum(case.before and not case.after for case in cases),
        "gained": sum(case.after and not case.before for case in cases),
        "lost_to_base": sum(case.base and not case.after for case in cases),
        "gained_to_base": sum(case.after and not case.base for case in cases),
    }
    return tuple(
        Measure(name=f"window.flips.{name}", value=float(count), n=len(cases)) for name, count in counts.items()
    )
