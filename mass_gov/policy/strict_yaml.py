"""YAML of which two readers cannot understand two things: one mapping of plain values, with the line of each.

Rules: duplicate keys, anchors, aliases, tags and numbers that two readers read differently are refused, and in a file
that is new other words for true, false and null than these, which YAML 1.1 has and 1.2 reads as text. Anchors and
depth are refused while the file is read, before anything that they stand for is built. This module does not know
policies.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from mass_gov.errors import PolicyError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 12
"""A policy has three levels, a mapping of clauses eleven."""
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
"""Numbers as everybody reads them: YAML 1.1 also has 010 (eight), 1_000, 0x1f and 1:30 (ninety)."""
_WORDS = {"bool": ("true", "false"), "null": ("null",)}
_PLAIN_TAGS = frozenset({"str", "int", "float", "bool", "null", "map", "seq"})


def read_mapping(source: bytes, where: str, *, new: bool = True) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """Return the mapping that a file holds, and the line of every path in it.

    Arguments:
        new: False for what a log holds: it has to be read as it was when it was written down.

    Raises:
        PolicyError: with `where`, the line, and what is wrong.
    """
    lines: dict[tuple[str, ...], int] = {}
    tree = _compose(source, where)
    if new:
        _refuse_other_words(tree, where)
    data: dict[str, Any] = _plain(tree, (), lines, where)
    return data, lines


def _refuse_other_words(node: yaml.Node, where: str) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _refuse_other_words(key, where)
            _refuse_other_words(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_other_words(item, where)
    elif node.value not in (words := _WORDS.get(node.tag.removeprefix("tag:yaml.org,2002:"), (node.value,))):
        line = node.start_mark.line + 1
        wanted = " or ".join(words)
        raise PolicyError(f"{where}, line {line}: {node.value!r} is text to some readers; write {wanted}, or quote it.")


def _compose(source: bytes, where: str) -> yaml.Node:
    if len(source) > MAX_BYTES:
        raise PolicyError(f"{where}: it has more than the {MAX_BYTES} bytes that such a file may have; shorten it.")
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
        raise PolicyError(f"{where}{line}: {problem}; mend the YAML and try it again.") from None
    if not isinstance(tree, yaml.MappingNode):
        raise PolicyError(f"{where}: empty or not a mapping; start from a file that ships, in `policies/`.")
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
            raise PolicyError(
                f"{where}, line {line}: nested too deeply; no such file needs more than {MAX_DEPTH} levels."
            )


def _plain(node: yaml.Node, path: tuple[str, ...], lines: dict[tuple[str, ...], int], where: str) -> Any:
    """Turn a YAML node into plain values, remembering the line of every path."""
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind not in _PLAIN_TAGS:
        raise PolicyError(f"{where}, line {line}: {node.tag} is not accepted here; write a plain value.")
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
