"""What the sample gates and the diversity gates would see on real tasks: the numbers that limits are set from.

Each task is practised on as an update would (the model's own settings, the parent's weights), every measure is taken of
every sample that parses, and nothing is written or learned. Where a task is of a known domain, its verifier says which
samples are right: that is for figures only, and reaches no gate.

Statistics by name. By sample: `perplexity` and `agreement`, and the same `.right` and `.wrong`; `near_duplicate`
(similarity to the most similar earlier sample), `contamination`, `density_ratio`. By task: `distinct_2`, `self_bleu`,
`near_duplicate_share`, `unparseable_share`. By sub-problem of a task, stated as practice for it with its reference
solution: `perplexity.real`. One number:
`repeated_share`, the share of samples that have a near-duplicate in another task's, estimated by MinHash.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

from mass_gov.errors import TaskError
from mass_gov.flows.near_duplicates import repeated_share
from mass_gov.flows.workbench import Workbench, current_origin
from mass_gov.mass.density import density_ratios
from mass_gov.mass.prompting import PromptTemplate, parse_answer, up_to_solution
from mass_gov.mass.values import Adapter
from mass_gov.policy.diversity import distinct_2, self_bleu
from mass_gov.policy.sample_gates.perplexity import PERPLEXITY
from mass_gov.policy.similarity import KeptQuestions, nearest_case
from mass_gov.records.artifacts import SampleContent
from mass_gov.stages.measuring import same_answer
from mass_gov.stages.synthesis import score, synthesise
from mass_gov.tasks.anchors import Anchor
from mass_gov.tasks.registry import domain
from mass_gov.tasks.task import Task

RESOLVES = 8
REAL = 4
"""Sub-problems of each task that stand for real practice."""
Statistics = dict[str, list[float]]


def sample_statistics(
    bench: Workbench, tasks: Sequence[Task], *, resolves: int = RESOLVES, seed: int = 0
) -> Statistics:
    """The distributions over these tasks; a statistic that no task gave is absent.

    Arguments:
        tasks: of the domains that come with this release.
        resolves: fresh solutions per sample. 0 leaves agreement out, which costs the most.
        seed: task number i is practised on with seed + i.
    """
    found: Statistics = defaultdict(list)
    adapter = current_origin(bench).adapter
    pooled: list[tuple[int, str]] = []
    for place, task in enumerate(tasks):
        written = synthesise(bench.learner, task.question, adapter, seed + place, bench.spec.sampling)
        samples = score(bench.learner, task.question, written, perplexity=True).samples
        parsed = [sample for sample in samples if sample.question is not None]
        found["unparseable_share"].append(1 - len(parsed) / len(samples))
        _of_task(bench, task, parsed, found)
        _of_samples(bench, task, parsed, adapter, resolves, seed + place, found)
        pooled += [(place, sample.question or "") for sample in parsed]
    if pooled:
        found["repeated_share"] = [repeated_share(pooled)]
    return dict(found)


def _of_task(bench: Workbench, task: Task, parsed: Sequence[SampleContent], found: Statistics) -> None:
    real = [_as_practice(domain(task.domain).subproblem(task, i), bench.learner.template) for i in range(REAL)]
    with suppress(TaskError):  # a model that cannot write these tasks has no figure of them
        readings = bench.learner.read_samples(task.question, [bench.learner.as_written(text) for text in real])
        found["perplexity.real"] += [reading.surprise for reading in readings]
    kept, nearest, earlier = list[str](), list[float](), KeptQuestions(task.question)
    threshold = bench.policy.document.gates.sample_near_duplicate.similarity
    for question in [sample.question or "" for sample in parsed]:
        nearest.append(earlier.nearest(question))
        if nearest[-1] < threshold:
            kept.append(question)
            earlier.keep(question)
    found["near_duplicate"] += nearest
    if parsed:
        found["near_duplicate_share"].append(1 - len(kept) / len(parsed))
    for name, value in (("distinct_2", distinct_2(kept)), ("self_bleu", self_bleu(kept))):
        if value is not None:
            found[name].append(value)


def _as_practice(easier: Task, template: PromptTemplate) -> str:
    """What a generator would write that knows the sub-problem and how it is solved."""
    scratch = f"{template.scratch}{easier.scratch}" if template.scratch and easier.scratch else ""
    return f"{easier.practice}{scratch}{template.separator}{Anchor.of(easier).solution(template.marker)}"


def _of_samples(
    bench: Workbench,
    task: Task,
    parsed: Sequence[SampleContent],
    adapter: Adapter | None,
    resolves: int,
    seed: int,
    found: Statistics,
) -> None:
    learner, template = bench.learner, bench.learner.template
    cases = nearest_case(bench.cases_for("instance"))
    found["contamination"] += [cases.nearest(sample.question or "")[0] for sample in parsed]
    written = [f"{sample.question}{template.separator}{sample.answer}" for sample in parsed]
    real = [f"{anchor.question}{template.separator}{anchor.answer}" for anchor in bench.anchors.anchors]
    found["density_ratio"] += density_ratios(written, real)
    surprises = [(sample, (sample.measures or {}).get(PERPLEXITY)) for sample in parsed]
    finite = [(sample, value) for sample, value in surprises if value is not None]
    _sorted(task, [sample for sample, _ in finite], "perplexity", [value for _, value in finite], found)
    if resolves:
        begun = [(s.index, up_to_solution(s.text, s.question or "", template)) for s in parsed]
        limit = bench.spec.sampling.max_new_tokens
        again = learner.solve_again(task.question, begun, adapter, count=resolves, seed=seed, limit=limit)
        answers = [[parse_answer(solution.text, template) or "" for solution in each] for each in again]
        agreed = [sum(same_answer(a, s.answer or "") for a in each) for s, each in zip(parsed, answers, strict=True)]
        _sorted(task, parsed, "agreement", [count / resolves for count in agreed], found)


def _sorted(task: Task, parsed: Sequence[SampleContent], name: str, values: Sequence[float], found: Statistics) -> None:
    """A statistic of samples, of all of them and of the right and the wrong ones apart."""
    for sample, value in zip(parsed, values, strict=True):
        right = domain(task.domain).is_right(task, sample.question or "", sample.answer or "")
        found[name].append(value)
        found[f"{name}.{'right' if right else 'wrong'}"].append(value)
