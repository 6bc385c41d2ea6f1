"""How likely a model finds texts, with an adapter and without: losses, scores of samples, divergence from the base.

Rules: what is read is charged as if padded, however it is read, since what a change costs depends on no machine. What
the frozen base alone decides is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mass_gov.errors import TaskError
from mass_gov.mass import losses, packed, scorer
from mass_gov.mass.core import Core
from mass_gov.mass.divergence import ReadByBase, Remembered
from mass_gov.mass.lora import LoraModel
from mass_gov.mass.opened_model import BATCH_SIZE, OpenedModel
from mass_gov.mass.text import Text, Tokens
from mass_gov.mass.values import Adapter, Reading


class Reader(OpenedModel):
    """A model that reads."""

    def __init__(self, model: LoraModel, text: Text, threads: int, core: Core | None) -> None:
        super().__init__(model, text, threads, core)
        self._packs: bool | None = None
        self._read_by_base = Remembered()

    def read_samples(self, question: str, samples: Sequence[Tokens]) -> list[Reading]:
        """How the frozen base reads samples, as written for `question`, in order: by one forward pass, in one batch.

        Raises TaskError for a sample that this model cannot have written for this question.
        """
        if not samples:
            return []
        prompt = self._text.practise_prompt(question)
        for tokens in samples:
            self._check_written(prompt, tokens)
        batch = scorer.scoring_batch([(prompt, tokens) for tokens in samples], self._text.pad_id)
        head = self.core.scorer if self.core is not None else None
        with self._computing(None) as model, torch.inference_mode():
            seen = scorer.features(model, batch)
            self._total.forward(self._model.parameter_count, batch.positions_computed)
            surprises: list[float] = scorer.mean_surprises(seen).tolist()
            scores: list[float] = scorer.score(head, seen).tolist() if head is not None else []
        return [
            Reading(surprise, scores[place] if head is not None else None) for place, surprise in enumerate(surprises)
        ]

    def as_written(self, text: str) -> Tokens:
        """The tokens of a sample that something else wrote, end token included. Raises TaskError where it could not."""
        return self._text.solution(text)

    def nll(
        self, pairs: Sequence[tuple[str, str]], adapter: Adapter | None, *, batch_size: int = BATCH_SIZE
    ) -> list[tuple[float, ...]]:
        """Negative log-likelihood (nats) of every token of each (question, solution)'s solution, end token included."""
        found: list[tuple[float, ...]] = []
        with self._computing(adapter) as model, torch.inference_mode():
            for start in range(0, len(pairs), batch_size):
                batch = self._solutions(pairs[start : start + batch_size])
                values = losses.token_losses(lambda **inputs: model(**inputs).logits, batch)
                self._total.forward(self._parameters(adapter), batch.positions_computed)
                rows = zip(values, batch.counted.bool(), strict=True)
                found += [tuple(row[counted].tolist()) for row, counted in rows]
        return found

    def divergence(
        self, pairs: Sequence[tuple[str, str]], adapter: Adapter, *, batch_size: int = BATCH_SIZE
    ) -> list[tuple[float, ...]]:
        """KL(base ‖ adapter) in nats at every token of each (question, solution)'s solution, end token included.

        Not finite where the logits are not. A pair that `unusable` names has no tokens.
        """

        with self._lock:
            base = self._as_the_base_reads(pairs, batch_size)
            return list(base.divergences(self._counted_logits(adapter, base.batches)))

    def unusable(self, question: str, solution: str) -> str | None:
        """Why `update` and `nll` would refuse this pair: "unreadable" or "too-long"; None if they would not.

        What a model writes is not always what it can be asked: this lets a gate drop such a sample.
        """
        try:
            prompt, tokens = self._text.solve_prompt(question), self._text.solution(solution)
        except TaskError:
            return "unreadable"
        return None if self._text.has_room(prompt, len(tokens)) else "too-long"

    def _as_the_base_reads(self, pairs: Sequence[tuple[str, str]], batch_size: int = BATCH_SIZE) -> ReadByBase:
        def read() -> ReadByBase:
            places = [place for place, pair in enumerate(pairs) if self.unusable(*pair) is None]
            parts = (places[i : i + batch_size] for i in range(0, len(places), batch_size))
            batches = [self._solutions([pairs[place] for place in part]) for part in parts]
            return ReadByBase(batches, self._counted_logits(None, batches), places, len(pairs))

        return self._read_by_base.of((tuple(pairs), batch_size), read)

    def _counted_logits(self, adapter: Adapter | None, batches: Sequence[losses.SolutionBatch]) -> list[Tensor]:
        """Charged as if padded: what a change costs depends on no machine."""
        if not batches:
            return []
        self._total.forward(self._parameters(adapter), sum(batch.positions_computed for batch in batches))
        with self._computing(adapter) as model, torch.inference_mode():
            if self._packs is None:
                self._packs = packed.keeps_bits(model, self._text.pad_id, self._vocabulary)
            return packed.counted_logits(model, batches, pack=self._packs)

    def _check_written(self, prompt: Tokens, tokens: Tokens) -> None:
        self._text.check_room(prompt, len(tokens))
        vocabulary = self._vocabulary
        if not all(0 <= token < vocabulary for token in tokens):
            raise TaskError("a sample holds a token that this model does not have. Use the model that wrote it.")
