"""Reading solutions without their padding: the logits of a padded batch, to the bit, from its real tokens alone.

All texts stand one after the other in one row, several batches at once, so that no product is computed for padding.
What texts of a batch begin with alike stands there once: they are padded at the end, so a shared beginning has the same
neighbours at the same places in each of them. Only attention sees the texts side by side again, batch by batch and
padded as before, since what it adds up depends on how. Logits, and what leads to them after the last attention, are
computed only where one is asked for.

A batch that is read again is laid out once, and its first attention is taken from the first time wherever the same
queries, keys and values come to it: no adapter reaches what leads there, unless one is asked to.

What is left is that a product of many rows gives each row the bits that it has among fewer, and that an architecture's
attention is the plain one. Neither follows from a rule, so `keeps_bits` asks the open model before it is read so.

Does not know what the logits are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from mass_gov.mass.losses import SolutionBatch, solution_batch, target_logits

NAME = "mass-gov-packed"
LEAST = 4
"""Rows of a product that is one of many: fewer take another kernel (`together`)."""


@dataclass(frozen=True)
class Layout:
    """One batch without its padding, wherever in the row it comes to stand.

    Attributes:
        tokens, positions: of each token, in the order of the row.
        wanted: which of them stand one place before a solution token.
        places: where each of them stands in the padded batch, the first time.
        sources: which of them stands at each place of the padded batch. Where there is padding, it is the first one of
            its text: nothing sees padding, and if that token's numbers are not finite, all of its text sees it anyway.
    """

    rows: int
    length: int
    tokens: Tensor
    positions: Tensor
    wanted: Tensor
    places: Tensor
    sources: Tensor
    mask: Tensor
    """(1, 1, length, length), added to what attention weighs: no text sees what comes after."""
    first: list[Tensor] = field(default_factory=list)
    """Query, key, value and what came of them in the first attention of the first reading; empty before."""

    def attend_first(self, given: Sequence[Tensor], attend: Callable[[], Tensor]) -> Tensor:
        """What `attend` makes of (heads, tokens, d) query, key and value, as it was where they were the same before."""
        if self.first and all(torch.equal(one, known) for one, known in zip(given, self.first, strict=False)):
            return self.first[-1]
        found = attend()
        if not self.first:
            self.first.extend([*(one.clone() for one in given), found])
        return found


@dataclass(frozen=True)
class Block:
    """One batch in the row: its tokens are `[start, stop)`."""

    start: int
    stop: int
    layout: Layout

    def of(self, packed: Tensor) -> Tensor:
        """(1, heads, all tokens, d) -> (heads, tokens, d)."""
        return packed[0, :, self.start : self.stop]

    def spread(self, packed: Tensor) -> Tensor:
        """(1, heads, tokens, d) -> (heads, rows, length, d)."""
        own = self.of(packed).index_select(1, self.layout.sources)
        return own.view(len(own), self.layout.rows, self.layout.length, -1)

    def gather(self, padded: Tensor) -> Tensor:
        """(heads, rows, length, d) -> (heads, tokens, d)."""
        return padded.flatten(1, 2).index_select(1, self.layout.places)


def counted_logits(model: Any, batches: Sequence[SolutionBatch], *, pack: bool) -> list[Tensor]:
    """(tokens, vocabulary) of each batch: the logits at its solution tokens, row by row, by one pass where packed."""
    blocks = list(_blocks(batches)) if pack and all(map(_many, batches)) else []
    if not blocks or blocks[-1].stop < LEAST:
        return [target_logits(lambda **i: model(**i).logits, one)[one.counted.bool()] for one in batches]
    wanted = torch.cat([block.start + block.layout.wanted for block in blocks])
    with _plain_attention(model), _narrow_end(model, wanted, blocks[-1].stop):
        logits = model(
            input_ids=torch.cat([block.layout.tokens for block in blocks])[None],
            attention_mask=blocks[0].layout.mask,
            position_ids=torch.cat([block.layout.positions for block in blocks])[None],
            use_cache=False,
            logits_to_keep=wanted,
            blocks=blocks,
        ).logits[0]
    return list(logits.split([len(block.layout.wanted) for block in blocks]))


def keeps_bits(model: Any, pad_id: int, vocabulary: int) -> bool:
    """Whether the model, with whatever adapter it has, gives the bits of padded batches, on fixed tiny work."""
    if getattr(model.config, "sliding_window", None) or {*(getattr(model.config, "layer_types", None) or ())} - {_FULL}:
        return False
    few, some, many = (solution_batch([_text(row, vocabulary) for row in range(rows)], pad_id) for rows in (2, 9, 20))
    try:
        return all(
            torch.equal(one, other)
            for batches in ([few], [many, some])
            for one, other in zip(*(counted_logits(model, batches, pack=pack) for pack in (True, False)), strict=True)
        )
    # An architecture that cannot be read so at all says it in one of these ways.
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError):
        return False


_FULL = "full_attention"


def _text(row: int, vocabulary: int) -> tuple[list[int], list[int]]:
    shared = [(5 + 3 * place) % vocabulary for place in range(2 + row % 7)]
    tokens = shared + [(3 + row + 7 * place) % vocabulary for place in range(7 + row * 5 % 31)]
    return tokens[: -2 - row % 4], tokens[-2 - row % 4 :]


def _many(batch: SolutionBatch) -> bool:
    return len(batch.ids) * (batch.targets.shape[1] + 1) >= LEAST <= int(batch.counted.sum())


def _blocks(batches: Sequence[SolutionBatch]) -> Iterator[Block]:
    start = 0
    for batch in batches:
        if (layout := _LAYOUTS.get(batch)) is None:
            layout = _LAYOUTS[batch] = _laid_out(batch)
        yield Block(start, start + len(layout.tokens), layout)
        start += len(layout.tokens)


_LAYOUTS: WeakKeyDictionary[SolutionBatch, Layout] = WeakKeyDictionary()
"""Of batches that somebody still holds."""


def _laid_out(batch: SolutionBatch) -> Layout:
    rows, length = batch.ids.shape
    places, sources = map(torch.tensor, _once(batch))
    tokens, positions = batch.ids.flatten()[places], batch.positions.flatten()[places]
    never = torch.full((length, length), torch.finfo(torch.float32).min)
    wanted = sources[_asked(batch).flatten()]
    return Layout(rows, length, tokens, positions, wanted, places, sources, never.triu(1)[None, None])


def _once(batch: SolutionBatch) -> tuple[list[int], list[int]]:
    """`places` and `sources` of a batch: a token is the same as another where all is the same up to it."""
    places, sources = list[int](), list[int]()
    known: dict[tuple[int, int], int] = {}
    for tokens, mask in zip(batch.ids.tolist(), batch.mask.tolist(), strict=True):
        before, row = -1, len(sources)
        for token, real in zip(tokens, mask, strict=True):
            if real:
                before = known.setdefault((before, token), len(places))
                if before == len(places):
                    places.append(len(sources))
            sources.append(before if real else sources[row])
    return places, sources


def _asked(batch: SolutionBatch) -> Tensor:
    """(rows, length): where the logits of a batch's solution tokens are: one place before each."""
    rows, length = batch.ids.shape
    kept = batch.targets.shape[1]
    asked = torch.zeros(rows, length, dtype=torch.bool)
    asked[:, length - kept - 1 : length - 1] = batch.counted.bool()
    return asked


@contextmanager
def _plain_attention(model: Any) -> Iterator[None]:
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


_LAST: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()
"""Of a model, what follows its last attention; nothing where it is called otherwise."""


@contextmanager
def _narrow_end(model: Any, wanted: Tensor, tokens: int) -> Iterator[None]:
    """Of the last layer, what follows attention is computed only where a logit is asked for: nothing else reads it."""

    def narrow(_: Any, given: tuple[Tensor]) -> tuple[Tensor]:
        return (given[0][:, wanted],)

    def widen(_: Any, given: tuple[Tensor], found: Tensor) -> Tensor:
        return found.new_zeros(1, tokens, found.shape[-1]).index_copy(1, wanted, found)

    if model not in _LAST:
        _LAST[model] = [module for name, module in model.named_modules() if name.endswith(".mlp")][-1:]
    with ExitStack() as hooks:
        for module in _LAST[model]:
            hooks.callback(module.register_forward_pre_hook(narrow).remove)
            hooks.callback(module.register_forward_hook(widen).remove)
        yield


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, _: Tensor, *, scaling: float, blocks: list[Block], **__: Any
) -> tuple[Tensor, None]:
    """(1, tokens, heads, d): eager attention within each text."""
    shared = getattr(module, "num_key_value_groups", 1)

    def attend(block: Block) -> Tensor:
        q, k, v = (block.spread(one) for one in (query, key, value))
        k, v = (one.repeat_interleave(shared, dim=0) if shared > 1 else one for one in (k, v))
        weights = functional.softmax(torch.matmul(q, k.transpose(2, 3)).mul_(scaling).add_(block.layout.mask), dim=-1)
        return block.gather(torch.matmul(weights, v))

    if getattr(module, "layer_idx", None) == 0:
        given = (query, key, value)
        found = [block.layout.attend_first([*map(block.of, given)], partial(attend, block)) for block in blocks]
    else:
        found = [attend(block) for block in blocks]
    return torch.cat(found, dim=1).transpose(0, 1)[None], None


AttentionInterface.register(NAME, _attention)
