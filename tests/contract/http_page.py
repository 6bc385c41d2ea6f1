"""Writes docs/reference/http.md from the OpenAPI document, so that the page cannot lag behind it.

    python -m tests.contract.http_page

`test_openapi_document.py` fails when the page on disk differs.
"""

from __future__ import annotations

from typing import Any

from mass_gov.api.openapi import PARAMETERS
from tests.contract.checkout import ROOT
from tests.fakes.api_world import document_without_ledger

PAGE = ROOT / "docs" / "reference" / "http.md"
INTRO = """# HTTP

<!-- Written by `python -m tests.contract.http_page`. Edit mass_gov/api instead. -->

What `mass-gov serve` answers under `/v1`. `GET /v1/openapi.json` describes it for programs, with shapes, examples,
problems and what an answer leads to; it needs no token, as `/healthz` and `/readyz`, and everything else does.

- *Who:* `Authorization: Bearer TOKEN` ([principals](../how-to/principals.md), [permissions](permissions.md)). What
  somebody may not see is answered like what is not there. Another role than it takes is 403.
- *Lists* come in the order of the log, the newest first. A page ends with `next`: send it as `cursor`, with the
  same filters. All filters combine; one that is not known, or stands twice, is refused.
  `fields=a,b` leaves the rest out.
- *Times* have a zone, or are dates: their first moment in UTC. Both ends are in, as the log had reached them; order
  is by index, never by clock. Reports end before `until`.
- *Domain:* what the log says of a change's task domain is which domains its kept practice was of, where the policy
  has a window gate that needs it; `domains` of a change, `domain` as a filter. What was asked is sealed, and of it
  nothing more is known.
- *Decisions* take `If-Match` with the `ETag` of the change that was looked at: 412 where it changed since, 428
  without.
- *`Idempotency-Key`* names a request of one principal for a day: sent again, it gets the first answer. Of a chat
  completion it names the task for good, and an answer without an update is given, and recorded, each time.
- *GET* changes nothing. Nothing of it stands in the log but refusals, which are noted whatever the method, and the
  answer that a change comes to serve (`GET /v1/chat/completions/{change_id}`).
- *Problems:* [each one](problems.md).

"""


def render() -> str:
    """Return the page."""
    parts, used = [INTRO], set[str]()
    by_tag: dict[str, list[str]] = {}
    for path, operations in document_without_ledger()["paths"].items():
        for method, operation in operations.items():
            by_tag.setdefault(operation["tags"][0], []).append(_row(method, path, operation, used))
    for tag, rows in by_tag.items():
        parts.append(f"## {tag.capitalize()}\n\n| request | does | takes |\n|---|---|---|\n" + "".join(rows) + "\n")
    parts.append("## What parameters mean\n\n| name | means |\n|---|---|\n")
    parts += [f"| `{name}` | {PARAMETERS[name][0]} |\n" for name in PARAMETERS if name in used]
    return "".join(parts)


def _row(method: str, path: str, operation: dict[str, Any], used: set[str]) -> str:
    taken = [one["name"] for one in operation.get("parameters", []) if one["in"] == "query"]
    used.update(taken)
    first = operation["description"].split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
    body = ["a body"] if "requestBody" in operation else []
    return f"| `{method.upper()} {path}` | {first} | {', '.join([f'`{name}`' for name in taken] + body)} |\n"


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
