"""What a policy says about each gate: its thresholds, its limit, and what its failure does.

Rules: every gate of the catalogue is named by every policy, so that none is missing by oversight; a later gate may be
`unused`, in that word (YAML reads `off` as false). The ten gates without that choice are always judged. Sample gates
have a threshold for one sample, and a limit on the share of samples that offend; offending samples are dropped in any
case. What the statistics are is said in `mass_gov.policy.measures` and docs/reference/gates.md.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from mass_gov.policy.bounds import Method
from mass_gov.records.change import OnFail

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
Limit = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Natural = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
Positive = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
Unused = Literal["unused"]


class Part(BaseModel):
    """Base of every part of a policy file: frozen, closed, finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ShareGate(Part):
    """A share of all samples that must stay at or below `limit`. Offending samples are dropped in any case."""

    limit: Share
    on_fail: OnFail


class NearDuplicateGate(ShareGate):
    """Samples whose estimated Jaccard similarity to an earlier sample reaches `similarity` are offending."""

    similarity: Share


class FiniteGate(Part):
    """Every loss and norm is a finite number."""

    on_fail: Literal["hold", "reject"]


class LimitGate(Part):
    """A number that must stay at or below `limit`."""

    limit: Limit
    on_fail: Literal["hold", "reject"]


class MarginGate(Part):
    """The one-sided 95% lower bound of the paired difference must reach `-margin`."""

    margin: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, strict=True)]
    bound: Method = "corrected"
    """How the bound is computed (`mass_gov.policy.bounds`); files of format 1 meant `tango`."""
    on_fail: Literal["hold", "reject"]


class PowerGate(Part):
    """The suite has as many cases as it takes (`mass_gov.policy.power`) that a model that is truly as good, and answers
    a share of `discordance` of the cases otherwise, reaches the narrower of the two margins with probability `power`.
    """

    discordance: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, strict=True)]
    power: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False, strict=True)]
    on_fail: Literal["hold", "reject"]


class AgreementGate(ShareGate):
    """Samples whose answer fewer than `agreement` of `resolves` fresh solutions reach are offending."""

    resolves: Positive
    agreement: Share


class PerplexityGate(ShareGate):
    """Samples whose NLL per token (nats) under the frozen base lies outside [low, high] are offending."""

    low: Limit
    high: Limit


class ContaminationGate(ShareGate):
    """Samples whose similarity to a case of a regression or evaluation suite reaches `similarity` are offending."""

    similarity: Share


class AtLeastGate(Part):
    """A number that must reach `limit`."""

    limit: Limit
    on_fail: Literal["hold", "reject"]


class BudgetGate(Part):
    """What one tenant may spend in any hour, this change included."""

    changes_per_hour: Positive
    flops_per_hour: Limit
    on_fail: Literal["hold", "reject"]


class WindowGate(LimitGate):
    """A statistic over the last `window` changes of the deployment that must stay at or below `limit`."""

    window: Positive


class WindowAtLeastGate(AtLeastGate):
    """A statistic over the last `window` changes of the deployment that must reach `limit`."""

    window: Positive


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
    update_distinct_2: AtLeastGate | Unused = Field(alias="update.distinct_2")
    update_self_bleu: LimitGate | Unused = Field(alias="update.self_bleu")
    update_real_share: AtLeastGate | Unused = Field(alias="update.real_share")
    update_generation_depth: LimitGate | Unused = Field(alias="update.generation_depth")
    update_finite: FiniteGate = Field(alias="update.finite")
    update_steps: LimitGate = Field(alias="update.steps")
    update_step_norm: LimitGate = Field(alias="update.step_norm")
    update_cumulative_norm: LimitGate = Field(alias="update.cumulative_norm")
    update_spectral_norm: LimitGate | Unused = Field(alias="update.spectral_norm")
    update_cumulative_spectral_norm: LimitGate | Unused = Field(alias="update.cumulative_spectral_norm")
    update_anchor_kl: LimitGate | Unused = Field(alias="update.anchor_kl")
    update_anchor_kl_p99: LimitGate | Unused = Field(alias="update.anchor_kl_p99")
    update_loss_jump: LimitGate | Unused = Field(alias="update.loss_jump")
    update_budget: BudgetGate | Unused = Field(alias="update.budget")
    update_cooldown: AtLeastGate | Unused = Field(alias="update.cooldown")
    regression_previous: MarginGate = Field(alias="regression.previous")
    regression_base: MarginGate = Field(alias="regression.base")
    regression_critical: LimitGate = Field(alias="regression.critical")
    regression_power: PowerGate | Unused = Field(alias="regression.power")
    window_flips: WindowGate | Unused = Field(alias="window.flips")
    window_distinct_2: WindowAtLeastGate | Unused = Field(alias="window.distinct_2")
    window_tail_coverage: WindowAtLeastGate | Unused = Field(alias="window.tail_coverage")
    window_density_ratio: WindowGate | Unused = Field(alias="window.density_ratio")
    window_generation_depth: WindowGate | Unused = Field(alias="window.generation_depth")


LATER_GATES = tuple(str(field.alias) for field in Gates.model_fields.values() if Unused in get_args(field.annotation))
"""Gates that joined with format 2 of the file."""
