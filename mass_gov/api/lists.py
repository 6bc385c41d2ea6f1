"""Lists: what may be asked of every one of them, and how a page is found.

Rules: filters are typed, and one that is not known is refused rather than ignored. Lists come in the order of the log,
which is the one order that an index supports for any filter. Whatever a caller may not see is filtered away before
anything is counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from mass_gov.api import cursors
from mass_gov.api.access import Caller
from mass_gov.api.inputs import Index, Moment, text_of
from mass_gov.api.problems import Problem
from mass_gov.api.service import Service
from mass_gov.records.base import MAX_SAFE_INTEGER, Digest, Slug, SubjectHandle, Uuid

Fields = Annotated[str, Field(pattern=r"^[a-z_]{1,40}(,[a-z_]{1,40}){0,40}$", description="Only these, by commas.")]
Domain = Literal["binary", "induction", "largest", "linear", "nested", "operator"]
"""Those that a leaf can name (`policy.measures.KINDS`)."""
Cursor = Annotated[str, Field(min_length=1, max_length=200, description="`next` of the page before.")]


class Page(BaseModel):
    """What may be asked of every list."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=200)] = 20
    cursor: Cursor | None = None
    sort: Literal["index", "-index"] = "-index"
    """The order of the log; `-index` has the newest first."""
    fields: Fields | None = None
    since: Moment | None = None
    until: Moment | None = None
    from_index: Index | None = None
    to_index: Index | None = None
    tenant: Slug | None = None
    deployment: Slug | None = None

    def terms(self) -> list[list[str]]:
        """The filters as words of the index (`mass_gov.ledger.marks`); not those that every list has."""
        return []


class EventFilter(Page):
    """What may be asked of the list of events."""

    type: Annotated[str, Field(pattern=r"^[a-z]{1,20}\.[a-z_]{1,20}$")] | None = None
    actor: Slug | None = None
    change: Uuid | None = None
    subject: SubjectHandle | None = None

    def terms(self) -> list[list[str]]:
        """As `Page.terms`."""
        return _words(type=self.type, actor=self.actor, change=self.change, subject=self.subject)


class ChangeFilter(Page):
    """What may be asked of the list of changes."""

    status: Literal["applied", "held", "pending", "rejected", "active", "rolled_back", "retired"] | None = None
    verdict: Literal["apply", "hold", "reject"] | None = None
    scope: Literal["instance", "deployment"] | None = None
    domain: Domain | None = Field(default=None, description="Its practice was of that domain, where the policy asks.")
    failed: Slug | None = Field(default=None, description="A gate that failed, as `update.step_norm`.")
    requester: Slug | None = None
    subject: SubjectHandle | None = None

    def terms(self) -> list[list[str]]:
        """As `Page.terms`."""
        named = self.model_dump(include={"status", "verdict", "scope", "domain", "failed", "requester", "subject"})
        return [["type=change.recorded"], *_words(**named)]


class ResponseFilter(Page):
    """What may be asked of the list of answers."""

    served: Literal["adapted", "parent", "base", "unadapted"] | None = None
    change: Uuid | None = None
    state: Digest | None = Field(default=None, description="Digest of the weights that answered.")
    actor: Slug | None = None
    subject: SubjectHandle | None = Field(default=None, description="Of answers that no update stands behind.")

    def terms(self) -> list[list[str]]:
        """As `Page.terms`."""
        named = self.model_dump(include={"served", "change", "state", "actor", "subject"})
        return [["type=response.served"], *_words(**named)]


def found(service: Service, caller: Caller, asked: Page) -> tuple[list[int], str | None]:
    """The log indices of one page, and the cursor of the next; None at the end."""
    terms = [*asked.terms(), *_words(tenant=asked.tenant, deployment=asked.deployment)]
    if caller.identity.tenants is not None:
        terms.append([f"tenant={tenant}" for tenant in caller.identity.tenants])
    newest_first, what = asked.sort == "-index", _what(caller, asked)
    start, stop = _stretch(service, asked)
    if asked.cursor is not None:
        last = cursors.decode(service.cursor_key, asked.cursor, what)
        start, stop = (start, min(last, stop)) if newest_first else (max(start, last + 1), stop)
    indices = service.ledger.find(terms, start=start, stop=stop, newest_first=newest_first, limit=asked.limit + 1)
    if len(indices) <= asked.limit:
        return indices, None
    page = indices[: asked.limit]
    return page, cursors.encode(service.cursor_key, page[-1], what)


def answer(
    name: str, asked: Page, documents: Iterable[Mapping[str, Any]], after: str | None, known: type[Any]
) -> JSONResponse:
    """One page as JSON, with only the fields that were asked for: documents are JSON already, and not looked through.

    Arguments:
        known: the typed dictionary of one of them.

    Raises:
        Problem: a field that they do not have.
    """
    pick = picked(asked.fields, known)
    return JSONResponse({name: [pick(one) for one in documents], "next": after})


def picked(fields: str | None, known: type[Any]) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """A function that leaves only these fields of a document."""
    if fields is None:
        return lambda document: document
    names: Sequence[str] = fields.split(",")
    if strange := [name for name in names if name not in known.__annotations__]:
        listed = ", ".join(known.__annotations__)
        raise Problem("bad-request", f"There is no field {strange[0]}. Ask for some of {listed}.")
    return lambda document: {name: document[name] for name in names if name in document}


def _stretch(service: Service, asked: Page) -> tuple[int, int]:
    start, stop = asked.from_index or 0, MAX_SAFE_INTEGER
    if asked.to_index is not None:
        stop = asked.to_index + 1
    if asked.since is not None or asked.until is not None:
        first, end = service.ledger.between(text_of(asked.since), text_of(asked.until))
        start, stop = max(start, first), stop if end is None else min(stop, end)
    return start, stop


def _what(caller: Caller, asked: Page) -> str:
    filters = asked.model_dump(mode="json", exclude={"limit", "cursor", "fields"}, exclude_none=True, warnings=False)
    return json.dumps([type(asked).__name__, filters, caller.identity.tenants], sort_keys=True)


def _words(**named: str | None) -> list[list[str]]:
    return [[f"{name}={value}"] for name, value in named.items() if value is not None]
