"""What a policy says about each gate: its thresholds, its limit, and what its failure does.

Rules: every gate of the catalogue is named by every policy, so that none is missing by oversight; a later gate may be
`unused`, in that word (YAML reads `off` as false), or for changes of one scope only (`scopes`). The ten gates without
that choice are always judged. Sample gates have a threshold for one sample, and a limit on the share of samples that
offend; offending samples are dropped in any case. Whoever computes a statistic asks `PolicyDocument.gates_for(scope)`
whether anybody wants it. What the statistics are is said in `mass_gov.policy.measures` and docs/reference/gates.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mass_gov.policy.bounds import Method
from mass_gov.policy.wider import Wider
from mass_gov.records.change import SCOPES, GateLevel, OnFail, Scope

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
Limit = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Positive = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
RelativeNorm = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False, strict=True)]
"""A norm of a weight change over the norm of the weights: 0.6 is 60%, and whoever writes 60 means a percentage."""
Margin = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, strict=True)]
StopOnFail = Annotated[Literal["hold", "reject"], Wider.EARLIER]
Window = Annotated[int, Field(ge=1, le=500, strict=True)]
"""Changes that a window holds; `verify` remembers twice as many of every deployment."""
Unused = Literal["unused"]


class Part(BaseModel):
    """Base of every part of a policy file: frozen, closed, finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GatePart(Part):
    """What every gate has."""

    scopes: Annotated[tuple[Scope, ...], Field(min_length=1), Wider.FEWER] = SCOPES
    """Scopes of the changes that it judges; every scope where the file does not say. Only later gates may say it."""


class ShareGate(GatePart):
    """A share of all samples that must stay at or below `limit`. Offending samples are dropped in any case."""

    limit: Annotated[Share, Wider.HIGHER]
    on_fail: Annotated[OnFail, Wider.EARLIER]


class NearDuplicateGate(ShareGate):
    """Samples whose estimated Jaccard similarity to another one that is kept reaches `similarity` are offending."""

    similarity: Annotated[Share, Wider.HIGHER]
    keep: Literal["first", "best"] = "first"
    """Of samples that ask the same, the one that was written first, or the one with the highest score."""


class FiniteGate(GatePart):
    """Every loss and norm is a finite number."""

    on_fail: StopOnFail


class LimitGate(GatePart):
    """A number that must stay at or below `limit`."""

    limit: Annotated[Limit, Wider.HIGHER]
    on_fail: StopOnFail


class NormGate(LimitGate):
    """A relative norm that must stay at or below `limit`."""

    limit: Annotated[RelativeNorm, Wider.HIGHER]


class MarginGate(GatePart):
    """The one-sided 95% lower bound of the paired difference must reach `-margin`."""

    margin: Annotated[Margin, Wider.HIGHER]
    instance_margin: Margin | None = None
    """What holds for scope instance in its place: such an update answers one task and is gone, whereas a pointer's
    state answers everything after it."""
    bound: Method = "corrected"
    """How the bound is computed (`mass_gov.policy.bounds`); files of format 1 meant `tango`."""
    on_fail: StopOnFail


class PowerGate(GatePart):
    """The suite has as many cases as it takes (`mass_gov.policy.power`) that a model that is truly as good, and answers
    a share of `discordance` of the cases otherwise, reaches the narrower of the two margins with probability `power`.
    """

    discordance: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, strict=True), Wider.LOWER]
    power: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False, strict=True), Wider.LOWER]
    on_fail: StopOnFail


class AgreementGate(ShareGate):
    """Samples whose answer fewer than `agreement` of `resolves` fresh solutions reach are offending."""

    resolves: Annotated[Positive, Wider.LOWER]
    agreement: Annotated[Share, Wider.LOWER]


class PerplexityGate(ShareGate):
    """Samples whose NLL per token (nats) under the frozen base lies outside [low, high] are offending."""

    low: Annotated[Limit, Wider.LOWER]
    high: Annotated[Limit, Wider.HIGHER]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is above high, so that no sample lies between them; exchange them")
        return self


class ContaminationGate(ShareGate):
    """Samples whose similarity to a case of a regression or evaluation suite reaches `similarity` are offending."""

    similarity: Annotated[Share, Wider.HIGHER]


class AtLeastGate(GatePart):
    """A number that must reach `limit`."""

    limit: Annotated[Limit, Wider.LOWER]
    on_fail: StopOnFail


class ShareAtLeastGate(AtLeastGate):
    """A share that must reach `limit`."""

    limit: Annotated[Share, Wider.LOWER]


class BudgetGate(GatePart):
    """What one tenant may spend in any hour, this change included."""

    changes_per_hour: Annotated[Positive, Wider.HIGHER]
    flops_per_hour: Annotated[Limit, Wider.HIGHER]
    on_fail: StopOnFail


class WindowGate(LimitGate):
    """A statistic over the last `window` changes of the deployment that must stay at or below `limit`."""

    window: Window


class FlipsGate(WindowGate):
    """The e-value of paired flips on `cases` fresh cases a change; up to `tolerance` more losses than gains are lawful.

    Every `window` probes a part of the capital starts anew (`mass_gov.policy.monitors.flips`).
    """

    cases: Annotated[int, Field(ge=1, le=400, strict=True), Wider.LOWER]
    tolerance: Annotated[Share, Wider.HIGHER]


class WindowAtLeastGate(AtLeastGate):
    """A statistic over the last `window` changes of the deployment that must reach `limit`."""

    window: Window


class Gates(Part):
    """The gates of this policy."""

    sample_format: ShareGate = Field(alias="sample.format")
    sample_near_duplicate: NearDuplicateGate = Field(alias="sample.near_duplicate")
    sample_target_leakage: ShareGate = Field(alias="sample.target_leakage")
    sample_contamination: ContaminationGate | Unused = Field(alias="sample.contamination")
    sample_personal_data: ShareGate | Unused = Field(alias="sample.personal_data")
    sample_secrets: ShareGate | Unused = Field(alias="sample.secrets")
    sample_perplexity: PerplexityGate | Unused = Field(alias="sample.perplexity")
    sample_agreement: AgreementGate | Unused = Field(alias="sample.agreement")
    update_distinct_2: ShareAtLeastGate | Unused = Field(alias="update.distinct_2")
    update_self_bleu: LimitGate | Unused = Field(alias="update.self_bleu")
    update_real_share: ShareAtLeastGate | Unused = Field(alias="update.real_share")
    update_generation_depth: LimitGate | Unused = Field(alias="update.generation_depth")
    update_finite: FiniteGate = Field(alias="update.finite")
    update_steps: LimitGate = Field(alias="update.steps")
    update_step_norm: NormGate = Field(alias="update.step_norm")
    update_cumulative_norm: NormGate = Field(alias="update.cumulative_norm")
    update_spectral_norm: NormGate | Unused = Field(alias="update.spectral_norm")
    update_cumulative_spectral_norm: NormGate | Unused = Field(alias="update.cumulative_spectral_norm")
    update_anchor_kl: LimitGate | Unused = Field(alias="update.anchor_kl")
    update_anchor_kl_p99: LimitGate | Unused = Field(alias="update.anchor_kl_p99")
    update_loss_jump: LimitGate | Unused = Field(alias="update.loss_jump")
    update_budget: BudgetGate | Unused = Field(alias="update.budget")
    update_cooldown: AtLeastGate | Unused = Field(alias="update.cooldown")
    regression_previous: MarginGate = Field(alias="regression.previous")
    regression_base: MarginGate = Field(alias="regression.base")
    regression_critical: LimitGate = Field(alias="regression.critical")
    regression_power: PowerGate | Unused = Field(alias="regression.power")
    window_flips: FlipsGate | Unused = Field(alias="window.flips")
    window_distinct_2: WindowAtLeastGate | Unused = Field(alias="window.distinct_2")
    window_tail_coverage: WindowAtLeastGate | Unused = Field(alias="window.tail_coverage")
    window_density_ratio: WindowGate | Unused = Field(alias="window.density_ratio")
    window_generation_depth: WindowGate | Unused = Field(alias="window.generation_depth")

    @model_validator(mode="after")
    def _always(self) -> Self:
        for name, settings in self.used().items():
            if name not in LATER_GATES and set(settings.scopes) != set(SCOPES):
                raise ValueError(f"{name} is judged in every scope; take `scopes` out of it")
        return self

    @property
    def narrower_margin(self) -> float:
        """Of the two margins: what the suite has to be large enough for."""
        return min(self.regression_previous.margin, self.regression_base.margin)

    def named(self) -> dict[str, Any]:
        """Every gate by its name in the file, in the catalogue's order: its settings, or `unused`."""
        return {str(field.alias): getattr(self, attribute) for attribute, field in type(self).model_fields.items()}

    def used(self, level: GateLevel | None = None) -> dict[str, Any]:
        """The settings of the gates that are in use, of one level or of all, by name and in the catalogue's order."""
        within = f"{level}." if level is not None else ""
        return {name: one for name, one in self.named().items() if one != "unused" and name.startswith(within)}

    def for_scope(self, scope: Scope) -> Gates:
        """The gates as a change of this scope meets them: its own margins, and what is not for it unused."""
        others: dict[str, object] = {}
        for attribute in type(self).model_fields:
            settings = getattr(self, attribute)
            if isinstance(settings, GatePart) and scope not in settings.scopes:
                others[attribute] = "unused"
            elif isinstance(settings, MarginGate) and scope == "instance" and settings.instance_margin is not None:
                others[attribute] = settings.model_copy(update={"margin": settings.instance_margin})
        return self.model_copy(update=others) if others else self


GATE_NAMES = tuple(str(field.alias) for field in Gates.model_fields.values())
"""The catalogue, in its order."""
LATER_GATES = tuple(str(field.alias) for field in Gates.model_fields.values() if Unused in get_args(field.annotation))
"""Gates that joined with format 2 of the file."""
