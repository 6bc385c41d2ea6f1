"""Writes docs/reference/events.md from the sources of `mass_gov.records`, so that the page cannot lag behind them.

    python -m tests.contract.events_page

Types and descriptions are read from the syntax trees: what the page shows is what stands in the source, comments of a
field included. `test_docs.py` fails when the page on disk differs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from mass_gov.records.events import PREDICATE_TYPE, RESERVED_TYPES
from tests.contract.checkout import ROOT

PAGE = ROOT / "docs" / "reference" / "events.md"
RECORDS = ROOT / "mass_gov" / "records"
INTRO = f"""# Event catalogue

<!-- Written by `python -m tests.contract.events_page`. Edit mass_gov/records/*.py instead. -->

Every entry of the log is an in-toto Statement v1 in a DSSE envelope ([formats.md](formats.md)). Its predicate type is
`{PREDICATE_TYPE}`; its predicate has the fields of **Predicate** below, and `body` is one of the bodies
that follow, told apart by `type`. Every field is always present; a later release may add optional ones
([decision 0009](../decisions/0009-old-leaves-stay-readable.md)). `Digest` is SHA-256 in hex, `Count` a whole number
below 2^53, `BigInteger` a decimal string, `Uuid` a UUIDv7, `Slug` a short name that was configured and never free text,
`Timestamp` is RFC 3339 in UTC with microseconds, `Finite` a finite number. Nothing that a person wrote or the model
generated stands in an event: that is in its artifacts, encrypted, named by digest.
"""
ENVELOPE = ("Predicate", "Actor")
RESERVED = (
    "## Reserved types\n\nNames without a body yet. Nothing writes them; a log that holds one needs a newer reader."
)


def render() -> str:
    """Return the page."""
    events, change, artifacts = _classes("events.py"), _classes("change.py"), _classes("artifacts.py")
    subjects = _subjects()
    parts = [INTRO, "## Every event"]
    parts += [_record(node) for node in (*(events[name] for name in ENVELOPE), artifacts["ArtifactRef"])]
    parts.append("## Events")
    parts += [_event(body, subjects[body.name]) for body in events.values() if _type_of(body) is not None]
    parts += [_record(node) for name, node in events.items() if _type_of(node) is None and name not in ENVELOPE]
    parts.append("## What `change.recorded` says")
    parts += [_record(node) for node in (change["ChangeBody"], *_others(change, "ChangeBody"))]
    parts.append("## What artifacts hold\n\n" + _module_doc("artifacts.py"))
    parts += [_record(node) for node in _others(artifacts, "ArtifactRef")]
    parts.append("## The settings in the artifact `config`\n\n" + _module_doc("settings.py"))
    parts += [_record(node) for node in _classes("settings.py").values()]
    parts.append("## Values\n\n| type | one of |\n|---|---|\n" + "\n".join(_values()))
    parts.append(RESERVED + "\n\n" + "\n".join(f"- `{name}`" for name in RESERVED_TYPES))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _values() -> Iterator[str]:
    for file in ("events.py", "change.py", "artifacts.py"):
        for node in ast.parse((RECORDS / file).read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Literal["):
                given = [c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant)]
                yield f"| `{ast.unparse(node.targets[0])}` | {', '.join(f'`{value}`' for value in given)} |"


def _classes(file: str) -> dict[str, ast.ClassDef]:
    tree = ast.parse((RECORDS / file).read_text("utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef) and node.name != "Subject"}


def _module_doc(file: str) -> str:
    text = ast.get_docstring(ast.parse((RECORDS / file).read_text("utf-8"))) or ""
    return text.split("\n\n", 1)[0]


def _others(classes: dict[str, ast.ClassDef], left_out: str) -> list[ast.ClassDef]:
    return [node for name, node in classes.items() if name != left_out]


def _event(body: ast.ClassDef, subjects: list[str]) -> str:
    named = ", ".join(f"`{name}`" for name in subjects)
    return f"### `{_type_of(body)}`\n\n{_doc(body)}\n\nin-toto subjects: {named}.\n\n{_table(body)}"


def _record(node: ast.ClassDef) -> str:
    return f"### {node.name}\n\n{_doc(node)}\n\n{_table(node)}"


def _doc(node: ast.ClassDef) -> str:
    return ast.get_docstring(node) or ""


def _table(node: ast.ClassDef) -> str:
    rows = [f"| `{name}` | `{kind}` | {text} |" for name, kind, text in _fields(node) if name != "type"]
    return "\n".join(["| field | type | |", "|---|---|---|", *rows])


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    for item, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.target.id, _kind(item), " ".join(_string(following).split()).replace("|", "\\|")


def _kind(item: ast.AnnAssign) -> str:
    shown = ast.unparse(item.annotation)
    plain = isinstance(item.value, ast.Constant | ast.Tuple)
    return (shown + (f" = {ast.unparse(item.value)}" if plain and item.value is not None else "")).replace("|", "\\|")


def _string(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return ""


def _type_of(node: ast.ClassDef) -> str | None:
    for item in node.body:
        if (
            isinstance(item, ast.AnnAssign)
            and ast.unparse(item.target) == "type"
            and isinstance(item.value, ast.Constant)
        ):
            return str(item.value.value)
    return None


def _subjects() -> dict[str, list[str]]:
    """Names of the in-toto subjects per body class, read from the arms of `subjects_of`."""
    tree = ast.parse((RECORDS / "events.py").read_text("utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    of_change = [
        key.value
        for node in ast.walk(functions["_change_subjects"])
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    ]
    found: dict[str, list[str]] = {}
    for case in [node for node in ast.walk(functions["subjects_of"]) if isinstance(node, ast.match_case)]:
        names = [n.value.value for n in ast.walk(case) if isinstance(n, ast.keyword) and n.arg == "name"]  # type: ignore[attr-defined]
        for pattern in [node for node in ast.walk(case.pattern) if isinstance(node, ast.MatchClass)]:
            found[ast.unparse(pattern.cls)] = names or of_change
    return found


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    Path(PAGE).write_text(render(), "utf-8")


if __name__ == "__main__":
    main()
