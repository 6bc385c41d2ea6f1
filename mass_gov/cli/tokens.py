"""`mass-gov tokens`: bearer tokens by which principals show who they are. No torch."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mass_gov.cli.options import AsOption, JsonFlag, settings
from mass_gov.cli.output import emit, grid, out, say

if TYPE_CHECKING:
    from mass_gov.ledger import TokenView

app = typer.Typer(help="Bearer tokens of principals: issue, list, revoke.", no_args_is_help=True)
_MAX_HOURS = 24 * 3660


@app.command()
def issue(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose token it is.")],
    hours: Annotated[
        float | None,
        typer.Option("--expires-in", metavar="HOURS", min=0.01, max=_MAX_HOURS, help="Hours until it is refused."),
    ] = None,
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a token for a principal and print it: once, because the log keeps only its hash. Takes an admin."""
    from mass_gov.flows.principals import issue as issue_token
    from mass_gov.wiring import acting, open_ledger

    chosen = settings(principal=principal)
    with open_ledger(chosen) as ledger:
        who = acting(chosen, ledger, "tokens").actor
        until = ledger.now() + dt.timedelta(hours=hours) if hours is not None else None
        issued = issue_token(ledger, name, who, expires_at=until)
    if as_json:
        emit({**document(issued.view), "token": issued.token})
        return
    say(f"token {issued.view.token_id} of {name}; shown once, kept nowhere:")
    out().print(issued.token, soft_wrap=True)


@app.command("list")
def list_tokens(as_json: JsonFlag = False) -> None:
    """List every token that was issued: whose, since when, until when, and whether it was revoked."""
    from mass_gov.records.base import timestamp
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        found, now = ledger.tokens(), timestamp(ledger.now())
    if as_json:
        emit({"tokens": [document(one) for one in found]})
        return
    table = grid("token", "principal", "issued (UTC)", "expires (UTC)", "stands")
    table.columns[0].no_wrap = True
    for one in found:
        table.add_row(one.token_id, one.principal, _short(one.issued_at), _short(one.expires_at), _stands(one, now))
    out().print(table) if found else say("no token was issued yet: `mass-gov principals register` begins.")


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The token's id, as `tokens list` shows it.")],
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Revoke a token: it is refused from now on. Takes an admin; the last one that lets an admin in stays."""
    from mass_gov.flows.principals import revoke as revoke_token
    from mass_gov.wiring import acting, open_ledger

    chosen = settings(principal=principal)
    with open_ledger(chosen) as ledger:
        done = revoke_token(ledger, token_id.strip().lower(), acting(chosen, ledger, "tokens").actor)
    if as_json:
        emit(document(done))
    else:
        out().print(f"token {done.token_id} of {done.principal} is revoked.", soft_wrap=True)


def document(one: TokenView) -> dict[str, Any]:
    """A token as JSON, without the token."""
    return {
        "token_id": one.token_id,
        "principal": one.principal,
        "issued_at": one.issued_at,
        "expires_at": one.expires_at,
        "revoked_index": one.revoked_index,
        "index": one.index,
    }


def _stands(one: TokenView, now: str) -> str:
    if one.revoked_index is not None:
        return f"revoked by event {one.revoked_index}"
    return "expired" if one.expires_at is not None and one.expires_at <= now else "in use"


def _short(time: str | None) -> str:
    return time[:16].replace("T", " ") if time is not None else "never"
