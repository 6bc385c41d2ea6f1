"""`mass-gov changes diff|approve|promote|reject|expire`: see what a change does, and decide about it. No torch.

Rules: an approval says which diff was shown. On a terminal it is shown first, and then asked; anywhere else the digest
that `changes diff` printed comes back as `--shown`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mass_gov.cli.options import AsOption, ChangeArgument, JsonFlag, ReasonOption, clean_reason, identifier, settings
from mass_gov.cli.output import emit, out, say
from mass_gov.errors import RefusedError

if TYPE_CHECKING:
    from mass_gov.config import Settings
    from mass_gov.evidence.signing import Signer
    from mass_gov.flows.approve import Decided, Proof
    from mass_gov.ledger import ChangeView, Ledger

ShownOption = Annotated[
    str | None,
    typer.Option("--shown", metavar="DIGEST", help="What you were shown: the digest that `changes diff` prints."),
]
SignOption = Annotated[
    Path | None,
    typer.Option(
        "--sign-with",
        metavar="KEYFILE",
        exists=True,
        dir_okay=False,
        help="PEM of your own Ed25519 key, to sign the approval with.",
    ),
]


def diff(change_id: ChangeArgument, as_json: JsonFlag = False) -> None:
    """Show what a change does: flipped cases, answers before and after, samples, and measures against limits.

    Prints the digest that an approval names, so that what was looked at is what is approved.
    """
    from mass_gov.cli.diff_view import print_diff
    from mass_gov.flows.approve import policy_of
    from mass_gov.flows.behaviour import read_behaviour
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        change = ledger.change(identifier(change_id))
        behaviour, policy = read_behaviour(ledger, change), policy_of(ledger, change)
    if as_json:
        emit({"change_id": change.change_id, "status": change.status, "shown": behaviour.digest} | behaviour.document)
    else:
        print_diff(out(), change, behaviour, policy)


def approve(
    change_id: ChangeArgument,
    reason: ReasonOption,
    shown: ShownOption = None,
    sign_with: SignOption = None,
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Approve a held change; with enough approvals it applies.

    The approval binds what was recorded and what you were shown. Whether the requester's own approval counts is the
    policy's decision.
    """
    _say_yes("approve", change_id, reason, shown, sign_with, principal, as_json)


def promote(
    change_id: ChangeArgument,
    reason: ReasonOption,
    shown: ShownOption = None,
    sign_with: SignOption = None,
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make an applied change of scope `instance` the pointer's next state."""
    _say_yes("promote", change_id, reason, shown, sign_with, principal, as_json)


def reject(
    change_id: ChangeArgument, reason: ReasonOption, principal: AsOption = None, as_json: JsonFlag = False
) -> None:
    """Reject a held change for good."""
    from mass_gov.flows.approve import reject as reject_change
    from mass_gov.wiring import acting, open_ledger

    chosen, why = settings(principal=principal), clean_reason(reason)
    with open_ledger(chosen) as ledger:
        who = acting(chosen, ledger, "reject").actor
        change = reject_change(ledger, identifier(change_id), who, why)
    if as_json:
        emit({"change_id": change.change_id, "status": change.status})
    else:
        out().print(f"{change.change_id} is rejected. Nothing of it is served.")


def expire(as_json: JsonFlag = False) -> None:
    """Reject every held change that waited longer than its policy lets it. Solving and approving do the same."""
    from mass_gov.flows.expiry import expire as expire_changes
    from mass_gov.wiring import open_ledger

    with open_ledger(settings()) as ledger:
        expired = expire_changes(ledger)
    if as_json:
        emit({"expired": [change.change_id for change in expired]})
        return
    for change in expired:
        out().print(f"{change.change_id} waited too long and is rejected.", soft_wrap=True)
    if not expired:
        say("no held change has waited longer than its policy lets it.")


def _say_yes(
    meaning: Literal["approve", "promote"],
    change_id: str,
    reason: str,
    shown: str | None,
    sign_with: Path | None,
    principal: str | None,
    as_json: bool,
) -> None:
    from mass_gov.documents.changes import decided_document
    from mass_gov.flows import approve as flow
    from mass_gov.wiring import acting, open_ledger

    chosen, why = settings(principal=principal), clean_reason(reason)
    with open_ledger(chosen) as ledger:
        change = ledger.change(identifier(change_id))
        roles = flow.policy_of(ledger, change).document.approvals.roles
        who = acting(chosen, ledger, meaning, roles)
        if shown is None and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
            shown = _look(ledger, change, meaning)
        signer = _signer(chosen, sign_with) if sign_with is not None else None
        proof: Proof = flow.Proof(shown.strip().lower() if shown else None, who.authenticated_at, signer)
        decide = flow.approve if meaning == "approve" else flow.promote
        decided = decide(ledger, change.change_id, who.actor, why, proof)
    if as_json:
        emit(decided_document(decided, proof.shown))
    else:
        _print_decided(decided)


def _look(ledger: Ledger, change: ChangeView, meaning: str) -> str:
    """Show the diff to whoever sits at the terminal, and ask."""
    from mass_gov.cli.diff_view import print_diff
    from mass_gov.flows.approve import policy_of
    from mass_gov.flows.behaviour import read_behaviour

    behaviour = read_behaviour(ledger, change)
    print_diff(out(), change, behaviour, policy_of(ledger, change))
    if not typer.confirm(f"{meaning} this change?", err=True):
        raise RefusedError(f"you said no: nothing was decided. `mass-gov changes reject {change.change_id}` says so.")
    return behaviour.digest


def _signer(chosen: Settings, path: Path) -> Signer:
    from mass_gov.evidence.signers import load_ed25519
    from mass_gov.wiring import signing_passphrase

    return load_ed25519(path, signing_passphrase(chosen, path))


def _print_decided(decided: Decided) -> None:
    change = decided.change
    if decided.self_approved:
        say("note: you approved your own request; the event is marked as a self-approval.")
    out().print(
        f"{change.change_id} has {decided.approvals} of {decided.required} approvals and is "
        f"{change.status.replace('_', ' ')}.",
        soft_wrap=True,
    )
    if change.status == "active":
        identity = change.body.identity
        out().print(
            f"The pointer {identity.tenant}/{identity.deployment} stands on state {change.body.update.state}.",
            soft_wrap=True,
        )
