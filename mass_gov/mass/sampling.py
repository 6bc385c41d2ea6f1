"""Random choice that can be repeated: counter-based streams, one number per sample and token.

Rules: stream i of seed s is Philox4x64-10 (Salmon et al., 2011) keyed by the first 128 bits of SHA-256(name, s, i);
which number sample i of m uses at position t is a function of (s, i, m, t), whatever the samples before it turned out
to be or how far they got; a token is the inverse of the cumulative float64 softmax at that number. `SCHEME` names this
procedure in the fingerprint and changes with it.

Does not know models: it is given logits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SCHEME = "philox4x64-sha256-latin-hypercube-inverse-cdf-v2"
_KEY = "philox4x64-sha256-inverse-cdf-v1"  # what keys the streams; they have not changed since


def uniforms(seed: int | str, index: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The first `count` numbers in [0, 1) of sample `index`, float64: the top 53 bits of each raw 64-bit draw."""
    key = hashlib.sha256(f"{_KEY}\0{seed}\0{index}".encode()).digest()[:16]
    raw = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(count)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def uniform_table(seed: int, rows: int, count: int) -> Tensor:
    """(rows, count) float64: row i is `uniforms(seed, i, count)`."""
    return torch.from_numpy(np.stack([uniforms(seed, index, count) for index in range(rows)]))


def latin_hypercube(seed: int, rows: int, count: int) -> Tensor:
    """(rows, count) float64: in every column each of `rows` equal strata of [0, 1) is hit once (McKay et al., 1979).

    Each row alone is as uniform as `uniforms`; together the rows spread, so that m samples of one task differ as often
    as they can: eight draws from seven equally likely beginnings meet 6.2 of them on average, and not 5. Number t of
    row i is (rank + u) / rows, with u from `uniforms(seed, i, ...)` and the rank that of row i among streams -1, -2,
    ... of the same seed.
    """
    ranked = torch.from_numpy(np.stack([uniforms(seed, -1 - index, count) for index in range(rows)]))
    ranks = ranked.argsort(dim=0).argsort(dim=0)
    return (ranks.double() + uniform_table(seed, rows, count)) / rows


def again_table(seed: int, streams: Sequence[int], each: int, count: int) -> Tensor:
    """(len(streams) * each, count) float64: row j of a stream is `uniforms(seed + "again", stream * each + j)`.

    Streams of their own, so that a fresh solution repeats nothing that a sample of the same seed was drawn with.
    """
    rows = [uniforms(f"{seed}\0again", stream * each + j, count) for stream in streams for j in range(each)]
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, count, dtype=torch.float64)


def draw(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Token ids (batch,) for logits (batch, vocabulary) and numbers (batch,): the first id whose CDF exceeds u."""
    cdf = torch.softmax(logits.double() / temperature, dim=-1).cumsum(dim=-1)
    total = cdf[:, -1:].contiguous()
    chosen = torch.searchsorted(cdf, uniform[:, None] * total, right=True)
    last = torch.searchsorted(cdf, total)  # rounding may put u * total at the total; never pick an id past the last
    return torch.minimum(chosen, last)[:, 0]
