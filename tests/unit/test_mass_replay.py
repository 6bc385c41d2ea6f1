"""The same call gives the same bits: in this process after other work, and in a fresh one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mass_gov.mass.learner import Learner
from mass_gov.mass.values import LoraSettings, SamplingSettings, TrainingSample, UpdateSettings
from tests.fakes.tiny_models import ARCHITECTURES, make_model


def everything(folder: Path) -> dict[str, Any]:
    """One pass over the whole learner, as digests and token lists."""
    learner = Learner.open(folder)
    start = learner.initial_adapter(LoraSettings(seed=3))
    samples = learner.write_samples("3+4*2", start, count=6, seed=11, settings=SamplingSettings(max_new_tokens=30))
    training = [TrainingSample("1+1", f"{sample.text}#2", 1 / 6) for sample in samples]
    result = learner.update(training, start, UpdateSettings(steps=2, step_size=0.5))
    answers = learner.answer(["3+4*2", "7", "12-5"] * 5, result.adapter, max_new_tokens=20)
    return {
        "base": learner.base_digest,
        "samples": [sample.tokens for sample in samples],
        "files": {n: hashlib.sha256(b).hexdigest() for n, b in learner.write_adapter(result.adapter).items()},
        "norms": [[norm.module, norm.step.hex(), norm.cumulative.hex()] for norm in result.norms],
        "losses": [loss.hex() for loss in result.losses],
        "answers": [answer.tokens for answer in answers],
        "nll": [[value.hex() for value in row] for row in learner.nll([("1+1", "#2"), ("5", "a#5")], result.adapter)],
        "fingerprint": learner.fingerprint(),
    }


def fresh_process(folder: Path) -> dict[str, Any]:
    run = [sys.executable, __file__, str(folder)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "random"}
    done = subprocess.run(run, check=True, capture_output=True, cwd=root, env=environment)
    assert done.stderr == b""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_fresh_process_gives_the_same_bits(architecture: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", architecture, layers=3, width=64)
    here = json.loads(json.dumps(everything(folder)))
    assert fresh_process(folder) == here
    assert json.loads(json.dumps(everything(folder))) == here


if __name__ == "__main__":
    print(json.dumps(everything(Path(sys.argv[1]))))
