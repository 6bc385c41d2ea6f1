"""What PostgreSQL's errors mean for the person who runs this, by SQLSTATE (PostgreSQL documentation, appendix A).

Rules: only the first line of a server's message is repeated, never its details, which quote rows. What is not known
here is an `IntegrityError`: the ledger cannot be read as it stands.
"""

from __future__ import annotations

from mass_gov.errors import IntegrityError, LedgerUnavailableError, MassGovError
from mass_gov.ledger.address import Address

_OUTAGES = {
    "25006": "cannot be written: the server, or this role, is read-only. Use the primary and a role that may write",
    "53100": "cannot grow: the server's disk is full. Free some space there and try again; nothing was written",
    "53200": "cannot be used: the server is out of memory. Try again; nothing was written",
    "53300": "has no connection left. Close some, or raise max_connections, and try again",
    "55P03": "is locked by another process. Wait for it to finish, or stop it, and try again",
    "40001": "was written by another process at the same time. Try again; nothing was written",
    "40P01": "was locked by another process crosswise. Try again; nothing was written",
    "57014": "did not answer in time. Try again; nothing was written",
    "25P03": "waited too long for this program, which was stopped in the middle. Try again; nothing was written",
    "25P04": "waited too long for this program, which was stopped in the middle. Try again; nothing was written",
}
_LOST = ("08", "57P0", "25P03", "25P04")
"""SQLSTATEs, or their beginnings, after which there is no connection any more."""


def is_lost(error: BaseException) -> bool:
    """Whether an error says that the connection is gone, so that what the server did last is not known."""
    cause = getattr(error, "orig", None) or error
    state = _state(cause)
    return bool(getattr(error, "connection_invalidated", False)) or state.startswith(_LOST) or not state


def translate(error: BaseException | None, address: Address) -> MassGovError:
    """Say what a driver's error means."""
    state, message = _state(error), _message(error)
    if state in _OUTAGES:
        return LedgerUnavailableError(f"The ledger {address} {_OUTAGES[state]}.")
    if state == "42501":
        return LedgerUnavailableError(
            f"The ledger {address} does not allow that to this role: {message}. Run `mass-gov init` with "
            "MASS_GOV_DATABASE_OWNER_URL set, which grants what the application needs."
        )
    if state.startswith(("08", "28", "3D", "57P0", "58", "53")) or (not state and _is_operational(error)):
        return LedgerUnavailableError(
            f"The ledger {address} cannot be reached: {message}. Check that the server runs and that the address, the "
            "role and its password are right; nothing was written."
        )
    return IntegrityError(f"The ledger {address} {_damage(state, message)}")


def _damage(state: str, message: str) -> str:
    if state.startswith("23"):
        return f"refused a row: {message}. Nothing was written; run `mass-gov verify`."
    if state in ("XX001", "XX002"):
        return f"is damaged: {message}. Restore it from a back-up."
    return f"cannot be read: {message}. Run `mass-gov verify`; restore a back-up."


def _is_operational(error: BaseException | None) -> bool:
    """Whether the driver itself says that the world failed; what it says of a text with a NUL is another matter."""
    return any(kind.__name__ in ("OperationalError", "InterfaceError") for kind in type(error).__mro__)


def _state(error: BaseException | None) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def _message(error: BaseException | None) -> str:
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    lines = str(primary or error or "no answer").strip().splitlines()
    return (lines[0] if lines else "no answer").rstrip(".")[:300]
