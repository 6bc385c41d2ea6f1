"""What a model writes: practice for a task, and solutions, for one question or for several at once.

Rules: tokens follow from the adapter, the prompts, the seed and the company in the batch; every prompt is checked for
room before anything is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mass_gov.mass import together
from mass_gov.mass.core import Core
from mass_gov.mass.decoding import Choose, decode
from mass_gov.mass.lora import LoraModel
from mass_gov.mass.metering import Meter
from mass_gov.mass.opened_model import BATCH_SIZE, OpenedModel
from mass_gov.mass.sampling import again_table, draw, latin_hypercube
from mass_gov.mass.text import Text, Tokens
from mass_gov.mass.together import Job, Written
from mass_gov.mass.values import Adapter, Generation, SamplingSettings


class Writer(OpenedModel):
    """A model that writes."""

    def __init__(self, model: LoraModel, text: Text, threads: int, core: Core | None) -> None:
        super().__init__(model, text, threads, core)
        self._keeps_bits: bool | None = None

    def write_samples(
        self, question: str, adapter: Adapter | None, *, count: int, seed: int, settings: SamplingSettings
    ) -> list[Generation]:
        """Let the model write `count` practice problems with solutions for `question`, in one batch.

        Parse each with `prompting.parse_sample`. Raises TaskError if the question cannot be posed.
        """
        prompts = [self._text.practise_prompt(question)] * count
        numbers = latin_hypercube(seed, count, settings.max_new_tokens)

        def choose(logits: Tensor, step: int) -> Tensor:
            return draw(logits, numbers[:, step], settings.temperature)

        return self._generate(prompts, adapter, choose, settings.max_new_tokens, seed)

    @property
    def keeps_bits_together(self) -> bool:
        """Whether what is written for several tasks at once has the bits that each has alone, as `together` finds on
        this model and machine: once per process."""
        with self._lock:
            if self._keeps_bits is None:
                self._keeps_bits = together.keeps_bits(
                    self._computing_each, self._text.pad_id, self._start(), self._vocabulary
                )
            return self._keeps_bits

    def widths(self, question: str, *, practise: int, solve: int) -> tuple[int, int]:
        """How many tokens a question's practise prompt and solve prompt have.

        Raises TaskError where one leaves no room for so many new tokens, or the question cannot be posed.
        """
        prompts = self._text.practise_prompt(question), self._text.solve_prompt(question)
        for prompt, limit in zip(prompts, (practise, solve), strict=True):
            self._text.check_room(prompt, limit)
        return len(prompts[0]), len(prompts[1])

    def write_samples_together(
        self,
        questions: Sequence[str],
        adapter: Adapter | None,
        *,
        count: int,
        seeds: Sequence[int],
        settings: SamplingSettings,
        width: int,
    ) -> list[Written]:
        """As `write_samples` for each question with its seed, in batches, every prompt padded to `width` tokens.

        Each has the bits that it has alone at this width, as long as `keeps_bits_together`.
        """
        limit, prompts = settings.max_new_tokens, [self._text.practise_prompt(question) for question in questions]
        jobs = [
            Job((prompt,) * count, adapter, latin_hypercube(seed, count, limit), seed)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return self._write_together(jobs, limit, width, settings.temperature, shared=True)

    def answer_together(
        self,
        questions: Sequence[Sequence[str]],
        adapters: Sequence[Adapter | None],
        *,
        max_new_tokens: int,
        width: int = 0,
    ) -> list[Written]:
        """Solve equally many questions with each adapter greedily, padded to `width` tokens at least.

        Either every adapter is one, all of one shape, or every one is None (the frozen base). Bits as above.
        """
        jobs = [
            Job(tuple(self._text.solve_prompt(question) for question in asked), adapter)
            for asked, adapter in zip(questions, adapters, strict=True)
        ]
        return self._write_together(jobs, max_new_tokens, width)

    def answer(
        self,
        questions: Sequence[str],
        adapter: Adapter | None,
        *,
        max_new_tokens: int,
        batch_size: int = BATCH_SIZE,
    ) -> list[Generation]:
        """Solve each question greedily, in order, in batches of at most `batch_size`; None asks the frozen base."""
        prompts = [self._text.solve_prompt(question) for question in questions]
        found: list[Generation] = []
        for start in range(0, len(prompts), batch_size):
            batch = prompts[start : start + batch_size]
            found += self._generate(batch, adapter, lambda logits, _: logits.argmax(dim=-1), max_new_tokens, None)
        return found

    def solve_again(
        self, task: str, begun: Sequence[tuple[int, str]], adapter: Adapter | None, *, count: int, seed: int, limit: int
    ) -> list[list[Generation]]:
        """`count` fresh solutions of each practice problem as it stands in the practice for `task`, sampled at 1.

        Arguments:
            begun: (stream, text) of each: what was written up to where its solution begins.
            seed: solution j of a problem uses stream `stream * count + j`, whichever others are asked about.
            limit: new tokens at most. Problems that leave no room for them get no solutions.
        """
        prompt = self._text.practise_prompt(task)
        starts = [(stream, self._text.continued(prompt, text)) for stream, text in begun]
        fitting = [(stream, tokens) for stream, tokens in starts if self._text.has_room(tokens, limit)]
        numbers = again_table(seed, [stream for stream, _ in fitting], count, limit)
        found: dict[int, list[Generation]] = {stream: [] for stream, _ in starts}
        for first in range(0, len(fitting), max(1, BATCH_SIZE // count)):
            part = fitting[first : first + max(1, BATCH_SIZE // count)]
            rows = slice(first * count, (first + len(part)) * count)

            def choose(logits: Tensor, step: int, rows: slice = rows) -> Tensor:
                return draw(logits, numbers[rows, step], 1.0)

            prompts = [tokens for _, tokens in part for _ in range(count)]
            written = self._generate(prompts, adapter, choose, limit, seed)
            for place, (stream, _) in enumerate(part):
                found[stream] = written[place * count : (place + 1) * count]
        return [found[stream] for stream, _ in starts]

    def _generate(
        self,
        prompts: Sequence[Tokens],
        adapter: Adapter | None,
        choose: Choose,
        max_new_tokens: int,
        seed: int | None,
    ) -> list[Generation]:
        for prompt in prompts:
            self._text.check_room(prompt, max_new_tokens)
        with self._computing(adapter) as model:
            rows, computed = decode(model, prompts, self._text.pad_id, choose, self._has_ended, max_new_tokens)
            self._total.forward(self._parameters(adapter), computed)
            self._total.generated(sum(map(len, rows)))
        return self._generations(prompts, rows, seed)

    def _write_together(
        self, jobs: Sequence[Job], limit: int, width: int, temperature: float = 1.0, *, shared: bool = False
    ) -> list[Written]:
        self._text.check_width(width, limit)
        for job in jobs:
            for prompt in job.prompts:
                self._text.check_room(prompt, limit)
        batch = together.Together(self._computing_each, self._text.pad_id, self._has_ended, limit, shared, temperature)
        return [self._written(job, rows) for job, rows in zip(jobs, batch.write(jobs, width), strict=True)]

    def _written(self, job: Job, rows: Sequence[list[int]]) -> Written:
        """What one job is charged, and its texts."""
        cost = Meter()
        cost.forward(self._parameters(job.adapter), together.positions(job, rows))
        cost.generated(sum(map(len, rows)))
        self._total.add(cost)
        return Written(self._generations(job.prompts, rows, job.seed), cost)

    def _generations(self, prompts: Sequence[Tokens], rows: Sequence[list[int]], seed: int | None) -> list[Generation]:
        return [
            Generation(prompt, tuple(row), self._text.decode(row), self._has_ended(row), seed, index, len(prompts))
            for index, (prompt, row) in enumerate(zip(prompts, rows, strict=True))
        ]
