"""Reading without padding: every bit of the padded batch, and the padded batch wherever that cannot be promised."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface

from mass_gov.mass import losses, packed
from mass_gov.mass.learner import Learner
from mass_gov.mass.losses import SolutionBatch
from mass_gov.mass.values import Adapter, LoraSettings, TrainingSample, UpdateSettings
from tests.fakes.tiny_models import ARCHITECTURES, make_model

QUESTIONS = ["1", "what is 2*5?", "3+4", "a longer question than the others: 17 and 4?", "12", "7*7", "9-2"]
PAIRS = [(question, "is " * place + f"#{place}") for place, question in enumerate(QUESTIONS)]
FORCED = [TrainingSample(*pair, 1 / len(PAIRS)) for pair in PAIRS]
STEP = UpdateSettings(step_size=0.3)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def learner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Learner:
    return Learner.open(make_model(tmp_path_factory.mktemp(request.param), request.param))


@pytest.fixture(scope="module")
def adapter(learner: Learner) -> Adapter:
    return learner.update(FORCED, learner.initial_adapter(LoraSettings(rank=4, alpha=8)), STEP).adapter


def read(learner: Learner, adapter: Adapter | None, batches: list[SolutionBatch], *, pack: bool) -> list[Tensor]:
    with learner._computing(adapter) as model, torch.inference_mode():
        return packed.counted_logits(model, batches, pack=pack)


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_a_batch_has_the_same_bits_without_its_padding(learner: Learner, adapter: Adapter, rows: int) -> None:
    batch = learner._solutions(PAIRS[-rows:])
    for state in (None, adapter):
        ((one,), (other,)) = (read(learner, state, [batch], pack=pack) for pack in (True, False))
        assert torch.equal(one, other)


def test_batches_that_are_read_at_once_do_not_see_one_another(learner: Learner, adapter: Adapter) -> None:
    batches = [learner._solutions(PAIRS[:3]), learner._solutions(PAIRS[2:]), learner._solutions(PAIRS)]
    at_once = read(learner, adapter, batches, pack=True)
    for batch, found in zip(batches, at_once, strict=True):
        assert torch.equal(found, read(learner, adapter, [batch], pack=False)[0])


def test_the_loss_of_counted_logits_is_the_loss_of_the_batch_to_the_bit(learner: Learner, adapter: Adapter) -> None:
    batch = learner._solutions(PAIRS)
    with learner._computing(adapter) as model, torch.inference_mode():
        whole = losses.sample_losses(lambda **inputs: model(**inputs).logits, batch, 3.0)
    assert torch.equal(losses.counted_losses(*read(learner, adapter, [batch], pack=True), batch, 3.0), whole)


def test_an_update_measures_the_same_bits_packed_and_padded(learner: Learner, adapter: Adapter) -> None:
    """After a projection too, where what was learned from and what is compared are read by different weights."""
    for settings in (STEP, UpdateSettings(step_size=0.3, max_norm=0.01)):
        found = []
        for learner._packs in (True, False):
            found.append(learner.update(FORCED, adapter, settings, loss_after=True, compared=PAIRS[:4]))
        one, other = found
        assert one.loss_after is not None
        assert one.loss_after == other.loss_after
        assert one.divergences == other.divergences == tuple(learner.divergence(PAIRS[:4], one.adapter))


def test_every_shipped_kind_of_model_is_read_without_padding(learner: Learner, adapter: Adapter) -> None:
    learner._packs = None
    before = learner._model.model.config._attn_implementation
    learner.divergence(PAIRS, adapter)
    assert learner._packs is True
    assert learner._model.model.config._attn_implementation == before


def test_attention_that_is_not_the_plain_one_is_found_out(
    learner: Learner, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def otherwise(*given: Any, scaling: float, **named: Any) -> Any:
        return packed._attention(*given, scaling=scaling * (1 + 1e-6), **named)

    AttentionInterface.register("otherwise", otherwise)
    with learner._computing(adapter) as model, torch.inference_mode():
        assert packed.keeps_bits(model, 0, 99)
        for name in ("otherwise", "no such attention"):
            monkeypatch.setattr(packed, "NAME", name)
            assert not packed.keeps_bits(model, 0, 99)
        monkeypatch.undo()
        # A window that these short texts fit into would show nothing.
        monkeypatch.setattr(model.config, "sliding_window", 4096, raising=False)
        assert not packed.keeps_bits(model, 0, 99)


def test_what_texts_begin_with_alike_is_computed_once_to_the_same_bits(learner: Learner, adapter: Adapter) -> None:
    batch = losses.solution_batch([([5, 6, 7, 8], [9, 4]), ([5, 6, 7, 8], [9]), ([5, 6, 7], [7, 4]), ([6, 5], [8])], 0)
    places, sources = packed._once(batch)
    assert (len(places), len(batch.ids)) == (11, 4), "6, nothing new, 2 and 3"
    assert sources == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 0, 0, 1, 2, 6, 7, 0, 8, 9, 10, 8, 8, 8], "padding is its text's"
    ((one,), (other,)) = (read(learner, adapter, [batch], pack=pack) for pack in (True, False))
    assert torch.equal(one, other)


def test_a_batch_that_is_read_again_has_the_bits_of_the_state_that_reads_it(learner: Learner, adapter: Adapter) -> None:
    """Also where an adapter reaches what leads to the first attention, and beside whatever other batch."""
    early = [name for name, module in learner._model.model.named_modules() if name.endswith(("q_proj", "c_attn", "v"))]
    reached = learner.initial_adapter(LoraSettings(rank=4, alpha=8, targets=tuple(early) or adapter.settings.targets))
    moved = learner.update(FORCED, reached, STEP).adapter
    again, beside = learner._solutions(PAIRS[:4]), learner._solutions(PAIRS[3:])
    for state in (None, adapter, moved, None, moved, adapter):
        for batches in ([again], [beside, again]):
            found = read(learner, state, batches, pack=True)
            for one, other in zip(found, read(learner, state, batches, pack=False), strict=True):
                assert torch.equal(one, other)


def test_the_first_attention_of_a_batch_is_computed_once(
    learner: Learner, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, counted = learner._solutions(PAIRS), list[int]()
    spread = packed.Block.spread
    monkeypatch.setattr(packed.Block, "spread", lambda self, one: counted.append(1) or spread(self, one))
    read(learner, None, [batch], pack=True)
    layers = len(counted) // 3
    read(learner, adapter, [batch], pack=True)
    assert len(counted) == 3 * (2 * layers - 1)
