"""The documentation fails the build when it lies: catalogue, policy fields, procedures, words, links, commands."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from mass_gov.cli.main import command_tree
from mass_gov.flows import replay, replay_report, reports
from mass_gov.ledger.views import Cause, Status
from mass_gov.policy import decision, load_policy
from mass_gov.policy.clauses import load_clauses
from mass_gov.policy.document import PolicyDocument
from mass_gov.policy.gate_settings import LATER_GATES, Gates
from mass_gov.policy.metrics import METRICS
from mass_gov.records.change import GateVerdict, OnFail, Scope, UpdateOutcome, Verdict
from mass_gov.records.events import ResponseServed
from tests.contract import events_page
from tests.contract.checkout import ROOT, read, sources

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_the_event_catalogue_is_the_code() -> None:
    assert events_page.PAGE.read_text("utf-8") == events_page.render(), "run `python -m tests.contract.events_page`"


def _fields(model: type[BaseModel], prefix: str = "") -> dict[str, type[BaseModel] | None]:
    """Dotted path of every leaf field of a policy, aliases as they stand in the file."""
    found: dict[str, type[BaseModel] | None] = {}
    for name, field in model.model_fields.items():
        path, kind = prefix + (field.alias or name), field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= _fields(kind, f"{path}.")
        elif not (path.startswith("gates.") and name == "scopes"):  # said of all gates at once, and left out mostly
            found[path] = None
    return found


def _shipped(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted path to value; a gate that may be `unused` is one value, with its settings."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        whole = not isinstance(value, dict) or (prefix == "gates." and key in LATER_GATES)
        found |= {prefix + key: value} if whole else _shipped(value, f"{prefix}{key}.")
    return found


def test_every_field_of_a_policy_is_documented_with_its_shipped_value() -> None:
    rows = re.findall(
        r"^\| `([a-z0-9_.]+)` \| [^|]+ \| [^|]+ \| `(.+?)` \|$", read("docs/reference/policy.md"), re.MULTILINE
    )
    file = read("policies/default/v1.yaml")
    left_out = _shipped(load_policy(file.encode()).document.model_dump(by_alias=True))
    shipped = {path: left_out[path] for path in _fields(PolicyDocument)} | _shipped(yaml.safe_load(file))
    assert sorted(path for path, _ in rows) == sorted(_fields(PolicyDocument))
    given = {path: yaml.safe_load(value) for path, value in rows if path not in ("description",)}
    assert given == {path: value for path, value in shipped.items() if path not in ("description",)}


def test_every_setting_of_a_later_gate_is_documented() -> None:
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \| (`[a-z_`, ]+`) \|$", read("docs/reference/policy.md"), re.MULTILINE)
    documented = {gate: sorted(re.findall(r"`([a-z_]+)`", settings)) for gate, settings in rows}
    kinds = {str(field.alias): get_args(field.annotation) for field in Gates.model_fields.values()}
    assert documented == {gate: sorted(set(kinds[gate][0].model_fields) - {"scopes"}) for gate in LATER_GATES}


def test_every_metric_of_a_rule_is_documented_with_its_type() -> None:
    rows = re.findall(
        r"^\| `([a-z0-9_]+)` \| (string|bool|int|double) \| ", read("docs/reference/policy.md"), re.MULTILINE
    )
    assert dict(rows) == dict(METRICS)


def test_policies_default_and_solo_differ_as_the_page_says() -> None:
    default, solo = (_shipped(yaml.safe_load(read(f"policies/{name}/v1.yaml"))) for name in ("default", "solo"))
    different = {path for path in default if default[path] != solo[path]}
    assert different == {"name", "description", "envelope.id", "approvals.self_approval"}


def _steps(docstring: str | None, pattern: str) -> list[str]:
    """Numbered steps of a procedure, each with its continuation lines, white space folded."""
    lines = re.findall(pattern, docstring or "", re.MULTILINE | re.DOTALL)
    return [" ".join(line.split()) for line in lines]


@pytest.mark.parametrize(
    ("page", "module", "pattern", "count"),
    [
        ("docs/reference/replay.md", replay, r"^ {2}(\(\d\) .+?)$(?=\n {2}\(|\nRules)", 4),
        ("docs/reference/policy.md", decision, r"^ {2}(\d\. .+?)\s*->", 6),
        ("docs/reference/reports.md", reports, r"^ {4}(\(\d\) .+?)$(?=\n {4}\(|\n\nRules)", 6),
    ],
)
def test_a_procedure_reads_the_same_in_prose_and_in_code(page: str, module: Any, pattern: str, count: int) -> None:
    steps = _steps(module.__doc__, pattern)
    prose = " ".join(read(page).replace("`", "").split())
    assert len(steps) == count
    assert not [step for step in steps if step.replace("`", "") not in prose]


def test_every_reason_and_outcome_is_explained() -> None:
    page = read("docs/reference/policy.md")
    assert not [code for code in (*decision.EXPLANATIONS, *get_args(UpdateOutcome)) if f"`{code}`" not in page]


def test_the_glossary_has_every_value_that_a_user_meets() -> None:
    glossary = read("docs/glossary.md")
    served = ResponseServed.model_fields["served"].annotation
    words = [
        get_args(kind) for kind in (Status, Cause, Scope, Verdict, GateVerdict, OnFail, replay_report.Verdict, served)
    ]
    assert not [word for values in words for word in values if f"`{word}`" not in glossary]


def test_every_cited_section_of_the_design_exists() -> None:
    headings = set(re.findall(r"^## (\d+)\.", read("docs/explanation/design.md"), re.MULTILINE))
    cited = {
        number
        for path, _ in sources()
        for numbers in re.findall(r"DESIGN sections? ([\d, and-]+)", read(path))
        for number in re.findall(r"\d+", numbers)
    }
    assert cited and not cited - headings


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_resolve(page: Any) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in _anchors(there.read_text("utf-8"))):
            broken.append(target)
    assert not broken


def _shown_commands() -> list[tuple[str, str]]:
    """Every `mass-gov ...` that a page shows in code: (page, the words after the name)."""
    shown = []
    for page in PAGES:
        text = page.read_text("utf-8")
        inline = re.findall(r"`mass-gov ([^`\n]+)`", text)
        blocks = re.findall(r"^(?: {4}|\$ .*?)mass-gov (.+)$", text, re.MULTILINE)
        shown += [(page.relative_to(ROOT).as_posix(), command) for command in (*inline, *blocks)]
    return shown


def _fault(command: str) -> str | None:
    """What is wrong with a command as it is shown, None if the command line would know it."""
    node: Any = command_tree()
    words = re.split(r"\s+", re.split(r"\s+[>|#]|[;)]", command)[0].replace("[", " ").replace("]", " "))
    for word in words:
        if hasattr(node, "commands"):
            if re.fullmatch(r"[a-z]+(\|[a-z]+)+", word):
                return next((f"no command {one}" for one in word.split("|") if one not in node.commands), None)
            if re.fullmatch(r"[a-z]+", word):
                if word not in node.commands:
                    return f"no command {word}"
                node = node.commands[word]
        if word.startswith("--") and not _has_option(node, word.split("=")[0].rstrip("`.,")):
            return f"no option {word}"
    return None


def _has_option(node: Any, name: str) -> bool:
    known = {option for param in node.params for option in (*param.opts, *param.secondary_opts)}
    return name in known | {"--help"}


def test_every_command_that_a_page_shows_exists() -> None:
    shown = _shown_commands()
    assert len(shown) > 30
    assert not [f"{page}: {command}: {_fault(command)}" for page, command in shown if _fault(command)]


def test_every_command_by_which_a_mapping_has_its_answers_checked_exists() -> None:
    files = sorted((ROOT / "policies" / "clauses").glob("*.yaml"))
    specs = [spec for file in files for spec in load_clauses(file.read_bytes()).framework.reports.values()]
    lines = [line for spec in specs for clause in spec.clauses for line in clause.verify]
    assert len(lines) > 20
    assert not [line for line in lines if not line.startswith("mass-gov ") or _fault(line.removeprefix("mass-gov "))]


@pytest.mark.parametrize("command", ["levitate", "changes lift X", "verify --hard", "changes list|lift"])
def test_the_check_for_commands_sees_what_does_not_exist(command: str) -> None:
    assert _fault(command)


def test_every_decision_is_listed_dated_and_quotable() -> None:
    index = read("docs/decisions/README.md")
    faults = []
    for page in sorted((ROOT / "docs" / "decisions").glob("0*.md")):
        text = page.read_text("utf-8")
        if f"]({page.name})" not in index:
            faults.append(f"{page.name}: not in the index")
        if not re.search(r"^> ", text, re.MULTILINE) or "**Status:**" not in text or len(text.splitlines()) > 60:
            faults.append(f"{page.name}: needs a quotable line, a status, and one screen")
    assert not faults
