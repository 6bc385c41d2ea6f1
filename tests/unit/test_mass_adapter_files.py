"""An adapter is two files, the same bytes each time, and nothing else is read as one."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from mass_gov.errors import ModelError
from mass_gov.mass.learner import Learner
from mass_gov.mass.values import Adapter, LoraSettings, TrainingSample, UpdateSettings
from tests.fakes.tiny_models import ARCHITECTURES, make_model

FORCED = [TrainingSample("3+4", "three and four#7", 0.5), TrainingSample("2*5", "#10", 0.25)]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def learner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Learner:
    return Learner.open(make_model(tmp_path_factory.mktemp(request.param), request.param))


@pytest.fixture
def start(learner: Learner) -> Adapter:
    return learner.initial_adapter(LoraSettings(rank=4, alpha=8))


def test_an_adapter_survives_its_bytes(learner: Learner, start: Adapter) -> None:
    adapter = learner.update(FORCED, start, UpdateSettings(steps=2, step_size=0.3)).adapter
    files = learner.write_adapter(adapter)
    again = learner.read_adapter(files)
    assert learner.write_adapter(again) == files
    assert again.settings == replace(adapter.settings, seed=0)
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in adapter.tensors.items())


def test_damaged_adapters_are_refused(learner: Learner, start: Adapter) -> None:
    from safetensors.torch import save

    files = learner.write_adapter(start)
    config, tensors = files["adapter_config.json"], files["adapter_model.safetensors"]
    name, tensor = next(iter(start.tensors.items()))
    others = {key: value for key, value in start.tensors.items() if key != name}
    wrong_config = json.dumps(json.loads(config) | {"auto_mapping": {}}).encode()
    wrong = [
        {"adapter_config.json": config},
        {**files, "adapter_model.bin": b"\x80\x04"},
        {**files, "adapter_config.json": b"{"},
        {**files, "adapter_config.json": wrong_config},
        {**files, "adapter_config.json": config.replace(b'"r":4', b'"r":4.0')},
        {**files, "adapter_config.json": config.replace(b'"r":4', b'"r":5')},
        {**files, "adapter_model.safetensors": b"\x80\x04pickle"},
        {**files, "adapter_model.safetensors": tensors[:-1]},
        {**files, "adapter_model.safetensors": save(others)},
        {**files, "adapter_model.safetensors": save({**others, name: tensor, "extra": tensor.clone()})},
        {**files, "adapter_model.safetensors": save({**others, name: tensor.double()})},
        {**files, "adapter_model.safetensors": save({**others, name: tensor.T.contiguous()})},
        {**files, "adapter_model.safetensors": save({**others, name: tensor * math.nan})},
    ]
    for damaged in wrong:
        with pytest.raises(ModelError, match=r"this adapter cannot be used|adapter_model\.safetensors"):
            learner.read_adapter(damaged)


def test_the_tensors_are_the_file_that_torchs_own_writer_makes(learner: Learner, start: Adapter) -> None:
    from safetensors.torch import save

    written = learner.write_adapter(start)["adapter_model.safetensors"]
    assert written == save(dict(start.tensors), metadata={"format": "pt"})
