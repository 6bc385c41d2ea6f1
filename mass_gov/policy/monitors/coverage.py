"""How the kinds of generated practice compare with the reference pool's: tail coverage and density ratio.

What is recorded per change and domain is which kinds its kept samples showed (a set of bits) and how many they were: no
text, and enough to compare whole windows afterwards, from the log alone. Bit 0 is `other`: rare kinds, and text that
the domain cannot read; the rest are the table's kinds in its order.

Tail coverage: the tail of a domain is the rarer half of its kinds. A generator that lost nothing shows a kind of
probability p in n draws with probability 1 - (1-p)^n, so

    coverage = (PRIOR + tail kinds shown in the window) / (PRIOR + tail kinds that such a generator would show)

The draws of a change are the kinds that it showed, not its samples: those are practice for one task and repeat its
kinds, and counted one by one they would make healthy windows of few changes look as if their tail were gone.

Recursive self-training loses the tails of a distribution first (Shumailov et al., "AI models collapse when trained on
recursively generated data", Nature 2024), while accuracy on what is common still stands.

Density ratio: the histogram estimate (Sugiyama, Suzuki & Kanamori 2012, section 2.2) of generated over real: in how
many changes a kind was shown over in how many it would be, PRIOR added to both. The statistic is the largest one;
`other` has no density.

Where the window holds no sample of a known domain both are 1: of a model with other tasks these monitors know nothing.
Decimal arithmetic, so that an auditor's machine finds the same bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Context, Decimal, localcontext
from functools import lru_cache
from types import MappingProxyType

from mass_gov.policy.monitors.reference import COUNTS, DRAWS

PRIOR = 5
"""Kinds (or changes) as expected that every ratio starts from, so that a short window says little."""
OTHER = 0
_CONTEXT = Context(prec=34)

Shown = tuple[int, int]
"""Of one change in one domain: the bits of the kinds that its samples showed, and how many samples there were."""


def _bits(kinds: Mapping[str, int]) -> Mapping[str, int]:
    return MappingProxyType({kind: bit for bit, kind in enumerate(kinds, start=1)})


BITS: Mapping[str, Mapping[str, int]] = MappingProxyType({name: _bits(kinds) for name, kinds in COUNTS.items()})
"""Per domain: the bit of every kind."""


def _rarer_half(counts: Mapping[str, int]) -> tuple[int, ...]:
    order = sorted(counts, key=lambda kind: (counts[kind], kind))
    bits = list(counts)
    return tuple(sorted(bits.index(kind) + 1 for kind in order[: len(order) // 2]))


TAIL: Mapping[str, tuple[int, ...]] = MappingProxyType({name: _rarer_half(kinds) for name, kinds in COUNTS.items()})
"""Per domain: bits of the tail kinds."""


def shown_by(domain: str, kinds: Iterable[str | None]) -> Shown:
    """What one change's samples in a domain showed; None is a text that the domain cannot read."""
    bits, n = 0, 0
    for kind in kinds:
        bits |= 1 << BITS[domain].get(kind or "", OTHER)
        n += 1
    return bits, n


def tail_coverage(window: Mapping[str, Iterable[Shown]]) -> float:
    """Tail kinds shown in the window over those that a generator like the pool would show, both with the prior."""
    with localcontext(_CONTEXT):
        covered = expected = Decimal(PRIOR)
        for domain, changes in window.items():
            bits, draws = 0, 0
            for seen, _ in changes:
                bits |= seen
                draws += seen.bit_count()
            covered += sum(bits >> bit & 1 for bit in TAIL[domain])
            expected += sum((_chance(domain, draws)[bit] for bit in TAIL[domain]), Decimal(0))
        return float(covered / expected)


def density_ratio(window: Mapping[str, Iterable[Shown]]) -> float:
    """The largest ratio of changes that showed a kind to changes that would have shown it; at least 1."""
    with localcontext(_CONTEXT):
        ratios = [Decimal(1)]
        for domain, changes in window.items():
            seen, sizes = Counter[int](), Counter[int]()
            for bits, n in changes:
                sizes[n] += 1
                seen.update(bit for bit in range(bits.bit_length()) if bits >> bit & 1)
            for bit in seen.keys() - {OTHER}:
                expected = sum((count * _chance(domain, n)[bit] for n, count in sizes.items()), Decimal(0))
                ratios.append((PRIOR + seen[bit]) / (PRIOR + expected))
        return float(max(ratios))


@lru_cache(maxsize=4096)
def _chance(domain: str, draws: int) -> tuple[Decimal, ...]:
    """Per bit: the probability that so many draws from the pool show its kind."""
    with localcontext(_CONTEXT):
        counts = [DRAWS - sum(COUNTS[domain].values()), *COUNTS[domain].values()]
        return tuple(1 - (1 - Decimal(count) / DRAWS) ** draws for count in counts)
