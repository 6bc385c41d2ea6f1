"""One opened model: its weights, its text, its lock and its meter; what `writer`, `reader` and `learner` stand on.

Rules: one thread at a time computes, with the thread count that its bits depend on; whatever is computed is metered by
whoever asks. Does not know what it is asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from mass_gov.errors import SettingsError
from mass_gov.mass import adapter_files, losses
from mass_gov.mass.core import Core
from mass_gov.mass.lora import Groups, LoraModel
from mass_gov.mass.metering import Meter
from mass_gov.mass.prompting import PromptTemplate
from mass_gov.mass.text import Text
from mass_gov.mass.values import Adapter, LoraSettings

BATCH_SIZE = 48


class OpenedModel:
    """A causal language model with slots for adapters.

    `core` is what meta-training left beside the weights: None for a plain base.
    """

    def __init__(self, model: LoraModel, text: Text, threads: int, core: Core | None) -> None:
        self._model = model
        self.core = core
        self._text = text
        self._threads = threads
        self._lock = threading.RLock()
        self._total = Meter()

    @property
    def template(self) -> PromptTemplate:
        """How problems are put to this model."""
        return self._text.template

    @property
    def parameter_count(self) -> int:
        """Parameters of the frozen base, tied ones once."""
        return self._model.parameter_count

    @property
    def flops(self) -> int:
        """FLOPs of every call so far."""
        return self._total.flops

    @contextmanager
    def meter(self) -> Iterator[Meter]:
        """Count FLOPs and generated tokens inside the block: `with learner.meter() as cost: ...`."""
        before, spent = Meter(self._total.flops, self._total.generated_tokens), Meter()
        try:
            yield spent
        finally:
            spent.flops = self._total.flops - before.flops
            spent.generated_tokens = self._total.generated_tokens - before.generated_tokens

    def check_question(self, question: str, *, max_new_tokens: int) -> None:
        """Raise TaskError where `question` cannot be posed to this model, or leaves no room for an answer."""
        self._text.check_room(self._text.solve_prompt(question), max_new_tokens)

    def prompt_tokens(self, question: str) -> int:
        """How many tokens `question` is as it is put to this model."""
        return len(self._text.solve_prompt(question))

    def initial_adapter(self, lora: LoraSettings) -> Adapter:
        """Where the inner loop starts, the targets spelled out.

        With `lora.initial` the learned phi_0 of this folder's core (`core.lora` asks for it). Without, the adapter that
        changes nothing: A drawn from `lora.seed`, B zero. Raises SettingsError where `lora` asks for another core's.
        """
        if lora.initial is not None:
            if self.core is None or lora != self.core.lora:
                raise SettingsError(
                    f"these settings start from the learned adapter {lora.initial[:12]} of another model folder. "
                    "Open the folder that they were made for."
                )
            return self.core.adapter
        with self._lock:
            return self._model.initial(lora)

    def read_adapter(self, files: Mapping[str, bytes]) -> Adapter:
        """An adapter from the bytes of its two files, exactly as `write_adapter` makes them; else ModelError."""
        settings = adapter_files.read_settings(files)
        with self._lock:
            self._model.attach(settings)
            return Adapter(settings, adapter_files.read_tensors(files, self._model.shapes()))

    def write_adapter(self, adapter: Adapter) -> dict[str, bytes]:
        """`adapter_config.json` and `adapter_model.safetensors`, the same bytes each time."""
        return adapter_files.write_adapter(adapter)

    def _start(self) -> Adapter:
        return self.core.adapter if self.core is not None else self.initial_adapter(LoraSettings())

    @contextmanager
    def _computing(self, adapter: Adapter | None) -> Iterator[Any]:
        """The model with `adapter`, for one caller at a time, with the thread count that its bits depend on."""
        with self._lock, self._model.using(adapter) as model:
            if torch.get_num_threads() != self._threads:
                torch.set_num_threads(self._threads)
            yield model

    @contextmanager
    def _computing_each(self, groups: Groups | None) -> Iterator[Any]:
        """As `_computing`, with an adapter for each group of rows; None is the frozen base."""
        with self._computing(groups.adapters[0] if groups else None) as model:
            if groups is None:
                yield model
                return
            with self._model.using_each(groups) as grouped:
                yield grouped

    def _has_ended(self, row: list[int]) -> bool:
        return row[-1] in self._text.end_ids or self._text.stops(row)

    def _solutions(self, pairs: Sequence[tuple[str, str]]) -> losses.SolutionBatch:
        tokens = [(self._text.solve_prompt(question), self._text.solution(s)) for question, s in pairs]
        for prompt, solution in tokens:
            self._text.check_room(prompt, len(solution))
        return losses.solution_batch(tokens, self._text.pad_id)

    @property
    def _vocabulary(self) -> int:
        model: Any = self._model.model
        size: int = model.get_input_embeddings().num_embeddings
        return size

    def _parameters(self, adapter: Adapter | None) -> int:
        added = sum(tensor.numel() for tensor in adapter.tensors.values()) if adapter else 0
        return self._model.parameter_count + added
