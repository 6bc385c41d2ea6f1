"""The numeric environment: canaries name the stage that differs, and what nobody recorded is neither same nor other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mass_gov.flows.fingerprints import Compared, compare, touches
from mass_gov.flows.replay_report import conclude
from mass_gov.mass.fingerprint import PACKAGES, VARIABLES
from mass_gov.mass.learner import Learner

CANARIES = ("canary.prefill", "canary.decode", "canary.step")
OLD_VARIABLES = (  # those of format 1, which had no number
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "KMP_AFFINITY",
    "MKL_CBWR",
    "MKL_DYNAMIC",
    "MKL_NUM_THREADS",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
OLD_PACKAGES = ("torch", "transformers", "peft", "numpy", "safetensors", "tokenizers")


@pytest.fixture
def learner(tiny_model: Callable[[str], Path]) -> Learner:
    return Learner.open(tiny_model("llama"))


@pytest.fixture
def found(learner: Learner) -> dict[str, Any]:
    return dict(learner.fingerprint())


def format_1(found: dict[str, Any]) -> dict[str, Any]:
    """As the release before canaries would have recorded it."""
    later = {f"package.{name}" for name in PACKAGES if name not in OLD_PACKAGES}
    later |= {f"env.{name}" for name in VARIABLES if name not in OLD_VARIABLES}
    later |= {"format", "numerics", "batching.decode", "batching.update", *CANARIES}
    return {name: value for name, value in found.items() if name not in later}


def sung(learner: Learner) -> dict[str, Any]:
    learner._canaries = {}
    return dict(learner.fingerprint())


def nudged(tensor: torch.Tensor) -> torch.Tensor:
    """One unit in the last place of one entry."""
    other = tensor.clone()
    entry = other.view(-1)[:1]
    entry.copy_(torch.nextafter(entry, torch.full_like(entry, torch.inf)))
    return other


# --- canaries ---


def test_a_kernel_that_differs_for_single_rows_is_named_decode(learner: Learner) -> None:
    before = sung(learner)
    layer = learner._model.model.model.layers[0].mlp  # type: ignore[union-attr,index]
    layer.register_forward_hook(lambda _, __, out: nudged(out) if out.shape[1] == 1 else out)
    assert compare(before, sung(learner)).stages == ("decode",)


def test_a_kernel_that_differs_for_prompts_is_named_prefill_and_leaves_decode_alone(learner: Learner) -> None:
    before = sung(learner)
    layer = learner._model.model.model.layers[0].mlp  # type: ignore[union-attr,index]
    layer.register_forward_hook(lambda _, __, out: out * (1 + 2**-20) if out.shape[1] > 1 else out)
    found = compare(before, sung(learner))
    assert found.stages == ("prefill", "step")
    assert "prefill (reading a prompt) has other bits here" in "; ".join(found.words())


def test_a_backward_kernel_that_differs_is_named_step(learner: Learner) -> None:
    before = sung(learner)

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, given: torch.Tensor) -> torch.Tensor:
            return given.view_as(given)

        @staticmethod
        def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * (1 + 2**-20)

    layer = learner._model.model.model.layers[1].mlp  # type: ignore[union-attr,index]
    layer.register_forward_hook(lambda _, __, out: Backward.apply(out))
    assert compare(before, sung(learner)).stages == ("step",)


def test_canaries_are_sung_once(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    first = learner.fingerprint()
    monkeypatch.setattr(Learner, "_sing", lambda self: pytest.fail("again"))
    assert learner.fingerprint() == first


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_canaries_cost_and_change_nothing(architecture: str, tiny_model: Callable[[str], Path]) -> None:
    quiet, asked = Learner.open(tiny_model(architecture)), Learner.open(tiny_model(architecture))
    with asked.meter() as cost:
        found = asked.fingerprint()
    assert cost.flops == 0 and {name for name in found if name.startswith("canary.")} == set(CANARIES)
    (one,), (other,) = (which.answer(["3+4"], None, max_new_tokens=8) for which in (quiet, asked))
    assert one == other


def test_another_attention_is_another_fingerprint(
    tiny_model: Callable[[str], Path], found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mass_gov.mass import loading

    monkeypatch.setattr(loading, "ATTENTION", "sdpa")
    monkeypatch.setattr(Learner, "_sing", lambda self: {})  # this kernel has no backward that would do
    other = Learner.open(tiny_model("llama")).fingerprint()
    assert compare(found, other).different["attention"] == ("eager", "sdpa")


# --- comparing ---


def test_the_same_is_the_same_and_needs_no_words(found: dict[str, Any]) -> None:
    assert compare(found, dict(found)) == Compared({}, (), ("native", "native"), True)
    assert compare(found, found).words() == ()


def test_what_an_old_format_did_not_know_is_not_recorded_and_not_different(found: dict[str, Any]) -> None:
    old = format_1(found)
    seen = compare(old, found)
    assert seen.different == {} and {*CANARIES, "package.scipy", "batching.decode"} <= set(seen.not_recorded)
    (said,) = seen.words()
    assert said.startswith("not recorded when it was recorded, so not compared: ") and "canary.step" in said


def test_what_an_old_format_did_know_still_differs(found: dict[str, Any]) -> None:
    other = {"torch.threads": 2, "cpu.model": "another"}
    assert set(compare(format_1(found) | other, found).different) == set(other)
    assert compare(format_1(found) | {"env.MKL_CBWR": "AVX2"}, found).different == {"env.MKL_CBWR": ("AVX2", None)}


def test_a_variable_that_was_not_set_is_a_difference_and_not_a_gap(found: dict[str, Any]) -> None:
    seen = compare(found, found | {"env.GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA"})
    assert seen.different == {"env.GLIBC_TUNABLES": (None, "glibc.cpu.hwcaps=-FMA")} and not seen.not_recorded


def test_a_part_of_a_newer_release_is_no_agreement(found: dict[str, Any]) -> None:
    assert compare(found | {"quantum": True}, found).different == {"quantum": (True, None)}
    assert touches("quantum") == ("a part that this release does not know", "unknown")


def test_other_numerics_is_said_and_the_cpu_is_not(found: dict[str, Any]) -> None:
    left = {name: value for name, value in found.items() if not name.startswith(("cpu.", "env."))}
    portable = left | {"numerics": "portable", "torch.config_sha256": "0"}
    del portable["torch.cpu_capability"]
    for one, other in ((portable, found), (found, portable), (format_1(found), portable)):
        seen = compare(one, other)
        assert set(seen.different) == {"numerics"}
        assert "compare under MASS_GOV_NUMERICS=" + seen.numerics[0] in seen.words()[0]


def test_every_part_says_what_it_touches(found: dict[str, Any]) -> None:
    for name in (*found, *(f"env.{variable}" for variable in VARIABLES)):
        assert name == "format" or touches(name)[1] != "unknown", name


def test_of_many_differences_a_replay_names_causes_before_canaries() -> None:
    recorded: dict[str, object] = {f"canary.{name}": "a" for name in ("decode", "prefill", "step")}
    recorded |= {f"env.{i}": "1" for i in range(5)}
    recorded["format"] = 2
    present = dict.fromkeys(recorded, "b") | {"format": 2, "torch.threads": 2}
    said = conclude("c", "c", "scratch", (), recorded | {"torch.threads": 1}, present).detail
    assert "torch.threads (1 recorded, 2 here) and 3 more" in said
