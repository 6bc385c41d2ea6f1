"""What the update gates would see on real tasks: the numbers that limits are set from.

Each task is practised on from the base as an update would, everything is measured, and nothing is written. No limit
plays a part: of the sample gates only those three drop samples that every policy has (`neutral`), so that what is
calibrated does not depend on what was calibrated before.

Statistics by the names of their gates, one value a task: norms of the step as taken, mean and 99th percentile of the
divergence on anchors, the loss after the step minus before; and `flops`, what synthesis, gates and update cost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from mass_gov.flows.adapt import gated
from mass_gov.flows.timing import Timed
from mass_gov.flows.workbench import Workbench, current_origin
from mass_gov.policy import Policy
from mass_gov.policy.gate_settings import LATER_GATES
from mass_gov.policy.update_measures import FROM_THE_UPDATE
from mass_gov.stages.synthesis import score, scorer_of, synthesise
from mass_gov.stages.update import Learned, take_steps
from mass_gov.tasks.task import Task

Statistics = dict[str, list[float]]


def update_statistics(
    bench: Workbench, tasks: Sequence[Task], *, seed: int = 0, progress: Callable[[int], None] = lambda done: None
) -> Statistics:
    """The distributions over these tasks; a task of which no valid sample came counts as `no_step` alone.

    Arguments:
        seed: task number i is practised on with seed + i.
        progress: called with how many tasks are done.
    """
    found: Statistics = defaultdict(list)
    plain = replace(bench, policy=neutral(bench.policy))
    for place, task in enumerate(tasks):
        before = bench.learner.flops
        learned = _practise(task.question, seed + place, plain)
        found["flops"].append(float(bench.learner.flops - before))
        found["no_step"].append(float(learned.files is None))
        if learned.files is not None:
            _add(learned, found)
        progress(place + 1)
    return dict(found)


def neutral(policy: Policy) -> Policy:
    """The same policy with every later gate unused: none of its calibrated limits can drop a sample."""
    document = policy.document
    gates = document.gates.model_copy(update={name.replace(".", "_"): "unused" for name in LATER_GATES})
    return policy.model_copy(update={"document": document.model_copy(update={"gates": gates})})


def _practise(question: str, seed: int, bench: Workbench) -> Learned:
    learner, origin = bench.learner, current_origin(bench)
    written = score(learner, question, synthesise(learner, question, origin.adapter, seed, bench.spec.sampling))
    stage, scorer = Timed(learner).stage, scorer_of(learner, written)
    samples, _ = gated(written, question, "instance", seed, origin, scorer, bench, stage)
    return take_steps(
        learner,
        samples,
        origin.start,
        origin.state,
        bench.spec.update,
        asked=FROM_THE_UPDATE,
        anchors=bench.anchors,
    )


def _add(learned: Learned, found: Statistics) -> None:
    summary = learned.summary
    figures = {"update.step_norm": summary.step_norm, "update.cumulative_norm": summary.cumulative_norm}
    figures |= {measure.name: measure.value for measure in learned.measures}
    for name, value in figures.items():
        if value is not None:
            found[name].append(value)
