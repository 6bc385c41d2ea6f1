"""Which methods there are, on which weights each runs, and what its name may be followed by.

    NAME                       a method of the table below
    solver-grpo+vote           a trained rival with a vote
    mass-gold/uniform          MASS with one part exchanged
    mass-gold/m=12/k=2         ... with settings; parts may follow one another, at most one of them exchanges something

Rules: one name, one method, on one folder of weights; unknown names are refused with the list of known ones. Folders
are names here ("base", "mass-gold"): where they lie is the caller's knowledge.

Does not know results.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from mass_gov.errors import NotFoundError
from mass_gov.mass.rivals import context, given_practice, mass, plain, self_training, trained
from mass_gov.mass.rivals.values import Method, Setup

Budget = Literal["flops", "tokens"]
BASE, GOLD = "base", "mass-gold"
STEP_SIZES = (0.1, 0.3, 1.0, 3.0)
VOTE_TEMPERATURES = (0.4, 0.7, 1.0)


@dataclass(frozen=True)
class Spec:
    """One method as it can be asked for.

    Args:
        weights: name of the folder it runs on.
        budget: what `Setup.votes` is chosen to equal, as metered on MASS; None where the method takes no votes.
        tuned: a field of Setup and the values that a validation seed chooses from.
        whole: the method must see all questions in one call.
        changes: fields of Setup that its name fixes.
    """

    name: str
    run: Method
    weights: str
    about: str
    budget: Budget | None = None
    tuned: tuple[str, tuple[float, ...]] | None = None
    whole: bool = False
    changes: Mapping[str, int] = field(default_factory=dict)

    def setup(self, given: Setup) -> Setup:
        """`given` with what the name fixes."""
        return replace(given, **self.changes)  # type: ignore[arg-type]  # names and types are `_setting`'s


_RATES = ("step_size", STEP_SIZES)
_HEAT = ("vote_temperature", VOTE_TEMPERATURES)


def _spec(name: str, run: Method, weights: str, about: str, **more: object) -> tuple[str, Spec]:
    return name, Spec(name, run, weights, about, **more)  # type: ignore[arg-type]  # keywords of Spec, below


PLAIN: Mapping[str, Spec] = MappingProxyType(
    dict(
        (
            _spec("base", plain.base, BASE, "one greedy answer of the base model"),
            _spec("icl-samples", context.icl_samples, GOLD, "MASS's samples in context, no update"),
            _spec("majority-vote", plain.majority_vote, BASE, "a vote at MASS's FLOPs", budget="flops", tuned=_HEAT),
            _spec(
                "best-of-n", plain.best_of_n, BASE, "the likeliest of n at MASS's FLOPs", budget="flops", tuned=_HEAT
            ),
            _spec(
                "generator-vote",
                context.generator_vote,
                GOLD,
                "a vote over MASS's samples at its FLOPs",
                budget="flops",
            ),
            _spec("slow-think", context.slow_think, GOLD, "MASS's samples with their working as thoughts, no update"),
            _spec("self-critique", plain.self_critique, BASE, "revisions at MASS's tokens", budget="tokens"),
            _spec("ttt-random", given_practice.ttt_random, BASE, "an update on random easy tasks", tuned=_RATES),
            _spec("ttt-nearest", given_practice.ttt_nearest, BASE, "an update on the nearest easy tasks", tuned=_RATES),
            _spec("ttt-demos", given_practice.ttt_demos, BASE, "an update on the task's demonstrations", tuned=_RATES),
            _spec("maml-demos", given_practice.maml_demos, "maml-demos", "the same from a meta-learned start"),
            _spec("tt-ss", self_training.tt_ss, BASE, "an update on untrained practice", tuned=_RATES),
            _spec(
                "tt-ss-agreement", self_training.tt_ss_agreement, BASE, "weighed by agreeing re-solves", tuned=_RATES
            ),
            _spec(
                "tt-ss-self-judged", self_training.tt_ss_self_judged, BASE, "weighed by own likelihood", tuned=_RATES
            ),
        )
    )
)
_TRAINED: Mapping[str, tuple[Method, Method]] = MappingProxyType(
    {
        "solver-sft": (trained.solver, trained.solver_vote),
        "solver-grpo": (trained.solver, trained.solver_vote),
        "rewrite-grpo": (trained.rewrite, trained.rewrite_vote),
    }
)
_MASS = ("mass-gold", "mass-verifier")
_EXCHANGED: Mapping[str, Method] = MappingProxyType(
    {
        "no-adaptation": mass.no_adaptation,
        "uniform": mass.uniform_weights,
        "shuffled-scores": mass.shuffled_scores,
        "other-task-delta": mass.other_task_delta,
        "random-delta": mass.random_direction,
        "corrupted-answers": mass.corrupted_answers,
        "off-path": mass.off_path,
        "accumulated": mass.accumulated,
        "oracle-practice": mass.oracle_practice,
    }
)
_FOLDERS = ("first-order", "alignment-scorer")
_SETTINGS: Mapping[str, str] = MappingProxyType({"k": "steps", "m": "samples"})
_SETTING = re.compile(r"([km])=([1-9][0-9]?)")
CORE_ROWS = ("base", "majority-vote", "generator-vote", "tt-ss", "solver-grpo", "mass-gold", "mass-verifier")


def names() -> list[str]:
    """Every name without settings, and one example of each setting."""
    voted = [f"{name}{ending}" for name in _TRAINED for ending in ("", "+vote")]
    parts = (*_EXCHANGED, *_FOLDERS, "k=2", "m=12")
    return [*PLAIN, *voted, *(name for one in _MASS for name in (one, *(f"{one}/{part}" for part in parts)))]


def find(name: str) -> Spec:
    """The method of this name. Raises NotFoundError with the known names."""
    if name in PLAIN:
        return PLAIN[name]
    head, _, ending = name.partition("+")
    if head in _TRAINED and ending in ("", "vote") and name in (head, f"{head}+vote"):
        return _trained(name, head, voting=bool(ending))
    head, *parts = name.split("/")
    if head in _MASS and len(set(parts)) == len(parts):
        found = _mass(name, head, parts)
        if found is not None:
            return found
    raise NotFoundError(f"there is no method {name!r}. Use one of: {', '.join(names())}.")


def _trained(name: str, head: str, *, voting: bool) -> Spec:
    run = _TRAINED[head][voting]
    if not voting:
        return Spec(name, run, head, f"one greedy answer of {head}")
    return Spec(name, run, head, f"{head} with a vote at MASS's FLOPs", "flops", _HEAT)


def _mass(name: str, head: str, parts: list[str]) -> Spec | None:
    """The spec of `head/part/...`; None where a part means nothing or two exchange something."""
    exchanged = [part for part in parts if part in _EXCHANGED]
    folders = [part for part in parts if part in _FOLDERS]
    settings = [match for part in parts if (match := _SETTING.fullmatch(part))]
    if len(exchanged) > 1 or len(folders) > 1 or len(exchanged) + len(folders) + len(settings) < len(parts):
        return None
    changes = {_SETTINGS[match[1]]: int(match[2]) for match in settings}
    if len(changes) < len(settings):
        return None
    run = _EXCHANGED[exchanged[0]] if exchanged else mass.mass
    about = f"MASS, {' and '.join(parts)}" if parts else "MASS as trained"
    return Spec(
        name,
        run,
        "-".join([head, *folders]),
        about,
        whole="accumulated" in exchanged,
        changes=MappingProxyType(changes),
    )
