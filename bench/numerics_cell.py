"""One row of `bench/numerics.py`, in a process of its own: a whole adaptation of the model that ships, and its digests.

    python bench/numerics_cell.py native|portable [--tokens 24] [--samples 4] [--times 1]

Samples are written, read by the scorer, weighed by the density ratio; two steps are taken on them, with every measure,
and projected; the task is answered by the new state and by the base. One JSON object: a digest of each stage over
everything that it gave, the canaries, CPU seconds of the adaptation (the fastest of `--times`), and whether the CPU
claims AVX2. A portable process must have begun so: give it `mass_gov.mass.numerics.environment`.
"""

from __future__ import annotations

import argparse
import json
import time
from hashlib import sha256
from typing import Any

import torch

from mass_gov.mass.density import density_ratios
from mass_gov.mass.learner import Learner
from mass_gov.mass.reference_model import trained_folder
from mass_gov.mass.values import LoraSettings, SamplingSettings, TrainingSample, UpdateSettings

QUESTION = "12 max 5"
REAL = [("3+4", "7"), ("12-5", "7"), ("2 max 9", "9")]


def adapt(learner: Learner, samples: int, tokens: int) -> dict[str, Any]:
    """Everything that each stage gives, floating-point numbers as hex."""
    start = learner.core.adapter if learner.core is not None else learner.initial_adapter(LoraSettings())
    settings = SamplingSettings(max_new_tokens=tokens)
    written = learner.write_samples(QUESTION, start, count=samples, seed=11, settings=settings)
    readings = learner.read_samples(QUESTION, [one.tokens for one in written])
    ratios = density_ratios([one.text for one in written], [f"{question} {answer}" for question, answer in REAL])
    weighed = [
        TrainingSample(question, one.text or answer, ratio / samples)
        for one, ratio, (question, answer) in zip(written, ratios, REAL * samples, strict=False)
    ]
    learned = learner.update(
        weighed, start, UpdateSettings(steps=2, step_size=0.5, max_norm=0.05), spectral=True, loss_after=True
    )
    divergence = learner.divergence(REAL, learned.adapter)
    answers = [learner.answer([QUESTION], state, max_new_tokens=tokens)[0] for state in (learned.adapter, None)]
    files = {name: sha256(data).hexdigest() for name, data in learner.write_adapter(learned.adapter).items()}
    return {
        "samples": [one.tokens for one in written],
        "readings": [(_hex(one.surprise), _hex(one.score)) for one in readings],
        "ratios": [_hex(ratio) for ratio in ratios],
        "delta": files,
        "losses": [_hex(loss) for loss in (*learned.losses, *learned.gradient_norms, learned.loss_after)],
        "norms": [repr(norms) for norms in learned.norms],
        "divergence": [[_hex(value) for value in row] for row in divergence],
        "answer": [one.tokens for one in answers],
    }


def _hex(value: float | None) -> str | None:
    return None if value is None else float(value).hex()


def main() -> None:
    """Print the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numerics", choices=("native", "portable"))
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--times", type=int, default=1)
    options = parser.parse_args()
    learner = Learner.open(trained_folder(), numerics=options.numerics)
    found, seconds = {}, []
    for _ in range(options.times):
        started = time.process_time()
        found = adapt(learner, options.samples, options.tokens)
        seconds.append(time.process_time() - started)
    fingerprint = learner.fingerprint()
    stages = {name: sha256(json.dumps(value).encode()).hexdigest() for name, value in found.items()}
    canaries = {name: value for name, value in fingerprint.items() if name.startswith("canary.")}
    row = {"digests": stages | canaries, "seconds": min(seconds), "avx2": torch.cpu._is_avx2_supported()}
    print(json.dumps(row | {"fingerprint": fingerprint}))


if __name__ == "__main__":
    main()
