"""PEFT, transformers' own generation and torch's own SGD as second opinions on the learner."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from mass_gov.mass.learner import Learner
from mass_gov.mass.values import LoraSettings, TrainingSample, UpdateSettings
from tests.fakes.tiny_models import ARCHITECTURES, make_model

SAMPLES = [TrainingSample("3+4", "three and four#7", 0.5), TrainingSample("2*5", "#10", 0.25)]
SETTINGS = UpdateSettings(steps=2, step_size=0.3)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def learner(folder: Path) -> Learner:
    return Learner.open(folder)


def base_model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, attn_implementation="eager").eval()


def load_with_peft(folder: Path, learner: Learner, adapter: Any, where: Path, **options: Any) -> Any:
    where.mkdir(exist_ok=True)
    for name, content in learner.write_adapter(adapter).items():
        (where / name).write_bytes(content)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out")
        warnings.filterwarnings("error", message=".*missing adapter keys.*")
        return PeftModel.from_pretrained(base_model(folder), where, **options)


def test_peft_loads_the_folder_and_computes_the_same_logits(folder: Path, learner: Learner, tmp_path: Path) -> None:
    start = learner.initial_adapter(LoraSettings(rank=4, alpha=8))
    adapter = learner.update(SAMPLES, start, SETTINGS).adapter
    theirs = load_with_peft(folder, learner, adapter, tmp_path / "delta").eval()
    ids = torch.arange(4, 36).reshape(2, 16)
    with torch.no_grad(), learner._model.using(adapter) as ours:
        expected = theirs(input_ids=ids).logits
        assert torch.equal(ours(input_ids=ids).logits, expected)
        assert not torch.equal(base_model(folder)(input_ids=ids).logits, expected)


def test_training_the_peft_model_with_sgd_ends_at_the_same_adapter(
    folder: Path, learner: Learner, tmp_path: Path
) -> None:
    start = learner.initial_adapter(LoraSettings(rank=4, alpha=8))
    ours = learner.update(SAMPLES, start, SETTINGS)
    model = load_with_peft(folder, learner, start, tmp_path / "start", is_trainable=True).eval()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=SETTINGS.step_size)
    for step in range(SETTINGS.steps):
        optimizer.zero_grad()
        loss = sum(sample.weight * one_by_one_loss(model, learner, sample) for sample in SAMPLES)
        assert loss.item() == pytest.approx(ours.losses[step], rel=1e-5)
        loss.backward()
        optimizer.step()
    trained = {n.replace(".default.", "."): p for n, p in model.named_parameters() if p.requires_grad}
    assert set(trained) == set(ours.adapter.tensors)
    for name, tensor in ours.adapter.tensors.items():
        assert torch.allclose(tensor, trained[name], rtol=1e-4, atol=1e-6)


def one_by_one_loss(model: Any, learner: Learner, sample: TrainingSample) -> Any:
    """transformers' own loss with labels, one unpadded sample at a time."""
    prompt = learner._text.solve_prompt(sample.question)
    ids = torch.tensor([[*prompt, *learner._text.solution(sample.solution)]])
    labels = ids.clone()
    labels[:, : len(prompt)] = -100
    return model(input_ids=ids, labels=labels).loss


def test_transformers_generate_writes_the_same_answers(folder: Path, learner: Learner) -> None:
    questions = ["3+4*2", "1", "what is (2+2)*7?"]
    answers = learner.answer(questions, None, max_new_tokens=16)
    model = base_model(folder)
    for answer in answers:
        ids = torch.tensor([answer.prompt_tokens])
        with torch.no_grad():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16)
        assert tuple(out[0, ids.shape[1] :].tolist()) == answer.tokens


def test_norms_agree_with_the_weights_that_peft_merges(folder: Path, learner: Learner, tmp_path: Path) -> None:
    start = learner.initial_adapter(LoraSettings(rank=4, alpha=8))
    first = learner.update(SAMPLES, start, SETTINGS).adapter
    result = learner.update(SAMPLES, first, SETTINGS)
    base = dict(base_model(folder).named_parameters())
    before, after = (
        dict(load_with_peft(folder, learner, a, tmp_path / str(i)).merge_and_unload().named_parameters())
        for i, a in enumerate((first, result.adapter))
    )
    for norm in result.norms:
        name = f"{norm.module}.weight"
        size = base[name].norm()
        assert norm.step == pytest.approx(((after[name] - before[name]).norm() / size).item(), rel=1e-3)
        assert norm.cumulative == pytest.approx(((after[name] - base[name]).norm() / size).item(), rel=1e-3)
