"""Random choice that can be repeated: one counter-based stream per sample, one number per token.

Rules: sample i of seed s at position t uses the t-th number of Philox4x64-10 (Salmon et al., 2011) keyed by the first
128 bits of SHA-256(scheme, s, i), whatever the other samples do or how far they got; a token is the inverse of the
cumulative float64 softmax at that number. `SCHEME` names this procedure in the fingerprint and changes with it.

Does not know models: it is given logits.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

SCHEME = "philox4x64-sha256-inverse-cdf-v1"


def uniforms(seed: int, index: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The first `count` numbers in [0, 1) of sample `index`, float64: the top 53 bits of each raw 64-bit draw."""
    key = hashlib.sha256(f"{SCHEME}\0{seed}\0{index}".encode()).digest()[:16]
    raw = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(count)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def uniform_table(seed: int, rows: int, count: int) -> Tensor:
    """(rows, count) float64: row i is `uniforms(seed, i, count)`."""
    return torch.from_numpy(np.stack([uniforms(seed, index, count) for index in range(rows)]))


def draw(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Token ids (batch,) for logits (batch, vocabulary) and numbers (batch,): the first id whose CDF exceeds u."""
    cdf = torch.softmax(logits.double() / temperature, dim=-1).cumsum(dim=-1)
    total = cdf[:, -1:].contiguous()
    chosen = torch.searchsorted(cdf, uniform[:, None] * total, right=True)
    last = torch.searchsorted(cdf, total)  # rounding may put u * total at the total; never pick an id past the last
    return torch.minimum(chosen, last)[:, 0]
