"""A report's document as a page for people: Markdown, or one HTML file.

Rules: a page says what the document says, in its order, and nothing else. The HTML holds its own style, loads nothing,
runs nothing, is readable without colour, and every text in it is escaped: words of a mapping file are somebody's.
Headings nest, tables have captions and header cells, so that a screen reader finds its way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

NOTHING = "none"
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:70rem;margin:0 auto;padding:1rem;color:#111;background:#fff}"
    "table{border-collapse:collapse;width:100%;margin:.5rem 0 1rem}caption{text-align:left;font-weight:600}"
    "th,td{border:1px solid #767676;padding:.25rem .5rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    "code,pre{font-family:ui-monospace,monospace;overflow-wrap:anywhere;white-space:pre-wrap}"
    ".gap{font-weight:700;border-left:.3rem solid #8a1500;padding-left:.4rem}"
)

Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""Caption, header cells, rows. Cells are plain text."""


def head_rows(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a reader has to know before the first clause."""
    log, framework, period = document["log"], document["framework"], document["period"]
    source, summary = framework["source"], document["summary"]
    return [
        (
            "mapping",
            f"{framework['name']}/v{framework['version']} of {framework['date']}, sha256 {framework['digest']}",
        ),
        ("source", f"{source['document']}; {source['published']}; {source['url']}"),
        ("compared with the source", f"{source['checked']}: {source['how']}"),
        ("period", f"{period['since'] or 'the beginning'} to {period['until'] or 'the end of the log'}"),
        ("tenant and deployment", f"{document['tenant'] or 'every tenant'} / {document['deployment'] or 'every one'}"),
        ("made of", f"{log['origin']}, {log['size']} events, root {log['root']}"),
        ("as of", f"{document['at']}, by {document['software']}"),
        ("events in the period", str(document["events_inside"])),
        ("facts", "; ".join(f"{name} {_value(value)}" for name, value in document["facts"].items())),
        (
            "in short",
            f"{summary['clauses']} clauses, {summary['without_records']} of them without a record, "
            f"{summary['gaps']} gaps. A report without gaps is no conformity.",
        ),
    ]


def records_table(clause: Mapping[str, Any]) -> Table:
    """The records of a clause."""
    rows = []
    for one in clause["records"]:
        where = ", ".join(f"{path} = {_value(value)}" for path, value in one["where"].items())
        reach = ", ".join(word for word, said in (("any place", one["everywhere"]), ("any time", one["ever"])) if said)
        what = " ".join(
            part for part in (one["type"], f"({where})" if where else "", f"[{reach}]" if reach else "") if part
        )
        span = NOTHING if one["count"] == 0 else f"{one['first_index']} to {one['last_index']}"
        rows.append((what, str(one["count"]), span, _examples(one["examples"]), "; ".join(map(_field, one["fields"]))))
    return "Records that answer it", ("events", "count", "first to last index", "examples", "what they say"), rows


def gaps_table(clause: Mapping[str, Any]) -> Table:
    """What would be a gap, and whether it is one."""
    rows = [
        (
            gap["says"],
            f"GAP: {gap['found']}" if gap["verdict"] == "gap" else gap["verdict"],
            str(gap["looked_at"]),
            "; ".join(part for part in (_examples(gap["examples"]), gap["note"] or "") if part),
        )
        for gap in clause["gaps"]
    ]
    return "What would be a gap", ("gap", "found", "looked at", "where"), rows


def incidents_table(incidents: Sequence[Mapping[str, Any]]) -> Table:
    """The incidents of the period."""
    rows = [
        (
            one["incident_id"],
            one["severity"],
            one["aware_at"],
            (one["due_at"] or "-") + (" OVERDUE" if one["overdue"] else ""),
            one["reported_at"] or "-",
            (one["closed_at"] and f"{one['closed_at']} ({one['outcome']})") or "open",
            f"{one['changes_reached']} changes, {one['responses_reached']} answers",
        )
        for one in incidents
    ]
    header = ("incident", "severity", "known since", "report by", "reported", "closed", "reaches")
    return "Incidents of the period", header, rows


def reproduce(document: Mapping[str, Any]) -> str:
    """The command that makes the same records again."""
    period = document["period"]
    options = {
        "--size": document["log"]["size"],
        "--at": document["at"],
        "--since": period["since"],
        "--until": period["until"],
        "--tenant": document["tenant"],
        "--deployment": document["deployment"],
    }
    given = " ".join(f"{option} {value}" for option, value in options.items() if value is not None)
    return f"mass-gov report {document['report']} --clauses {document['framework']['name']} {given} --unrecorded --json"


def markdown(document: Mapping[str, Any], content: str) -> str:
    """The report as Markdown."""
    parts = [f"# {_md(document['framework']['title'])}", f"> {_md(document['framework']['notice'])}"]
    parts.append(_md_table(("", ""), head_rows(document)))
    for section in document["reports"]:
        parts.append(f"## {_md(section['title'])}")
        tables = [] if section["incidents"] is None else [incidents_table(section["incidents"])]
        parts += _md_tables(tables)
        for clause in section["clauses"]:
            parts += [f"### {_md(clause['ref'])}", _md(clause["asks"])]
            parts += _md_tables([records_table(clause), gaps_table(clause)])
            if clause["verify"]:
                parts.append("How to check it:\n\n" + "\n".join(f"    {line}" for line in clause["verify"]))
            if clause["beyond"]:
                parts.append(f"Beyond what is recorded here: {_md(clause['beyond'])}")
    parts += ["## How to check this report", _md(_CHECK), f"    {reproduce(document)}"]
    parts.append(f"SHA-256 of its canonical JSON: `{content}`. The signed head that it was made at:")
    parts.append("\n".join(f"    {line}" for line in document["log"]["checkpoint"].splitlines()))
    return "\n\n".join(parts) + "\n"


def html(document: Mapping[str, Any], content: str) -> str:
    """The report as one HTML file."""
    title = escape(document["framework"]["title"])
    parts = [f"<h1>{title}</h1>", f"<p><strong>{escape(document['framework']['notice'])}</strong></p>"]
    parts.append(_html_table(("What this report was made of", ("what", "which"), head_rows(document))))
    for section in document["reports"]:
        parts.append(f"<h2>{escape(section['title'])}</h2>")
        if section["incidents"] is not None:
            parts.append(_html_table(incidents_table(section["incidents"])))
        for clause in section["clauses"]:
            parts += [f"<h3>{escape(clause['ref'])}</h3>", f"<p>{escape(clause['asks'])}</p>"]
            parts += [_html_table(table) for table in (records_table(clause), gaps_table(clause)) if table[2]]
            if clause["verify"]:
                parts.append(f"<p>How to check it:</p><pre>{escape(chr(10).join(clause['verify']))}</pre>")
            if clause["beyond"]:
                parts.append(f"<p>Beyond what is recorded here: {escape(clause['beyond'])}</p>")
    parts.append(f"<h2>How to check this report</h2><p>{escape(_CHECK)}</p><pre>{escape(reproduce(document))}</pre>")
    parts.append(f"<p>SHA-256 of its canonical JSON: <code>{escape(content)}</code>. The signed head:</p>")
    parts.append(f"<pre>{escape(document['log']['checkpoint'])}</pre>")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{_STYLE}</style></head>\n'
        f"<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n"
    )


_CHECK = (
    "Verify the log, compare its head with the one below, and make the report again at that size: the same log, "
    "mapping and facts give the same bytes. Facts about verification, witnesses and retention are whoever asked's."
)


def _field(one: Mapping[str, Any]) -> str:
    if one["values"] is None:
        return f"{one['path']}: {one['events']} events, many values"
    said = ", ".join(f"{_value(value['value'])} ({value['events']})" for value in one["values"])
    return f"{one['path']}: {said or NOTHING}"


def _examples(examples: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['index']}" + (f" ({one['id']})" if one["id"] else "") for one in examples)


def _value(value: object) -> str:
    if value is None:
        return "not known"
    return value if isinstance(value, str) else json.dumps(value)


def _md(text: str) -> str:
    flat = " ".join(text.split())
    return "".join(f"\\{one}" if one in "\\`*_{}[]<>#|" else one for one in flat)


def _md_tables(tables: Sequence[Table]) -> list[str]:
    return [f"{caption}:\n\n{_md_table(header, rows)}" for caption, header, rows in tables if rows]


def _md_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([_md(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _html_table(table: Table) -> str:
    caption, header, rows = table
    cells = "".join(f'<th scope="col">{escape(one)}</th>' for one in header)
    body = "".join(f"<tr>{_html_row(row)}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _html_row(row: Sequence[str]) -> str:
    first, *rest = (escape(cell) for cell in row)
    marked = (f'<td class="gap">{one}</td>' if one.startswith("GAP") else f"<td>{one}</td>" for one in rest)
    return f'<th scope="row">{first}</th>' + "".join(marked)
