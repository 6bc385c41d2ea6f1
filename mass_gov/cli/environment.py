"""The numeric environment on the command line: shown by doctor, saved as JSON, and held against a saved one.

Rules: canaries of two models say nothing of each other and are left out, with a word on it. A file that is not what
`doctor --json` writes is refused before anything is compared. Does not know which of two machines is right.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mass_gov.cli.output import emit, facts, grid, one_line, out, visible
from mass_gov.errors import InputError
from mass_gov.evidence.files import read_at_most
from mass_gov.flows.fingerprints import Compared, compare, touches

_MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Environment:
    """Whose canaries, and the fingerprint."""

    model: str
    fingerprint: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """What stands in `doctor --json`."""
        return {"model": self.model, "fingerprint": self.fingerprint}


def saved(path: Path) -> Environment:
    """What `mass-gov doctor --json` wrote into a file.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        raw = read_at_most(path, _MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}. Give a file that `mass-gov doctor --json` wrote.") from None
    try:
        found = json.loads(raw) if len(raw) <= _MAX_BYTES else None
    except (ValueError, RecursionError):
        found = None
    environment: Any = found.get("environment") if isinstance(found, dict) else None
    if not _is_environment(environment):
        raise InputError(f"{path} holds no fingerprint. Write one there with `mass-gov doctor --json > FILE`.")
    return Environment(environment["model"], environment["fingerprint"])


def show(environment: Environment) -> None:
    """Print every part of the fingerprint."""
    rows = {name: one_line(str(value), 80) for name, value in sorted(environment.fingerprint.items())}
    out().print(facts(dict(rows)))


def print_comparison(there: Environment, here: Environment, as_json: bool) -> bool:
    """Print what differs between a saved environment and this one; whether nothing does."""
    same_model = there.model == here.model
    found = compare(*(one.fingerprint if same_model else _mute(one.fingerprint) for one in (there, here)))
    words = _words(found, same_model)
    if as_json:
        emit(_document(found, there, here, words))
    else:
        _print(found, words)
    return not found.different


def _words(found: Compared, same_model: bool) -> list[str]:
    verdict = "it differs" if found.different else "nothing that was recorded differs"
    words = [f"the numeric environment: {verdict}"]
    if not same_model:
        words.append("the canaries were not compared: another model is open. Name the same one with --model")
    return [*words, *found.words("there")]


def _document(found: Compared, there: Environment, here: Environment, words: list[str]) -> dict[str, Any]:
    return {
        "same": not found.different,
        "same_model": there.model == here.model,
        "differs": {
            name: {"there": was, "here": now, "what": touches(name)[0], "touches": touches(name)[1]}
            for name, (was, now) in found.different.items()
        },
        "stages": list(found.stages),
        "not_recorded": list(found.not_recorded),
        "words": words,
    }


def _print(found: Compared, words: list[str]) -> None:
    if found.different:
        table = grid("part", "there", "here", "what it is", "touches")
        table.columns[0].no_wrap = True
        for name, (was, now) in found.different.items():
            table.add_row(visible(name), _value(was), _value(now), *touches(name))
        out().print(table)
    for sentence in words:
        out().print(f"{visible(sentence[:1].upper() + sentence[1:])}.", soft_wrap=True)


def _value(value: Any) -> str:
    return "(not there)" if value is None else one_line(str(value), 24)


def _is_environment(found: Any) -> bool:
    if not isinstance(found, dict) or not isinstance(found.get("model"), str):
        return False
    parts = found.get("fingerprint")
    return isinstance(parts, dict) and bool(parts) and all(isinstance(one, str | int) for one in parts.values())


def _mute(fingerprint: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fingerprint.items() if not name.startswith("canary.")}
