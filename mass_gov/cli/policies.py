"""`mass-gov policy`: check, show, test, compare, backtest and activate policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mass_gov.cli import policy_view as view
from mass_gov.cli.calibration import calibrate
from mass_gov.cli.exits import DONE, NO
from mass_gov.cli.options import AsOption, JsonFlag, settings
from mass_gov.cli.output import emit, out, panel, say

if TYPE_CHECKING:
    from mass_gov.policy import Policy

app = typer.Typer(help="Check, show, test, compare, backtest and activate policies.", no_args_is_help=True)
PolicyArgument = Annotated[
    str, typer.Argument(metavar="FILE|NAME", help="A policy file, or the name of a shipped policy.")
]


app.command()(calibrate)


@app.command()
def check(policy: PolicyArgument, as_json: JsonFlag = False) -> None:
    """Validate a policy file: every key known, every limit a finite number of the right type, every rule type-checked.

    Exit status 0 if it validates, 2 with the line and the remedy if it does not. Nothing is activated.
    """
    found = _with_suites(policy)
    if as_json:
        emit({"valid": True, "policy": found.label, "digest": found.digest})
    else:
        out().print(f"{found.label} is a valid policy.\ndigest {found.digest}", soft_wrap=True)


@app.command()
def show(
    policy: Annotated[
        str | None, typer.Argument(metavar="FILE|NAME", help="A file or a shipped policy (default: the one in force).")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a policy: its envelope, its gates and rules with their limits, and who has to approve."""
    from mass_gov.documents.policies import policy_document

    found = _in_force() if policy is None else _find(policy)
    in_force = True if policy is None else None
    document = policy_document(found, in_force)
    if as_json:
        emit(document)
        return
    console = out()
    console.print(panel(f"policy {found.label}", view.summary(found, in_force)))
    console.print(view.gates(document["document"]["gates"]))
    if found.document.rules:
        console.print(view.rules(found.document.rules))


@app.command()
def test(
    policy: Annotated[
        str | None, typer.Argument(metavar="NAME|FILE", help="A shipped policy or a file (default: all that ship).")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the example changes beside a policy: `accept/` must apply, `hold/` must wait, `reject/` must be refused.

    An example that is decided otherwise, or for another reason than the one it names, fails. Exit status 1 then.
    """
    from mass_gov.flows.policy_examples import try_examples
    from mass_gov.wiring import find_policy_file, shipped_policies

    tried = []
    for name in [policy] if policy is not None else shipped_policies():
        found, path = find_policy_file(name)
        tried += [(found, one) for one in try_examples(found, path.parent)]
    failed = sum(not one.as_it_should for _, one in tried)
    if as_json:
        emit({"ok": not failed, "examples": [view.example_document(found, one) for found, one in tried]})
    else:
        out().print(view.examples(tried))
        out().print(f"{len(tried) - failed} of {len(tried)} examples are decided as they should be.")
    raise typer.Exit(NO if failed else DONE)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A policy file or a shipped policy's name.")],
    new: Annotated[
        str | None,
        typer.Argument(metavar="[NEW]", help="Another one. Without it, OLD is what the one in force becomes."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what differs between two policies, setting by setting, and what lets more pass than before.

    `wider` lets more pass, `narrower` less; `other` cannot be told, and counts as wider: whoever activates the new
    policy in the place of the old one needs a second person for either.
    """
    from mass_gov.policy.widening import differences, widens

    before, after = (_in_force(), _find(old)) if new is None else (_find(old), _find(new))
    found = differences(before.document, after.document)
    wider = widens(before.document, after.document)
    if as_json:
        changed = [view.difference_document(one) for one in found]
        emit({"old": before.label, "new": after.label, "differences": changed, "widens": list(wider)})
        return
    console = out()
    if not found:
        console.print(f"{before.label} and {after.label} say the same.")
        return
    console.print(view.differences(before, after, found))
    console.print(view.verdict_on(wider), soft_wrap=True)


@app.command()
def activate(policy: PolicyArgument, principal: AsOption = None, as_json: JsonFlag = False) -> None:
    """Put a policy in force in the place of the one that is; what lets more pass takes two people.

    The first person's activation of a policy that widens is recorded as a proposal; a second person, who activates the
    same file, puts it in force. Where the policy in force counts one's own approval (solo), one person is enough, and
    the event is marked. `mass-gov policy diff FILE` shows beforehand what widens.
    """
    from mass_gov.flows.policies import activate_policy
    from mass_gov.wiring import acting, open_ledger

    chosen, found = settings(principal=principal), _with_suites(policy)
    with open_ledger(chosen) as ledger:
        who = acting(chosen, ledger, "policies").actor
        done = activate_policy(ledger, found, who, chosen.tenant, chosen.deployment)
    alone = done.activated and len(done.approvers) == 1
    if as_json:
        emit(
            {
                "policy": found.label,
                "digest": found.digest,
                "replaces": done.replaced.label,
                "activated": done.activated,
                "widens": list(done.widens),
                "approvers": list(done.approvers),
                "alone": alone,
            }
        )
        return
    out().print(view.activation(done), soft_wrap=True)
    if alone and done.widens:
        say("note: you widened the policy alone, which the one in force allows; the event is marked.")


@app.command()
def backtest(
    candidate: PolicyArgument,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Only changes recorded then or later, as 2026-11-28.")
    ] = None,
    examples: Annotated[
        int, typer.Option("--examples", min=0, max=1000, help="How many change ids to show of each kind of flip.")
    ] = 5,
    as_json: JsonFlag = False,
) -> None:
    """Replay a candidate policy over the recorded changes, and show which decisions would have been others.

    What is compared is the policy's own decision. Where the candidate needs what was not recorded, or would have
    computed something else, the decision is `unknown` and what is missing is named. Nothing is activated.
    """
    from mass_gov.evidence.canonical import sha256_hex
    from mass_gov.flows import backtest as flow
    from mass_gov.records.change import SCOPES
    from mass_gov.tasks.shipped_suites import suite_bytes
    from mass_gov.wiring import read_ledger

    found, moment = _find(candidate), view.moment(since)
    suites = {scope: sha256_hex(suite_bytes(found.document.suite_for(scope))) for scope in SCOPES}
    with read_ledger(settings()) as ledger:
        result = flow.backtest(ledger, found, suites=suites, since=moment, examples=examples)
    if as_json:
        emit({"candidate": found.label, "digest": found.digest, "since": moment, **view.backtest_document(result)})
    else:
        for part in view.backtest(found, result):
            out().print(part, soft_wrap=isinstance(part, str))


def _find(policy: str) -> Policy:
    from mass_gov.wiring import find_policy

    return find_policy(policy)


def _with_suites(policy: str) -> Policy:
    """The policy, once its suites are known to be there: one whose suite nobody has could decide nothing."""
    from mass_gov.records.change import SCOPES
    from mass_gov.tasks.shipped_suites import suite_bytes

    found = _find(policy)
    for scope in SCOPES:
        suite_bytes(found.document.suite_for(scope))
    return found


def _in_force() -> Policy:
    from mass_gov.errors import NotFoundError
    from mass_gov.flows.initialise import policy_in_force
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        current = policy_in_force(ledger)
    if current is None:
        raise NotFoundError("no policy is in force yet. Run `mass-gov init`, or name a policy: solo, default.")
    return current
