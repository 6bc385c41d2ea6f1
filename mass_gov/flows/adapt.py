"""The sentence: request -> synthesis -> gates -> update -> regression -> decision -> ledger -> answer.

Rules: a refusal is data (a recorded decision), an exception is an outage. Nothing is served before its event is
durable, also when a task is asked again and another answer than before is due. No gold answer ever enters: a request
carries the question alone. `compute` is everything up to the decision and writes nothing, so that replay runs the very
same lines.

The ledger takes a change only while the pointer stands where it was read. If it moved meanwhile, a change of scope
instance is computed again, once, from where it stands now; one of scope deployment is refused. An answer whose weights
came from a state that was rolled back since is not served again: the base answers.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from uuid6 import uuid7

from mass_gov.errors import FrozenError, RefusedError, StaleChangeError, TaskError, TaskReusedError
from mass_gov.evidence.canonical import parse_canonical
from mass_gov.flows.answering import answers
from mass_gov.flows.approve import undone_parent
from mass_gov.flows.authority import authorise
from mass_gov.flows.drafting import change_drafts, response_body, served_text
from mass_gov.flows.exchange import Ahead, Answered, Outcome, Practised, Request, Worked
from mass_gov.flows.handles import task_commitment
from mass_gov.flows.monitoring import Watch, probe, watching, window_measures
from mass_gov.flows.standing import LogReading, refuse_paused
from mass_gov.flows.timing import Timed
from mass_gov.flows.workbench import Origin, Workbench, current_origin, under_policy_in_force
from mass_gov.ledger import ChangeView
from mass_gov.policy import Facts, load_policy
from mass_gov.policy.diversity import sample_measures
from mass_gov.policy.update_measures import asked_for
from mass_gov.records.artifacts import (
    AnswerContent,
    BatchContent,
    RegressionContent,
    RequestContent,
    SamplesContent,
)
from mass_gov.records.base import timestamp
from mass_gov.records.change import (
    Measure,
    RegressionSummary,
    Scope,
    SynthesisSummary,
)
from mass_gov.records.drafts import EventDraft
from mass_gov.stages.anchors import mix_in
from mass_gov.stages.decision import decide_change
from mass_gov.stages.gates import gate_samples
from mass_gov.stages.measuring import measure_agreement, measure_density
from mass_gov.stages.regression import compare
from mass_gov.stages.synthesis import ForcedSample, force, score, scorer_of, synthesise
from mass_gov.stages.update import Learned, take_steps

FromLog = Callable[[int], tuple[Measure, ...]]


def adapt(request: Request, bench: Workbench, ahead: Ahead | None = None) -> Answered:
    """Adapt to one request, record it, and answer.

    Arguments:
        ahead: what was computed for it beforehand (`adapt_many`), used if it still starts where it has to.

    Raises:
        PermissionRefusedError: whoever asks may not ask for this; nothing is served.
        TaskError: the question cannot be posed to this model, or its task id was used for another question.
        FrozenError: learning is frozen (`flows.respond.adapt_or_respond` answers un-adapted then).
        PausedError: a budget is spent, or the deployment cools down (answered un-adapted likewise).
        StaleChangeError: the pointer moved while this ran, for scope instance twice; nothing was written or served.
        OutageError: the ledger or a key is unavailable; nothing was written and nothing is served.
        AbandonedError: `bench.wanted` says that nobody waits any more; nothing was written.
    """
    bench = under_policy_in_force(bench)
    place = (bench.tenant, bench.deployment)
    authorise(bench.ledger, bench.actor, "solve", place, scope=request.scope, policy=bench.policy)
    if (known := recall(request, bench)) is not None:
        return known
    refuse_frozen(bench)  # before any work is done; the ledger refuses it again when it is written
    refuse_paused(request.scope, bench)
    seed, requested_at = _asked(request, bench) if ahead is None else (ahead.seed, ahead.requested_at)
    try:
        return _adapt_once(request, seed, requested_at, bench, ahead)
    except StaleChangeError:
        if request.scope != "instance":
            raise  # where a pointer is to move from is for the person who asked to look at again
        return _adapt_once(request, seed, requested_at, under_policy_in_force(bench))


def refuse_frozen(bench: Workbench) -> None:
    """Refuse to learn where learning is frozen."""
    frozen = bench.ledger.frozen(bench.tenant, bench.deployment)
    if frozen is not None:
        raise FrozenError(
            f"learning is frozen for {bench.tenant}/{bench.deployment} since event {frozen.index}. An operator ends "
            "that by `mass-gov unfreeze`."
        )


def _adapt_once(
    request: Request, seed: int, requested_at: str, bench: Workbench, ahead: Ahead | None = None
) -> Answered:
    change_id, origin = str(uuid7()), current_origin(bench)
    if ahead is not None and not ahead.fits(origin, bench):
        ahead = None  # somebody moved the pointer or changed the policy meanwhile: computed by itself, from there
    timed = Timed(bench.learner, bench.wanted) if ahead is None else ahead.timed
    with timed:
        question, scope = request.question, request.scope
        log, watch = LogReading(scope, origin, bench), watching(change_id, bench)
        if ahead is not None:
            outcome = decide(ahead.worked, question, scope, origin, bench, timed, log.measures, watch)
        else:
            outcome = compute(
                question,
                scope,
                seed,
                origin,
                bench,
                forced=request.forced,
                watch=watch,
                from_log=log.measures,
                timed=timed,
            )
    drafts = change_drafts(change_id, request, seed, requested_at, origin, outcome, log, timed, bench)
    bench.wanted()  # the last moment: from here on it is decided, and recorded whoever waits
    try:
        bench.ledger.append(drafts)  # durable from here on; before it, nothing was served
    except RefusedError:
        # Another process recorded the same task first: its change is the answer, ours was never written.
        if (known := recall(request, bench)) is not None:
            return known
        raise
    return _serve(bench.ledger.change(change_id), outcome.answer, bench, repeated=False)


def compute(
    question: str,
    scope: Scope,
    seed: int,
    origin: Origin,
    bench: Workbench,
    *,
    forced: Sequence[ForcedSample] = (),
    samples: SamplesContent | None = None,
    batch: BatchContent | None = None,
    unscored: bool = False,
    from_log: FromLog,
    watch: Watch | None = None,
    timed: Timed | None = None,
) -> Outcome:
    """Compute the change from the question to the decision and the answers.

    Arguments:
        forced: samples that the caller supplies.
        samples: recorded samples to take instead of writing new ones (replay from samples).
        batch: the batch that it was computed in, where that is to be repeated (replay).
        unscored: weigh the samples as if the model had no scorer (a counterfactual).
        watch: the change's id and its window, for the window monitors; without it they know nothing, and fail.
        from_log: what the log says of a change that cost so many FLOPs; a replay says what it said then.
        timed: collects wall seconds by stage.
    """
    timed = timed or Timed(bench.learner)
    with timed.stage("synthesis"):
        if samples is None:
            samples = (
                force(bench.learner, forced)
                if forced
                else synthesise(bench.learner, question, origin.adapter, seed, bench.spec.sampling, batch)
            )
            samples = mixed(samples, question, scope, seed, bench)
    practised = practise(samples, question, scope, seed, origin, bench, timed, unscored=unscored)
    with timed.stage("regression"):
        regression = regress(scope, origin, practised.learned, bench)
    with timed.stage("answer"):  # nothing is served yet, and what it cost is decided on
        answer = answers(question, origin, practised.learned, bench, batch)
    return decide(Worked(practised, regression, answer), question, scope, origin, bench, timed, from_log, watch)


def mixed(samples: SamplesContent, question: str, scope: Scope, seed: int, bench: Workbench) -> SamplesContent:
    """Add the anchors that the policy wants beside what was written."""
    return mix_in(bench.learner, samples, question, seed, bench.policy, scope, bench.cases_for(scope), bench.anchors)


def practise(
    samples: SamplesContent,
    question: str,
    scope: Scope,
    seed: int,
    origin: Origin,
    bench: Workbench,
    timed: Timed,
    *,
    unscored: bool = False,
) -> Practised:
    """Score, judge and weigh what was written, and take the step on it."""
    document = bench.policy.document
    with timed.stage("synthesis"):
        # Recorded samples too: a score is computed, never believed.
        surprise = document.gates_for(scope).sample_perplexity != "unused"
        samples = score(bench.learner, question, samples, perplexity=surprise, unscored=unscored)
        scorer = None if unscored else scorer_of(bench.learner, samples)
    samples, synthesis = gated(samples, question, scope, seed, origin, scorer, bench, timed.stage)
    asked = asked_for(document, scope)
    measures = sample_measures(samples.samples, asked) if synthesis.kept else ()
    with timed.stage("update"):
        learned = take_steps(
            bench.learner,
            samples,
            origin.start,
            origin.state,
            bench.spec.update,
            radius=document.update.radius_for(scope),
            asked=asked,
            anchors=bench.anchors,
        )
    return Practised(samples, synthesis, learned, measures)


def decide(
    worked: Worked,
    question: str,
    scope: Scope,
    origin: Origin,
    bench: Workbench,
    timed: Timed,
    from_log: FromLog,
    watch: Watch | None,
) -> Outcome:
    """Read what the log says of the change, as it stands now, and decide."""
    practised, regression = worked.practised, worked.regression
    samples, learned = practised.samples, practised.learned
    with timed.stage("regression"):
        if regression is not None and watch is not None:
            cases = probe(watch.change_id, scope, origin, learned, bench)
            regression = (regression[0].model_copy(update={"probe": cases}) if cases else regression[0], regression[1])
    with timed.stage("decision"), bench.ledger.snapshot():  # one moment of the log
        measures = (*practised.measures, *learned.measures, *from_log(timed.flops))
        by_name = {measure.name: measure for measure in measures}
        if regression is not None and watch is not None:
            windows = window_measures(scope, question, samples, regression[0].probe, by_name, watch, bench)
            measures = (*measures, *windows)
            by_name |= {measure.name: measure for measure in windows}
        facts = Facts(scope, practised.synthesis, learned.summary, regression[1] if regression else None, by_name)
        gates, decision = decide_change(facts, bench.policy)
    return Outcome(samples, practised.synthesis, learned, regression, gates, decision, worked.answer, measures)


def gated(
    samples: SamplesContent,
    question: str,
    scope: Scope,
    seed: int,
    origin: Origin,
    scorer: str | None,
    bench: Workbench,
    stage: Callable[[str], AbstractContextManager[None]],
) -> tuple[SamplesContent, SynthesisSummary]:
    """Measure what only a model can tell, then judge. What costs generation is timed as a stage of its own."""
    policy, learner, where = bench.policy, bench.learner, (bench.policy, scope, bench.cases_for(scope))
    if policy.document.gates_for(scope).sample_agreement != "unused":
        with stage("agreement"):
            limit = bench.spec.sampling.max_new_tokens
            samples = measure_agreement(learner, samples, question, origin.adapter, seed, *where, limit)
    with stage("gates"):
        samples = measure_density(samples, question, *where, bench.anchors, learner.template.separator)
        return gate_samples(samples, question, policy, origin.state, scorer, scope=scope, cases=bench.cases_for(scope))


def recall(request: Request, bench: Workbench) -> Answered | None:
    """Return the recorded change of the same task, if there is one, with what it serves now.

    Where that is another answer than was served before (the change was rolled back, say), its event comes first.

    Raises:
        TaskReusedError: the task id was used before for another question.
        OutageError: the ledger or a key is unavailable; nothing is served.
    """
    commitment = task_commitment(bench.keys, request.task_id)
    known = bench.ledger.change_by_request(bench.tenant, bench.deployment, commitment)
    if known is None:
        return None
    recorded = RequestContent.model_validate(parse_canonical(bench.ledger.artifact(known.entry, "request")))
    if recorded.question != request.question:
        raise TaskReusedError(
            f"task id {request.task_id!r} was used before for another question (change {known.change_id}). "
            "Give this task its own id."
        )
    return _serve(known, _answer_of(known, bench), bench, repeated=True)


def serve_again(change_id: str, bench: Workbench) -> Answered:
    """Serve what a recorded change gives now; where that is another answer than before, its event comes first.

    Raises:
        NotFoundError: there is no such change.
        NotRetainedError: its answer was erased.
        OutageError: the ledger or a key is unavailable; nothing is served.
    """
    known = bench.ledger.change(change_id)
    return _serve(known, _answer_of(known, bench), bench, repeated=True)


def _answer_of(change: ChangeView, bench: Workbench) -> AnswerContent:
    return AnswerContent.model_validate(parse_canonical(bench.ledger.artifact(change.entry, "answer")))


def _serve(change: ChangeView, answer: AnswerContent, bench: Workbench, *, repeated: bool) -> Answered:
    """Serve what is due now, once there is an event of it; a new change brought its own along."""
    served_from, text = _due(change, answer, bench)
    before = bench.ledger.responses(change_id=change.change_id)
    if text is not None and all(response.served != served_from for response in before):
        body = response_body(change.body, served_from, answer)
        bench.ledger.append([EventDraft(bench.actor, bench.tenant, bench.deployment, body)])
    return Answered(change, answer, text, served_from, repeated)


def _due(change: ChangeView, answer: AnswerContent, bench: Workbench) -> tuple[str, str | None]:
    """Say whose answer a recorded change gives now, under the policy that decided it."""
    digest = change.body.parents.policy
    policy = bench.policy if bench.policy.digest == digest else load_policy(bench.ledger.policy_bytes(digest))
    served_from, text = served_text(change.status, answer, policy)
    if served_from not in ("adapted", "parent") or undone_parent(bench.ledger, change) is None:
        return served_from, text
    return ("none", None) if policy.document.while_pending == "none" else ("base", answer.base.text)


def regress(
    scope: Scope, origin: Origin, learned: Learned, bench: Workbench
) -> tuple[RegressionContent, RegressionSummary] | None:
    """Compare the new state with the parent and the base; None where there is none."""
    if learned.files is None:
        return None
    states = ((bench.base_state, None), (origin.state, origin.adapter), (learned.summary.state, learned.adapter))
    runner = bench.runner_for(scope)
    try:
        return compare(runner, states, bench.policy.document.gates_for(scope))
    finally:
        runner.forget(learned.summary.state)


def _asked(request: Request, bench: Workbench) -> tuple[int, str]:
    return seed_of(request), timestamp(bench.clock())


def seed_of(request: Request) -> int:
    """The seed that a request asks for, or a random one.

    Raises:
        TaskError: it is none.
    """
    if request.seed is None:
        return secrets.randbits(63)
    if not 0 <= request.seed < 2**63:
        raise TaskError(f"seed {request.seed} is out of range; use 0 to 2^63 - 1.")
    return request.seed
