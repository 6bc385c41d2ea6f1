"""Writes docs/reference/problems.md from the catalogue of problems, so that the page cannot lag behind it.

    python -m tests.contract.problems_page

`test_api_contract.py` fails when the page on disk differs.
"""

from __future__ import annotations

from mass_gov.api.problems import CATALOGUE, MEDIA_TYPE, PREFIX
from tests.contract.checkout import ROOT

PAGE = ROOT / "docs" / "reference" / "problems.md"
INTRO = f"""# Problems

<!-- Written by `python -m tests.contract.problems_page`. Edit mass_gov/api/problems.py instead. -->

Every answer of the API that is no success is a problem document (RFC 9457, `{MEDIA_TYPE}`):

```json
{{
  "type": "{PREFIX}stale",
  "title": "It changed since you looked",
  "status": 412,
  "detail": "Read it again, decide again, and send its new ETag."
}}
```

`type` is `{PREFIX}` and a name of this table; it does not change, and programs branch on it. `detail` is for
people and may change. `invalid` has `errors`, a list of `where` and `what`. Every answer has an `X-Request-Id` to name
it by.

| name | status | title | what to do |
|---|---|---|---|
"""


def render() -> str:
    """Return the page."""
    return INTRO + "".join(f"| `{kind.name}` | {kind.status} | {kind.title} | {kind.means} |\n" for kind in CATALOGUE)


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
