"""`mass-gov principals`: who may act, as what, and asking for which scopes. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mass_gov.cli.options import AsOption, JsonFlag, settings
from mass_gov.cli.output import emit, grid, out, say
from mass_gov.errors import InputError

if TYPE_CHECKING:
    from mass_gov.evidence.signing import VerificationKey
    from mass_gov.ledger import PrincipalView

_T = TypeVar("_T", bound=str)
app = typer.Typer(help="Who may act, and as what: list, register, retire.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the principal.")]


@app.command("list")
def list_principals(as_json: JsonFlag = False) -> None:
    """List everybody who was ever registered, with roles and scopes. While nobody is, names are self-asserted."""
    from mass_gov.wiring import read_ledger

    with read_ledger(settings()) as ledger:
        found = ledger.principals()
    if as_json:
        emit({"principals": [document(one) for one in found]})
        return
    if not found:
        say("nobody is registered: names are self-asserted. `mass-gov principals register NAME --role admin` begins.")
        return
    table = grid("principal", "roles", "may ask for", "signs approvals", "event")
    for one in found:
        roles = ", ".join(one.roles) or "retired"
        table.add_row(
            one.principal, roles, ", ".join(one.scopes) or "-", "yes" if one.public_key else "no", str(one.index)
        )
    out().print(table)


@app.command()
def register(
    name: NameArgument,
    role: Annotated[
        list[str],
        typer.Option("--role", help="requester, auditor, operator or admin; several times for several."),
    ],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="instance (default) or deployment: what they may ask for. Twice for both."),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", metavar="FILE", help="PEM of their Ed25519 key, to sign approvals with."),
    ] = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option("--tenant", metavar="NAME", help="A tenant they are let into (default: all); several times."),
    ] = None,
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Register a principal, or replace what was registered of them. Takes an admin.

    The first one must be an admin and gets a token, printed once: from then on nobody acts without a token.
    """
    from mass_gov.flows.principals import register as register_principal
    from mass_gov.policy.permissions import BY_POWER
    from mass_gov.records.change import SCOPES
    from mass_gov.wiring import acting, open_ledger

    chosen = settings(principal=principal)
    key = _key(public_key) if public_key is not None else None
    roles, scopes = _among(role, BY_POWER, "--role"), _among(scope or ["instance"], SCOPES, "--scope")
    with open_ledger(chosen) as ledger:
        who, before = acting(chosen, ledger, "principals").actor, ledger.principal(name)
        tenants = [_name(one, "tenant") for one in tenant] if tenant else None
        done = register_principal(ledger, _name(name), who, roles=roles, scopes=scopes, public_key=key, tenants=tenants)
    token = done.issued.token if done.issued is not None else None
    if as_json:
        issued = {"token": token, "token_id": done.issued.view.token_id} if done.issued is not None else {}
        emit({**document(done.principal), **issued})
        return
    out().print(f"{name} is registered as {', '.join(done.principal.roles)}.", soft_wrap=True)
    if before is not None and before.public_key is not None and key is None:
        say(f"note: {name} had a key and has none any more: their approvals are not signed. --public-key keeps it.")
    if token is not None:
        say("this is the first principal: from now on nobody acts without a token. Shown once, kept nowhere:")
        out().print(token, soft_wrap=True)
        say("set MASS_GOV_TOKEN to it, and give others theirs: `mass-gov tokens issue NAME`.")


@app.command()
def retire(name: NameArgument, principal: AsOption = None, as_json: JsonFlag = False) -> None:
    """Take every role from a principal, and revoke every token of theirs. Takes an admin."""
    from mass_gov.flows.principals import retire as retire_principal
    from mass_gov.wiring import acting, open_ledger

    chosen = settings(principal=principal)
    with open_ledger(chosen) as ledger:
        done = retire_principal(ledger, name, acting(chosen, ledger, "principals").actor)
    if as_json:
        emit(document(done))
    else:
        out().print(f"{name} is retired and may do nothing any more.", soft_wrap=True)


def document(one: PrincipalView) -> dict[str, Any]:
    """A principal as JSON."""
    return {
        "principal": one.principal,
        "roles": list(one.roles),
        "scopes": list(one.scopes),
        "public_key": one.public_key,
        "tenants": list(one.tenants) if one.tenants is not None else None,
        "index": one.index,
    }


def _among(given: list[str], known: tuple[_T, ...], option: str) -> list[_T]:
    """The named ones.

    Raises:
        InputError: one is not known.
    """
    if unknown := [one for one in given if one not in known]:
        raise InputError(f"{option} {unknown[0][:40]!r} is none. Give {', '.join(map(str, known))}.")
    return [one for one in known if one in given]


def _name(name: str, what: str = "principal") -> str:
    from pydantic import TypeAdapter, ValidationError

    from mass_gov.records.base import Slug

    try:
        return str(TypeAdapter(Slug).validate_python(name))
    except ValidationError:
        raise InputError(
            f"{name[:40]!r} is no name of a {what}: 1 to 63 of a-z, 0-9, dot, dash and underscore, beginning with a "
            "letter or a digit. Choose another."
        ) from None


def _key(path: Path) -> VerificationKey:
    from mass_gov.evidence.files import read_at_most
    from mass_gov.evidence.keyfiles import MAX_SECRET_FILE_BYTES
    from mass_gov.evidence.signing import parse_public_pem

    try:
        return parse_public_pem(read_at_most(path, MAX_SECRET_FILE_BYTES))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}. Give a readable PEM file.") from None
