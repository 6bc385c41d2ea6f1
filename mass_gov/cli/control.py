"""`mass-gov freeze` and `mass-gov unfreeze`: stop learning, and let it go on. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mass_gov.cli.options import AsOption, DeploymentOption, JsonFlag, ReasonOption, clean_reason, settings
from mass_gov.cli.output import emit, out, say

if TYPE_CHECKING:
    from mass_gov.flows.freeze import Controlled

EverywhereOption = Annotated[bool, typer.Option("--everywhere", help="Every deployment of every tenant.")]


def freeze(
    reason: ReasonOption,
    everywhere: EverywhereOption = False,
    deployment: DeploymentOption = None,
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Stop learning at once, for one deployment or everywhere; serving goes on, un-adapted.

    While frozen nothing is learned, approved or promoted; rejecting and rolling back go on.
    """
    done, place = _control("freeze", reason, everywhere, deployment, principal)
    if as_json:
        from mass_gov.documents.pointers import freeze_document

        emit({"frozen": True, "already": done.already, "freeze": freeze_document(done.freeze)})
        return
    if done.already:
        say(f"note: learning was frozen {place} before; nothing changed.")
    index = done.freeze.index if done.freeze is not None else None
    out().print(f"Learning is frozen {place} since event {index}. Un-adapted answers go on.", soft_wrap=True)


def unfreeze(
    reason: ReasonOption,
    everywhere: EverywhereOption = False,
    deployment: DeploymentOption = None,
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """End a freeze, of one deployment or of everything; it takes an operator and a reason."""
    done, place = _control("unfreeze", reason, everywhere, deployment, principal)
    if as_json:
        from mass_gov.documents.pointers import freeze_document

        emit(
            {
                "frozen": done.still is not None,
                "already": done.already,
                "freeze": freeze_document(done.freeze),
                "still": freeze_document(done.still),
            }
        )
        return
    if done.already:
        say(f"note: learning was not frozen {place}; nothing changed.")
    if done.still is None:
        out().print(f"Learning goes on {place}.", soft_wrap=True)
    else:
        option = " --everywhere" if done.still.extent == "everywhere" else ""
        out().print(
            f"This deployment stays frozen by event {done.still.index}: `mass-gov unfreeze{option}` ends that one.",
            soft_wrap=True,
        )


def _control(
    what: str, reason: str, everywhere: bool, deployment: str | None, principal: str | None
) -> tuple[Controlled, str]:
    from mass_gov.flows import freeze as flow
    from mass_gov.wiring import acting, open_ledger

    chosen, why = settings(deployment=deployment, principal=principal), clean_reason(reason)
    do = flow.freeze if what == "freeze" else flow.unfreeze
    with open_ledger(chosen) as ledger:
        who = acting(chosen, ledger, "freeze").actor
        done = do(ledger, who, why, chosen.tenant, chosen.deployment, everywhere=everywhere)
    return done, "everywhere" if everywhere else f"for {chosen.tenant}/{chosen.deployment}"
