"""Which witnesses suffice: the verifier's own trust policy (c2sp.org/tlog-policy), and what it makes of a head.

    log <vkey> [<url>]                       a log that is accepted; without any, the trust root decides
    witness <name> <vkey> [<url>]            a witness, named for use in this file
    group <name> all|any|<k> <name>...       witnesses when so many of its members do
    quorum <name>|none                       exactly one line: what must have witnessed a head

Words are parted by spaces and tabs, `#` begins a comment line, a name is used only after it was defined, and each name
is a member once. Rules: the file is the verifier's and never comes from who is verified. Of several cosignatures of one
witness the latest counts, and counts once. A cosignature from the future, beyond `FUTURE_TOLERANCE`, is refused and
does not count. The age of a head runs from the latest time at which, or after which, a quorum vouched for it: one
witness with a fresh clock cannot make an old head young.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mass_gov.errors import InputError
from mass_gov.evidence.checkpoint import parse_vkey
from mass_gov.evidence.cosignature import Cosignature, WitnessKey, parse_witness_vkey
from mass_gov.evidence.signing import VerificationKey

FUTURE_TOLERANCE = 300
"""Seconds by which a witness's clock may run ahead of the verifier's."""
MAX_POLICY_BYTES = 64 * 1024
MAX_NAMES = 256
"""Witnesses and groups in one policy; the specification asks for at least 32 of each."""
NO_QUORUM = "none"

_COUNT = re.compile(r"[1-9][0-9]{0,2}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Group:
    """Names of which `threshold` must have witnessed."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """A parsed policy. `quorum` names a witness or a group, or is `none`."""

    quorum: str
    witnesses: dict[str, WitnessKey] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    logs: tuple[tuple[str, VerificationKey], ...] = ()

    def satisfied(self, keys: Collection[str]) -> bool:
        """Whether the witnesses with these keyids make a quorum."""
        return self.quorum == NO_QUORUM or self._has_witnessed(self.quorum, keys)

    def judge(self, cosignatures: Iterable[Cosignature], now: int) -> WitnessedBy:
        """What the cosignatures of one head are worth at `now` (seconds since 1970)."""
        latest: dict[str, Cosignature] = {}
        early = []
        for cosignature in cosignatures:
            keyid = cosignature.witness.key.keyid
            if cosignature.time > now + FUTURE_TOLERANCE:
                early.append(cosignature)
            elif keyid not in latest or latest[keyid].time < cosignature.time:
                latest[keyid] = cosignature
        counted = tuple(sorted(latest.values(), key=lambda c: (c.time, c.witness.name), reverse=True))
        return WitnessedBy(counted, self.satisfied(latest), self._since(counted), tuple(early))

    def _has_witnessed(self, name: str, keys: Collection[str]) -> bool:
        if name in self.witnesses:
            return self.witnesses[name].key.keyid in keys
        group = self.groups[name]
        return sum(self._has_witnessed(member, keys) for member in group.members) >= group.threshold

    def _since(self, newest_first: tuple[Cosignature, ...]) -> int | None:
        """The latest T such that those who cosigned at T or later are a quorum."""
        if self.quorum == NO_QUORUM:
            return newest_first[0].time if newest_first else None
        seen: set[str] = set()
        for cosignature in newest_first:
            seen.add(cosignature.witness.key.keyid)
            if self.satisfied(seen):
                return cosignature.time
        return None


@dataclass(frozen=True, slots=True)
class WitnessedBy:
    """What the cosignatures of one head come to.

    Attributes:
        counted: one per witness, its latest, newest first.
        quorum: whether they are a quorum.
        since: seconds since 1970 at which, or after which, a quorum vouched; None without one.
        early: those refused because their time lies in the future.
    """

    counted: tuple[Cosignature, ...]
    quorum: bool
    since: int | None
    early: tuple[Cosignature, ...]


def read_witness_policy(path: Path) -> WitnessPolicy:
    """Read a policy from a file.

    Raises:
        InputError: it cannot be read, or `parse_witness_policy` refuses it.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise InputError(f"The witness policy {path} cannot be read: {error.strerror}. Check --witnesses.") from error
    return parse_witness_policy(data)


def parse_witness_policy(data: bytes) -> WitnessPolicy:
    """Read a policy.

    Raises:
        InputError: it is not of the form above; the message names the line.
    """
    # Octets beyond ASCII are opaque (tlog-policy, "Character set"), and surrogate escapes keep them so.
    text = data.decode("utf-8", "surrogateescape")
    if len(data) > MAX_POLICY_BYTES or _CONTROL.search(text):
        raise _refuse(0, "it is too long, or holds control characters")
    parser = _Parser()
    for number, line in enumerate(text.split("\n"), start=1):
        words = re.split(r"[ \t]+", line.strip(" \t"))
        if words != [""] and not words[0].startswith("#"):
            parser.read(number, words)
    return parser.finish()


class _Parser:
    """Line after line; what is defined so far, and what is a member already."""

    def __init__(self) -> None:
        self.witnesses: dict[str, WitnessKey] = {}
        self.groups: dict[str, Group] = {}
        self.logs: list[tuple[str, VerificationKey]] = []
        self.members: set[str] = set()
        self.quorum: str | None = None

    def read(self, number: int, words: list[str]) -> None:
        keyword, *rest = words
        kinds = {"log": self._log, "witness": self._witness, "group": self._group, "quorum": self._quorum}
        try:
            if keyword not in kinds:
                raise ValueError(f"{keyword[:20]!r} is none of {', '.join(kinds)}")
            kinds[keyword](rest)
            if len(self.witnesses) + len(self.groups) > MAX_NAMES:
                raise ValueError(f"it defines more than {MAX_NAMES} names")
        except (ValueError, InputError) as error:
            raise _refuse(number, str(error).rstrip(".")) from error

    def finish(self) -> WitnessPolicy:
        if self.quorum is None:
            raise _refuse(0, "it has no quorum line")
        return WitnessPolicy(self.quorum, self.witnesses, self.groups, tuple(self.logs))

    def _log(self, words: list[str]) -> None:
        _between(words, 1, 2)
        name, key = parse_vkey(words[0])
        if any(key == other for _, other in self.logs):
            raise ValueError("this log's key stands there already")
        self.logs.append((name, key))

    def _witness(self, words: list[str]) -> None:
        _between(words, 2, 3)
        witness = parse_witness_vkey(words[1])
        if any(witness.key == other.key for other in self.witnesses.values()):
            raise ValueError("this witness's key stands there already, and would count twice")
        self.witnesses[self._new(words[0])] = witness

    def _group(self, words: list[str]) -> None:
        _between(words, 3, MAX_NAMES)
        name, count, *members = words
        for member in members:
            if member not in self.witnesses and member not in self.groups:
                raise ValueError(f"{member[:40]!r} is not defined above")
            if member in self.members:
                raise ValueError(f"{member[:40]!r} is a member already")
            self.members.add(member)
        threshold = {"all": len(members), "any": 1}.get(count) or (int(count) if _COUNT.fullmatch(count) else 0)
        if not 1 <= threshold <= len(members):
            raise ValueError(f"{count[:20]!r} is not all, any, or a number up to {len(members)}")
        self.groups[self._new(name)] = Group(threshold, tuple(members))

    def _quorum(self, words: list[str]) -> None:
        _between(words, 1, 1)
        if self.quorum is not None:
            raise ValueError("there is a quorum line already")
        if words[0] != NO_QUORUM and words[0] not in self.witnesses and words[0] not in self.groups:
            raise ValueError(f"{words[0][:40]!r} is not defined above")
        self.quorum = words[0]

    def _new(self, name: str) -> str:
        if name == NO_QUORUM or name in self.witnesses or name in self.groups:
            raise ValueError(f"the name {name[:40]!r} is taken")
        return name


def _between(words: list[str], least: int, most: int) -> None:
    if not least <= len(words) <= most:
        raise ValueError(f"{len(words)} words follow, and it takes {least} to {most}")


def _refuse(number: int, why: str) -> InputError:
    where = f" at line {number}" if number else ""
    return InputError(f"This is no witness policy{where}: {why}. See docs/how-to/witnesses.md.")
