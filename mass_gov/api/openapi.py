"""What the OpenAPI document says beside types: what each parameter means, an example of each, and what leads where.

Rules: an operation is named as its function. Links go from every answer that names a thing to what can be asked or done
about it, so that a client, and the fuzzer, finds its way through the API from its lists. tests/contract holds every
operation to a description, a described shape, and an example of what it takes.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

_CHANGE = "01a2253d-d884-7ff6-aa90-0e42e6925b14"
_DIGEST = "85db34e1e873b89c62582e3d1953e6f87287958a6d77854275a02ef0c32938d3"
PARAMETERS: dict[str, tuple[str, Any]] = {
    "change_id": ("A change, by its whole id.", _CHANGE),
    "response_id": ("An answer, by its whole id.", _CHANGE),
    "incident_id": ("An incident, by its whole id.", _CHANGE),
    "handle": ("A subject, by its handle.", "s-e0dece9639b78af3a6fbeb55809ad345"),
    "digest": ("SHA-256, 64 hex digits.", _DIGEST),
    "name": ("A report of the mapping, or `all`.", "article-12"),
    "index": ("Log index of an event.", 16),
    "tenant": ("Only this tenant's.", "local"),
    "deployment": ("Only this deployment's.", "default"),
    "limit": ("How many at most.", 20),
    "cursor": ("`next` of the page before.", None),
    "sort": ("`index` is the order of the log, `-index` has the newest first.", "-index"),
    "fields": ("Only these, by commas.", None),
    "since": ("From this time on; a date is its first moment in UTC.", "2026-11-24"),
    "until": ("Up to this time; a date is its first moment in UTC.", "2026-11-25T00:00:00Z"),
    "at": ("A log index, or a time.", 16),
    "from_index": ("From this log index on.", 0),
    "to_index": ("Up to and with this log index.", 1000),
    "from": ("How many events the log had.", 1),
    "size": ("How many events the head is of; the newest head where it is left out.", None),
    "status": ("Where it stands.", None),
    "verdict": ("How it was decided at first.", "hold"),
    "scope": ("For one answer alone, or to move the pointer.", "deployment"),
    "domain": ("Its practice was of that domain, as far as the policy has domains recorded.", "operator"),
    "failed": ("A gate that failed.", "update.step_norm"),
    "requester": ("Who asked for it.", "ada"),
    "actor": ("Who did it.", "bob"),
    "subject": ("Whose data it is, by the handle.", "s-e0dece9639b78af3a6fbeb55809ad345"),
    "change": ("What is about this change.", _CHANGE),
    "state": ("Digest of the weights that answered.", _DIGEST),
    "served": ("Whose answer it is.", "adapted"),
    "type": ("Type of the event.", "change.approved"),
    "standing": ("Only those that are held for others, or erased.", "erased"),
    "clauses": ("A mapping of clauses that ships, by name.", "eu-ai-act"),
    "format": ("As what.", None),
    "verify": ("Verify the whole log first, and say what was found.", False),
    "samples": ("With the tokens of every sample.", False),
    "artifacts": ("NDJSON with the sealed artifacts.", False),
    "sealed": ("Without contents in plain.", False),
    "If-Match": ("The `ETag` of the change that was looked at.", '"0123456789abcdef0123456789abcdef"'),
    "Idempotency-Key": ("Name of this request: sent again, it gets the first answer.", "promote-42"),
}
"""By name: what it means, and an example; None where the schema says it all, or nobody can make one up."""

_SAID = {"reason": "The comparison shows no loss."}
_HERE = {"tenant": "local", "deployment": "default"}
BODIES: dict[str, dict[str, Any]] = {
    "approve": _SAID | {"shown": _DIGEST},
    "promote": _SAID | {"shown": _DIGEST},
    "reject": {"reason": "It loses too much on linear equations."},
    "roll_back": {"reason": "That was only a trial.", "cascade": False},
    "replay": {"start": "scratch"},
    "freeze": _HERE | {"reason": "Answers got shorter since noon."},
    "unfreeze": _HERE | {"reason": "It was the tokenizer, mended."},
    "open_incident": _HERE | {"title": "A wrong sum reached a pupil", "severity": "serious", "changes": []},
    "update_incident": {"note": "Looking into the samples.", "acknowledge": True},
    "close_incident": {"reason": "Rolled back; the suite has the case now.", "outcome": "resolved"},
    "record_report": {"since": "2026-11-01", "tenant": "local"},
}
"""By operation: what it may be sent."""

_DECISIONS = ("approve", "promote", "reject", "roll_back")
_ABOUT_CHANGE = ("show_change", "diff", "bundle", "completion")
LINKS: dict[str, dict[str, dict[str, str]]] = {
    "list_changes": {one: {"change_id": "$response.body#/changes/0/change_id"} for one in _ABOUT_CHANGE}
    | {
        "list_changes": {"cursor": "$response.body#/next"},
        "replay": {"change_id": "$response.body#/changes/0/change_id"},
    },
    "show_change": {
        one: {"change_id": "$request.path.change_id", "If-Match": "$response.header.ETag"} for one in _DECISIONS
    }
    | {"list_responses": {"state": "$response.body#/state_digest"}},
    "diff": {one: {"change_id": "$request.path.change_id", "If-Match": "$response.header.ETag"} for one in _DECISIONS},
    "list_events": {
        "show_event": {"index": "$response.body#/events/0/index"},
        "inclusion": {"index": "$response.body#/events/0/index"},
        "list_events": {"cursor": "$response.body#/next"},
    },
    "list_responses": {
        "show_response": {"response_id": "$response.body#/responses/0/response_id"},
        "list_responses": {"cursor": "$response.body#/next"},
    },
    "list_pointers": {
        one: {"tenant": "$response.body#/pointers/0/tenant", "deployment": "$response.body#/pointers/0/deployment"}
        for one in ("show_pointer", "pointer_history")
    },
    "list_policies": {"show_policy": {"digest": "$response.body#/policies/0/digest"}},
    "list_subjects": {"show_subject": {"handle": "$response.body#/subjects/0/subject"}},
    "list_incidents": {"show_incident": {"incident_id": "$response.body#/incidents/0/incident_id"}},
    "open_incident": {
        one: {"incident_id": "$response.body#/incident/incident_id"}
        for one in ("show_incident", "update_incident", "close_incident")
    },
    "list_reports": {one: {"name": "$response.body#/reports/0/name"} for one in ("show_report", "record_report")},
    "checkpoint": {"consistency": {"from": "$response.body#/size"}},
    "complete": {one: {"change_id": "$response.body#/mass_gov/change_id"} for one in ("completion", "show_change")},
}
"""By operation: what an answer leads to, and which of its parts are that operation's parameters."""


def described(app: FastAPI) -> dict[str, Any]:
    """The app's document with all of this; made once."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        for operations in document["paths"].values():
            for operation in operations.values():
                _describe(operation)
    return app.openapi_schema or {}


def _describe(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        means, example = PARAMETERS[parameter["name"]]
        parameter.setdefault("description", means)
        if example is not None:
            parameter["example"] = example
    name = operation["operationId"]
    if name in BODIES:
        operation["requestBody"]["content"]["application/json"]["example"] = BODIES[name]
    if name in LINKS:
        done = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        done["links"] = {
            f"{to}_of_it" if to != name else "next": {"operationId": to, "parameters": parameters}
            for to, parameters in LINKS[name].items()
        }
