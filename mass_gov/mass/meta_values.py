"""What meta-training is told and what it says of a step. Importable without torch.

Rules: frozen; every setting is checked where it is made. Does not know how any of it is computed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mass_gov.errors import SettingsError
from mass_gov.mass.values import LoraSettings

Outer = Literal["gold", "verifier"]
Practice = Literal["generator", "demonstrations", "rewrite", "none"]
Scorer = Literal["through-update", "alignment", "none"]
Role = Literal["task", "sibling", "other"]
MetaParameters = Literal["full", "lora"]


@dataclass(frozen=True)
class Query:
    """A question that the adapted model is judged on.

    Args:
        role: `task`, what was adapted to; `sibling`, another question about the same operator or rule; `other`, a
            solved question of the base's own training that adapting must not spoil.
        solution: reference solution; of what is not `other` a verifier run reads only how many values it marks.
        answer: what a right solution ends in.
    """

    role: Role
    question: str
    solution: str
    answer: str


@dataclass(frozen=True)
class MetaTask:
    """One task of an outer step: its question, what its adaptation is judged on, and demonstrations it states itself.

    All tasks of a step have equally many queries; the first is the task.
    """

    question: str
    queries: tuple[Query, ...]
    demonstrations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Rates:
    """Peak learning rates of AdamW: theta, phi_0, the logarithms of the step sizes, the scorer's head."""

    model: float = 4e-4
    start: float = 2e-3
    step_sizes: float = 3e-2
    scorer: float = 1e-2


@dataclass(frozen=True)
class MetaSettings:
    """Everything that determines a meta-training run besides its base and its tasks.

    Args:
        seed: of tasks, samples, phi_0 and the scorer's head.
        steps: outer steps; tasks: tasks per outer step; samples: m; inner_steps: K.
        outer: `gold`, cross-entropy of reference solutions, or `verifier`, GRPO (Shao et al., 2024, arXiv 2402.03300)
            over `solutions` sampled solutions, with reward 0 or 1, of the task and of siblings, `rewarded` in all. A
            solution is rewarded if its answer is right and it marks as many values as the question asks to name.
            Negative advantages count `negative_weight`: where most solutions are wrong by chance, pushing them away
            spoils the model faster than the right ones teach it.
        practice: who writes what is practised: the generator, the task's own demonstrations (MAML), or nobody (the
            outer loss alone: plain fine-tuning). `rewrite` trains the generator to answer the task in its sample
            (plain RL on "rewrite, then answer"), with nothing practised.
        scorer: how its head is trained: by dL/ds through the update, by the alignment of each sample's gradient with
            the outer gradient at phi_0 alone, or not at all (uniform weights).
        first_order: drop second derivatives.
        meta_parameters: theta is the whole model, or LoRA tensors of `lora_meta_rank` merged into it at the end.
        temperature, max_new_tokens: of practice; solution_tokens: of sampled solutions. Practice is drawn hot, so that
            some of it is wrong: a scorer learns nothing from samples that are all right.
        test_samples, test_temperature: m and temperature at test time: in validation and in the core that is written.
            More samples, drawn hotter, ask more different questions; that more of them are wrong is what scores are
            for.
        softening: the inner cross-entropy is that of logits / softening.
        step_size: alpha at the start.
        sibling_weight, other_weight: of those queries beside the task's 1.
        solve_weight: gamma, of the un-adapted solver's own loss.
        generator_weight, kl_weight: of the policy gradient and of the KL to the starting generator.
        least_distinct: below this share of distinct samples the policy gradient is switched off for the step, so that
            only the KL acts: a guard against collapse.
        warmup: steps over which the rates rise; decay: share of the steps, at the end, over which they fall to
            `final_share`.
        clip: largest norm of a step's gradient; a step whose gradient is not finite, or more than `spike` times the
            running norm, is skipped and counted.
    """

    seed: int = 0
    steps: int = 250
    tasks: int = 16
    samples: int = 8
    inner_steps: int = 1
    outer: Outer = "gold"
    practice: Practice = "generator"
    scorer: Scorer = "through-update"
    first_order: bool = False
    meta_parameters: MetaParameters = "full"
    lora_meta_rank: int = 16
    lora: LoraSettings = field(default_factory=LoraSettings)
    rates: Rates = field(default_factory=Rates)
    temperature: float = 1.5
    test_samples: int = 24
    test_temperature: float = 2.2
    max_new_tokens: int = 48
    solution_tokens: int = 40
    solutions: int = 8
    rewarded: int = 3
    negative_weight: float = 0.0
    softening: float = 3.0
    step_size: float = 3.0
    sibling_weight: float = 1.0
    other_weight: float = 0.7
    solve_weight: float = 0.3
    generator_weight: float = 0.1
    kl_weight: float = 0.1
    least_distinct: float = 0.25
    warmup: int = 30
    decay: float = 0.4
    final_share: float = 0.05
    clip: float = 1.0
    spike: float = 20.0

    def __post_init__(self) -> None:
        """Raise SettingsError for numbers that mean nothing."""
        for name in (
            "steps",
            "tasks",
            "samples",
            "test_samples",
            "inner_steps",
            "solutions",
            "rewarded",
            "max_new_tokens",
            "solution_tokens",
        ):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}. Give 1 or more.")
        if self.seed < 0:
            raise SettingsError(f"seed is {self.seed}. Give 0 or more.")
        if self.outer == "verifier" and self.solutions < 2:
            raise SettingsError("a verifier run compares solutions of one task. Give solutions 2 or more.")
        if not all(v > 0 for v in (self.step_size, self.softening, self.temperature, self.test_temperature)):
            raise SettingsError("step_size, softening, temperature and test_temperature must be above 0.")

    def rate_factor(self, step: int) -> float:
        """Share of the peak rates that outer step number `step` (from 0) uses."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        fall = (self.steps - step) / max(1.0, self.decay * self.steps)
        return rise * max(self.final_share, min(1.0, fall))
