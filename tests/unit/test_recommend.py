"""A model's folder says how it wants to be adapted; a trained core says it for everything that it was trained with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mass_gov.cli.solve import _spec
from mass_gov.errors import ModelError
from mass_gov.evidence.canonical import canonical_bytes
from mass_gov.flows.recommend import recommended
from mass_gov.mass.learner import Learner
from mass_gov.records.settings import AdaptationSpec, LoraSpec, UpdateSpec
from tests.fakes.small_core import make_core, with_core

PLAIN = (
    b'{"answer":{"batch_size":16,"max_new_tokens":120},"format":1,"lora":{"alpha":16,"rank":8,"seed":"0",'
    b'"target_modules":[]},"sampling":{"count":6,"max_new_tokens":120,"temperature":1},'
    b'"update":{"softening":1,"step_size":0.1,"steps":1}}'
)
"""The default settings as the first release wrote them."""


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    return with_core(tiny_model("llama"), tmp_path / "cored")


def test_a_plain_folder_gets_the_settings_it_always_got_to_the_byte(tiny_model: Callable[[str], Path]) -> None:
    assert canonical_bytes(recommended(tiny_model("llama")).document()) == PLAIN


def test_settings_of_the_first_release_read_back_as_they_were_written() -> None:
    read = AdaptationSpec.model_validate_json(PLAIN)
    assert canonical_bytes(read.as_read()) == canonical_bytes(read.document()) == PLAIN


def test_a_core_says_how_it_was_trained(folder: Path, tiny_model: Callable[[str], Path]) -> None:
    core, spec = make_core(tiny_model("llama")), recommended(folder)
    assert (spec.sampling.count, spec.sampling.temperature, spec.sampling.max_new_tokens) == (4, 1.25, 40)
    assert (spec.update.steps, spec.update.softening) == (1, 3.0)
    assert spec.update.step_sizes == dict(core.step_sizes)
    assert spec.lora.initial == core.lora.initial
    assert AdaptationSpec.model_validate(json.loads(canonical_bytes(spec.document()))).as_read() == spec.document()
    learner = Learner.open(folder)
    assert learner.core is not None
    for module, size in learner.core.step_sizes.items():
        assert spec.update.step_size_of(module) == size == learner.core.update_settings().step_size_of(module)


def test_beside_a_core_the_recommendation_is_left_with_how_answers_are_decoded(folder: Path) -> None:
    own = {"sampling": {"count": 9}, "update": {"step_size": 3.0}, "answer": {"max_new_tokens": 17}}
    (folder / "adaptation.json").write_text(json.dumps(own))
    spec = recommended(folder)
    assert (spec.sampling.count, spec.answer.max_new_tokens) == (4, 17)
    (folder / "core.json").unlink()
    assert (recommended(folder).sampling.count, recommended(folder).update.step_size) == (9, 3.0)


def test_a_damaged_core_is_refused_before_a_model_is_opened(folder: Path) -> None:
    (folder / "core.json").write_bytes(b"{}")
    with pytest.raises(ModelError, match=r"core\.json"):
        recommended(folder)


def test_the_longest_suffix_names_a_modules_step_size() -> None:
    spec = UpdateSpec(step_size=0.1, step_sizes={"o_proj": 0.2, "layers.1.self_attn.o_proj": 0.3})
    modules = ("model.layers.0.self_attn.o_proj", "model.layers.1.self_attn.o_proj", "lm_head")
    assert [spec.step_size_of(module) for module in modules] == [0.2, 0.3, 0.1]


def test_a_step_size_on_the_command_line_holds_for_every_module(folder: Path) -> None:
    spec = _spec(recommended(folder), None, 2, 0.5)
    assert {spec.update.step_size_of(module) for module in recommended(folder).update.step_sizes or {}} == {0.5}
    assert spec.update.steps == 2
    assert spec.lora == recommended(folder).lora
    assert _spec(recommended(folder), 3, None, None).update == recommended(folder).update


def test_a_learned_start_is_named_by_a_digest() -> None:
    with pytest.raises(ValueError, match="initial"):
        LoraSpec(initial="phi")


def test_recommending_needs_no_torch(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mass_gov.flows.recommend import recommended;"
        f"recommended(Path({str(folder)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
