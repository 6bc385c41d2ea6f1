"""What happened: the append-only log in SQL, and what can be asked of it. The only package that knows SQL.

`Ledger.open` is the door; `RawLedger` is the auditor's, who trusts nothing that stands in the database.
"""

from mass_gov.ledger.address import Address
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.incident_reader import IncidentView, UpdateView
from mass_gov.ledger.ledger import Ledger
from mass_gov.ledger.migrate import ledger_exists
from mass_gov.ledger.principal_reader import PrincipalView, TokenView
from mass_gov.ledger.raw import RawLedger, Replica
from mass_gov.ledger.subject_reader import SubjectView
from mass_gov.ledger.views import (
    ApprovalView,
    ChangeView,
    FreezeView,
    Head,
    PointerAsOf,
    PointerMove,
    PointerView,
    ResponseView,
    StateView,
)

__all__ = [
    "Address",
    "ApprovalView",
    "ChangeView",
    "Entry",
    "FreezeView",
    "Head",
    "IncidentView",
    "Ledger",
    "PointerAsOf",
    "PointerMove",
    "PointerView",
    "PrincipalView",
    "RawLedger",
    "Replica",
    "ResponseView",
    "StateView",
    "SubjectView",
    "TokenView",
    "UpdateView",
    "ledger_exists",
]
