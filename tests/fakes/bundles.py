"""Bundles of a small real ledger, and the attackers who alter them: members, events, and the zip around both."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from mass_gov.evidence.bundle import read_bundle, write_bundle
from mass_gov.evidence.trust import TrustRoot
from mass_gov.flows.bundle_export import export_change
from mass_gov.flows.bundle_verify import BundleReport, verify_bundle
from mass_gov.ledger import Ledger
from tests.fakes.ledger_world import LedgerWorld


def exported(world: LedgerWorld, change_id: str, *, sealed: bool = False) -> dict[str, bytes]:
    """The members of a change's bundle."""
    return read_bundle(export_change(world.ledger, world.ledger.change(change_id), sealed=sealed).archive)


def judged(members: Mapping[str, bytes], root: TrustRoot | None) -> BundleReport:
    """Zip members as an attacker would, and verify."""
    return verify_bundle(write_bundle(members), public_key=root)


def root_of(ledger: Ledger) -> TrustRoot:
    """The log's key, from outside."""
    return TrustRoot(ledger.log_key)


def patched(data: bytes, at: int, form: str, value: int) -> bytes:
    """Overwrite one field of a zip."""
    out = bytearray(data)
    struct.pack_into(form, out, at, value)
    return bytes(out)


def place_of(data: bytes, name: str) -> int:
    """Where a member's entry of the central directory starts."""
    start = struct.unpack_from("<L", data, len(data) - 6)[0]
    return data.index(b"PK\x01\x02", start) if not name else data.index(name.encode(), start) - 46


def renamed(members: Mapping[str, bytes], change: Callable[[str], str]) -> dict[str, bytes]:
    """The same contents under other names."""
    return {change(name): content for name, content in members.items()}


def write(path: Path, members: Mapping[str, bytes]) -> Path:
    """A bundle's file."""
    path.write_bytes(write_bundle(members))
    return path
