"""One policy file: YAML in, a frozen and fully typed `Policy` out, or one clear error that names the line.

Rules: unknown keys, duplicate keys, anchors, aliases, tags, numbers that two readers read differently, NaN, infinities
and wrong types are refused, because a limit that is not understood is a limit that does not hold. Anchors and depth are
refused while the file is read, before anything that they stand for is built. A policy is never edited: a new version is
a new file. Its digest is the SHA-256 of the file's bytes, so what was read is what was approved.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from mass_gov.errors import PolicyError
from mass_gov.policy.gate_settings import LATER_GATES, Gates, Limit, Part
from mass_gov.records.base import Slug
from mass_gov.records.change import Scope

MAX_BYTES = 256 * 1024
MAX_DEPTH = 8
"""A policy has three levels."""
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
"""Numbers as everybody reads them: YAML 1.1 also has 010 (eight), 1_000, 0x1f and 1:30 (ninety)."""
_PLAIN_TAGS = frozenset({"str", "int", "float", "bool", "null", "map", "seq"})


class Envelope(Part):
    """The pre-approved limits inside which an update applies by itself (the predetermined change)."""

    id: Slug
    scopes: tuple[Scope, ...]
    step_norm: Limit
    cumulative_norm: Limit


class Approvals(Part):
    """What it takes when an update does not apply by itself."""

    required: Annotated[int, Field(ge=1, le=16, strict=True)]
    self_approval: Annotated[bool, Field(strict=True)]
    """Whether the requester's own yes counts. Marked in every event where it does."""


class Suites(Part):
    """Which regression suite tests an update, by the scope that was asked for: every update runs one."""

    instance: Slug
    deployment: Slug


class PolicyDocument(Part):
    """The file, field by field."""

    format: Literal[2]
    name: Slug
    version: Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
    description: Annotated[str, Field(max_length=2000)]
    suites: Suites
    envelope: Envelope
    gates: Gates
    approvals: Approvals
    while_pending: Literal["base", "parent", "none"]
    """Whose answer is served while a change is held, and after a reject."""

    def suite_for(self, scope: Scope) -> str:
        """Name of the suite that tests an update of this scope."""
        return self.suites.instance if scope == "instance" else self.suites.deployment


class Policy(Part):
    """A validated policy with its digest and its bytes."""

    document: PolicyDocument
    digest: str
    source: bytes = Field(repr=False)

    @property
    def label(self) -> str:
        """Name and version, for people: `default/v1`."""
        return f"{self.document.name}/v{self.document.version}"


def load_policy(source: bytes, where: str = "policy") -> Policy:
    """Validate the bytes of one policy file.

    Raises:
        PolicyError: with `where`, the line, what is wrong, and what is accepted.
    """
    tree = _compose(source, where)
    lines: dict[tuple[str, ...], int] = {}
    data = _as_format_2(_plain(tree, (), lines, where))
    try:
        document = PolicyDocument.model_validate(data)
    except ValidationError as error:
        raise PolicyError(_explain(error, lines, where)) from None
    return Policy(document=document, digest=hashlib.sha256(source).hexdigest(), source=source)


def _as_format_2(data: dict[str, Any]) -> dict[str, Any]:
    """Read a file of format 1, which had one suite, ten gates and Tango's bound, as what it says in format 2.

    Logs hold such files, and what they decided has to be derived again (decision 0009).
    """
    if data.get("format") != 1 or not isinstance(data.get("gates"), dict):
        return data
    suite = {"suites": {"instance": data["suite"], "deployment": data["suite"]}} if "suite" in data else {}
    rest = {name: value for name, value in data.items() if name != "suite"}
    tango = {
        name: {"bound": "tango"} | data["gates"][name]
        for name in ("regression.previous", "regression.base")
        if isinstance(data["gates"].get(name), dict)
    }
    gates = data["gates"] | tango | dict.fromkeys(LATER_GATES, "unused")
    return rest | suite | {"format": 2, "gates": gates}


def _compose(source: bytes, where: str) -> yaml.Node:
    if len(source) > MAX_BYTES:
        raise PolicyError(f"{where}: {len(source)} bytes is more than the {MAX_BYTES} a policy may have; shorten it.")
    try:
        text = source.decode("utf-8")
        _refuse_bombs(text, where)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise PolicyError(f"{where}: not UTF-8 at byte {error.start}; save the file as UTF-8.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise PolicyError(f"{where}{line}: {problem}; mend the YAML and run `mass-gov policy check` again.") from None
    if not isinstance(tree, yaml.MappingNode):
        raise PolicyError(f"{where}: empty or not a mapping; start from `policies/default/v1.yaml`.")
    return tree


def _refuse_bombs(text: str, where: str) -> None:
    """Read the file's events, which is linear, and stop at the first that could make more of it than is there."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        if getattr(event, "anchor", None) is not None:
            raise PolicyError(f"{where}, line {line}: anchors and aliases are not accepted; write the value out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise PolicyError(f"{where}, line {line}: nested too deeply; a policy has three levels.")


def _plain(node: yaml.Node, path: tuple[str, ...], lines: dict[tuple[str, ...], int], where: str) -> Any:
    """Turn a YAML node into plain values, remembering the line of every path."""
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind not in _PLAIN_TAGS:
        raise PolicyError(f"{where}, line {line}: {node.tag} is not accepted in a policy; write a plain value.")
    if kind in ("int", "float") and not _NUMBER.fullmatch(str(node.value)):
        raise PolicyError(f"{where}, line {line}: {node.value!r} is read as another number by some; write it plainly.")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines, where)
    if isinstance(node, yaml.SequenceNode):
        return tuple(_plain(item, (*path, str(i)), lines, where) for i, item in enumerate(node.value))
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError):
        raise PolicyError(
            f"{where}, line {line}: {node.value!r} is not a plain value; write a number or text."
        ) from None
    return value


def _mapping(
    node: yaml.MappingNode, path: tuple[str, ...], lines: dict[tuple[str, ...], int], where: str
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = key_node.value
        if not isinstance(key, str) or key_node.tag != "tag:yaml.org,2002:str":
            raise PolicyError(f"{where}, line {line}: keys are plain words; write the key without quotes or tags.")
        if key in result:
            raise PolicyError(f"{where}, line {line}: `{key}` stands here a second time; keep one of them.")
        lines[(*path, key)] = line
        result[key] = _plain(value_node, (*path, key), lines, where)
    return result


def _explain(error: ValidationError, lines: dict[tuple[str, ...], int], where: str) -> str:
    # An unknown key comes first: a misspelt key is also reported as a missing one, which would mislead.
    first = min(
        error.errors(include_url=False, include_input=False, include_context=False),
        key=lambda item: item["type"] != "extra_forbidden",
    )
    path = tuple(str(part) for part in first["loc"])
    known = next(path[:n] for n in range(len(path), -1, -1) if path[:n] in lines)
    dotted = " > ".join(path)
    what = "unknown key; remove it or mend its spelling" if first["type"] == "extra_forbidden" else first["msg"]
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}, line {lines[known]}: {dotted}: {what}.{more} See docs/reference/policy.md."
