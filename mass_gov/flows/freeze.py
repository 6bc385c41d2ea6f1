"""Stop learning at once, and let it go on: of one deployment, or of everything.

Rules: serving goes on while learning is frozen; whoever asks is answered un-adapted, and what was learned before is
served as before. A freeze is an event with a reason, and so is its end, which takes a person. Freezing what is frozen,
or ending what is not there, changes nothing and says so. A monitor or a failed regression test freezes as the system,
by `freeze_draft` in the append that raised the alarm. Needs no model and no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mass_gov.errors import NotFoundError, RefusedError
from mass_gov.flows.approve import reason_artifact
from mass_gov.flows.authority import authorise
from mass_gov.ledger import FreezeView, Ledger
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, ControlFrozen, ControlUnfrozen

Extent = Literal["deployment", "everywhere"]
SYSTEM = Actor(principal="system", role="system")


@dataclass(frozen=True, slots=True)
class Controlled:
    """What freezing or its end did.

    Attributes:
        freeze: the freeze that is now in force, or that was ended; None when there was none to end.
        already: True when nothing had to be done.
        still: what keeps the deployment frozen all the same: a freeze of the other extent.
    """

    freeze: FreezeView | None
    already: bool
    still: FreezeView | None = None


def freeze(
    ledger: Ledger, actor: Actor, reason: str, tenant: str, deployment: str, *, everywhere: bool = False
) -> Controlled:
    """Stop learning for a deployment, or for the whole ledger.

    Raises:
        PermissionRefusedError: the actor may not.
    """
    authorise(ledger, actor, "freeze", (tenant, deployment), every_tenant=everywhere)
    extent: Extent = "everywhere" if everywhere else "deployment"
    if (standing := _standing(ledger, extent, tenant, deployment)) is not None:
        return Controlled(standing, already=True)
    draft = freeze_draft(ledger, actor, reason, tenant, deployment, extent=extent)
    try:
        (entry,) = ledger.append([draft])
    except RefusedError:
        # Somebody else froze first: that is what was wanted.
        if (standing := _standing(ledger, extent, tenant, deployment)) is not None:
            return Controlled(standing, already=True)
        raise
    return Controlled(_freeze(ledger, entry.index), already=False)


def unfreeze(
    ledger: Ledger, actor: Actor, reason: str, tenant: str, deployment: str, *, everywhere: bool = False
) -> Controlled:
    """Let a deployment, or everything, learn again.

    Raises:
        PermissionRefusedError: the actor may not.
        RefusedError: the freeze was ended, and another one placed, while this ran.
    """
    authorise(ledger, actor, "freeze", (tenant, deployment), every_tenant=everywhere)
    extent: Extent = "everywhere" if everywhere else "deployment"
    standing = _standing(ledger, extent, tenant, deployment)
    if standing is None:
        return Controlled(None, already=True, still=ledger.frozen(tenant, deployment))
    body = ControlUnfrozen(extent=extent, frozen=standing.index, policy=_policy(ledger))
    ledger.append([EventDraft(actor, tenant, deployment, body, (reason_artifact(reason),))])
    return Controlled(_freeze(ledger, standing.index), already=False, still=ledger.frozen(tenant, deployment))


def freeze_draft(
    ledger: Ledger,
    actor: Actor,
    reason: str,
    tenant: str,
    deployment: str,
    *,
    extent: Extent = "deployment",
    cause: Literal["operator", "monitor", "regression"] = "operator",
    monitor: str | None = None,
) -> EventDraft:
    """Draft a freeze, for whoever appends it together with what caused it.

    Arguments:
        actor: `SYSTEM` unless the cause is an operator.
        monitor: the window gate that raised the alarm, with the cause `monitor`.
    """
    body = ControlFrozen(extent=extent, cause=cause, monitor=monitor, policy=_policy(ledger))
    return EventDraft(actor, tenant, deployment, body, (reason_artifact(reason),))


def _standing(ledger: Ledger, extent: Extent, tenant: str, deployment: str) -> FreezeView | None:
    for one in ledger.freezes(standing=True):
        here = (one.tenant, one.deployment) == (tenant, deployment)
        if one.extent == extent and (here or extent == "everywhere"):
            return one
    return None


def _freeze(ledger: Ledger, index: int) -> FreezeView:
    return next(one for one in ledger.freezes() if one.index == index)


def _policy(ledger: Ledger) -> str:
    digest = ledger.active_policy()
    if digest is None:
        raise NotFoundError("no policy is in force in this ledger yet. Run `mass-gov init`.")
    return digest
