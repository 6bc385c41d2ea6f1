"""Near-duplicates in a pool too large to compare pair by pair: MinHash and locality-sensitive hashing.

An estimate, for statistics over many changes (Broder, "On the Resemblance and Containment of Documents", 1997;
Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3). No verdict hangs on it: those are exact
(decision 0006). Seeded, so that the same pool gives the same number with the same datasketch, which is pinned.
"""

from __future__ import annotations

from collections.abc import Sequence

from datasketch import MinHash, MinHashLSH

from mass_gov.policy.similarity import normalise, shingles

PERMUTATIONS = 128
SIMILARITY = 0.8


def minhash(text: str) -> MinHash:
    """The signature of a normalised text's 4-grams."""
    signature = MinHash(num_perm=PERMUTATIONS, seed=1)
    signature.update_batch([run.encode() for run in sorted(shingles(normalise(text)))])
    return signature


def repeated_share(texts: Sequence[tuple[int, str]], similarity: float = SIMILARITY) -> float:
    """Share of texts that have a near-duplicate in another group than their own, in [0, 1].

    Arguments:
        texts: (group, text) of each.
    """
    index = MinHashLSH(threshold=similarity, num_perm=PERMUTATIONS)
    signatures = {normalise(text): minhash(text) for _, text in texts}
    groups: dict[str, set[int]] = {}
    for group, text in texts:
        groups.setdefault(normalise(text), set()).add(group)
    for text, signature in signatures.items():
        index.insert(text, signature)
    near = {
        text: [o for o in index.query(one) if signatures[o].jaccard(one) >= similarity]
        for text, one in signatures.items()
    }
    repeated = sum(any(groups[other] - {group} for other in near[normalise(text)]) for group, text in texts)
    return repeated / len(texts) if texts else 0.0
