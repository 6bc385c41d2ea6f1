"""Step 1, synthesis: the model writes practice problems, with answers, for the task at hand.

Each sample has its own counter-based generator, so that sample i does not depend on how far the others went. What is
parsed here is kept whether or not it parses: an unparseable sample is recorded with weight 0. This step does not know
gates, and never sees a gold answer. Where the model brings a trained scorer, it scores what was written, read or not;
what a caller supplied is not scored, because the model did not write it. The same pass says how surprising it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mass_gov.errors import TaskError
from mass_gov.mass.learner import Learner
from mass_gov.mass.metering import Meter
from mass_gov.mass.prompting import ParsedSample, Unparseable, parse_sample
from mass_gov.mass.values import Adapter, Generation, Reading, SamplingSettings
from mass_gov.policy.sample_gates.perplexity import PERPLEXITY
from mass_gov.records.artifacts import BatchContent, SampleContent, SamplesContent
from mass_gov.records.settings import SamplingSpec

MAX_FORCED = 64


@dataclass(frozen=True, slots=True)
class ForcedSample:
    """A sample that the caller supplies instead of the model: marked as forced wherever it is recorded."""

    question: str
    solution: str


def synthesise(
    learner: Learner,
    question: str,
    adapter: Adapter | None,
    seed: int,
    spec: SamplingSpec,
    batch: BatchContent | None = None,
) -> SamplesContent:
    """Let the model write `spec.count` samples for `question`, with the weights of `adapter` (None: the base).

    With `batch`, as they were written in that batch.
    """
    if batch is not None:
        return synthesise_together(learner, [question], adapter, [seed], spec, [batch])[0][0]
    settings = SamplingSettings(temperature=spec.temperature, max_new_tokens=spec.max_new_tokens)
    written = learner.write_samples(question, adapter, count=spec.count, seed=seed, settings=settings)
    return _written(learner, written, seed, None)


def synthesise_together(
    learner: Learner,
    questions: Sequence[str],
    adapter: Adapter | None,
    seeds: Sequence[int],
    spec: SamplingSpec,
    batches: Sequence[BatchContent],
) -> list[tuple[SamplesContent, Meter]]:
    """As `synthesise` for each question with its seed, written at once, with what each costs.

    Arguments:
        batches: one for each question, of one width.
    """
    settings = SamplingSettings(temperature=spec.temperature, max_new_tokens=spec.max_new_tokens)
    width = batches[0].practise_width
    found = learner.write_samples_together(
        questions, adapter, count=spec.count, seeds=seeds, settings=settings, width=width
    )
    return [
        (_written(learner, written.generations, seed, batch), written.cost)
        for written, seed, batch in zip(found, seeds, batches, strict=True)
    ]


def _written(learner: Learner, written: Sequence[Generation], seed: int, batch: BatchContent | None) -> SamplesContent:
    samples = tuple(
        _content(
            generation.index,
            str(seed),
            generation.tokens,
            generation.text,
            generation.finished,
            _parse(learner, generation.text, generation.finished),
        )
        for generation in written
    )
    return SamplesContent(
        prompt_tokens=written[0].prompt_tokens, batch_size=len(written), forced=False, samples=samples, batch=batch
    )


def force(learner: Learner, samples: Sequence[ForcedSample]) -> SamplesContent:
    """Take the caller's samples as if the model had written them, in the same format and through the same parser."""
    if not 1 <= len(samples) <= MAX_FORCED:
        raise TaskError(f"{len(samples)} forced samples were given; give 1 to {MAX_FORCED}.")
    texts = [sample.question + learner.template.separator + sample.solution for sample in samples]
    contents = tuple(
        _content(index, "0", (), text, True, _parse(learner, text, True)) for index, text in enumerate(texts)
    )
    return SamplesContent(prompt_tokens=(), batch_size=len(samples), forced=True, samples=contents)


def scorer_of(learner: Learner, samples: SamplesContent) -> str | None:
    """The digest of the head that scores these samples; None where there is none, or a caller wrote them."""
    return None if samples.forced or learner.core is None else learner.core.scorer_digest


def score(
    learner: Learner, question: str, samples: SamplesContent, *, perplexity: bool = False, unscored: bool = False
) -> SamplesContent:
    """Score every sample that the model wrote from its tokens, whatever score it had. Anchors have none.

    Arguments:
        perplexity: note how surprising each sample that parses is as well, of forced ones too: it costs nothing where
            there is a scorer, and one forward pass where there is none.
        unscored: leave the scores out, as if there were no scorer.

    Raises:
        TaskError: this model cannot have written these tokens for this question.
    """
    scored = not unscored and scorer_of(learner, samples) is not None
    read = [one for one in samples.samples if not one.real and (one.question is not None or not samples.forced)]
    found: dict[int, Reading] = {}
    if scored or perplexity:
        written = [learner.as_written(one.text) if samples.forced else one.tokens for one in read]
        readings = learner.read_samples(question, written)
        found = {one.index: reading for one, reading in zip(read, readings, strict=True)}
    return samples.model_copy(
        update={"samples": tuple(_read(one, found.get(one.index), scored, perplexity) for one in samples.samples)}
    )


def _read(sample: SampleContent, reading: Reading | None, scored: bool, perplexity: bool) -> SampleContent:
    score = reading.score if scored and reading is not None else None
    noted = sample.model_copy(update={"score": score})
    if not perplexity or reading is None or sample.question is None:
        return noted
    return noted.with_measure(PERPLEXITY, reading.surprise)


def _parse(learner: Learner, text: str, finished: bool) -> ParsedSample | Unparseable:
    """Parse one sample; practice that the model could not be asked (too long, unreadable) does not count as parsed."""
    parsed = parse_sample(text, learner.template, finished=finished)
    if isinstance(parsed, ParsedSample) and (reason := learner.unusable(parsed.question, parsed.solution)):
        return Unparseable(reason)
    return parsed


def _content(
    index: int, seed: str, tokens: tuple[int, ...], text: str, finished: bool, parsed: ParsedSample | Unparseable
) -> SampleContent:
    readable = parsed if isinstance(parsed, ParsedSample) else None
    return SampleContent(
        index=index,
        seed=seed,
        tokens=tokens,
        text=text,
        finished=finished,
        question=readable.question if readable else None,
        solution=readable.solution if readable else None,
        answer=readable.answer if readable else None,
        unparseable=parsed.reason if isinstance(parsed, Unparseable) else None,
        score=None,
        weight=0.0,
        gates=(),
        dropped_by=(),
    )
