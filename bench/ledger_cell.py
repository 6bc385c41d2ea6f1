"""One figure of `bench/ledger.py` in a process of its own, so that its memory and its processor time are its own.

    python bench/ledger_cell.py verify|tree|signatures|export|open FOLDER ADDRESS [--processes N]

Prints one JSON object: events, signatures, seconds (wall), cpu (seconds of this process and those that it started),
rss_mib (peak of this process) and, with `signatures`, raw_per_s: Ed25519 verifications a second of processor time, over
messages of the same lengths, measured before and after.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

from peak_memory import peak_mib

from mass_gov.evidence.dsse import pae, parse_envelope
from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.audit import verify
from mass_gov.flows.log_export import export_log
from mass_gov.ledger import Ledger, RawLedger

PROBES = 1000


def cpu() -> float:
    """Processor seconds of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def raw_rate(address: str, keys: KeyStore) -> float:
    """Bare Ed25519 verifications of the log's own envelopes, per second of processor time."""
    key, probes = keys.log_signer.public_key, []
    with RawLedger.open(address) as raw:
        for _, leaf in raw.leaves(0, PROBES):
            assert isinstance(leaf, bytes)
            envelope = parse_envelope(leaf)
            probes.append((envelope.signatures[0][1], pae("application/vnd.in-toto+json", envelope.payload)))
    started = time.process_time()
    assert all(key.verify(signature, message) for signature, message in probes)
    return len(probes) / (time.process_time() - started)


def checked(what: str, folder: Path, address: str, keys: KeyStore, processes: int) -> dict[str, Any]:
    """A verification, whole or in part."""
    only = None if what == "verify" else what
    report = verify(address, keys=keys, checkpoints=folder / "checkpoints", only=only, processes=processes)  # type: ignore[arg-type]
    assert report.ok, report.first_wrong
    return {"events": report.size, "signatures": report.counts.get("signatures", 0)}


def exported(folder: Path, address: str, keys: KeyStore) -> dict[str, Any]:
    """An export of the log."""
    del keys  # an export needs none
    with Ledger.open(address, keys=None, checkpoints=folder / "checkpoints") as ledger:
        closing = export_log(ledger, folder / "log.ndjson")
    (folder / "log.ndjson").unlink()
    return {"events": closing.count, "signatures": 0}


def opened(folder: Path, address: str, keys: KeyStore) -> dict[str, Any]:
    """An opening to write."""
    with Ledger.open(address, keys=keys, checkpoints=folder / "checkpoints") as ledger:
        return {"events": ledger.size, "signatures": 0}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("verify", "tree", "signatures", "export", "open"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("address")
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    keys = KeyStore.open(asked.folder / "keys")
    rates = [raw_rate(asked.address, keys)] if asked.what == "signatures" else []
    started, used = time.perf_counter(), cpu()
    if asked.what in ("export", "open"):
        found = (exported if asked.what == "export" else opened)(asked.folder, asked.address, keys)
    else:
        found = checked(asked.what, asked.folder, asked.address, keys, asked.processes)
    found |= {"seconds": time.perf_counter() - started, "cpu": cpu() - used}
    found["rss_mib"] = peak_mib()
    if rates:
        rates.append(raw_rate(asked.address, keys))
        found["raw_per_s"] = sum(rates) / len(rates)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
