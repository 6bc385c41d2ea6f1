"""How small sealed deltas get, and how fast: real deltas of the shipped model, by each way of storing them.

    python -m bench.compression [--changes 6] [--repeat 3] [--json FILE]

Adapts the shipped model in a throw-away home, for one subject again and again at scope `deployment`, so that each delta
but the first stands on one of the same subject. Sizes are of the body that is then
encrypted (the seal adds 74 bytes); speeds are of one core, in MB (10^6 bytes) of plaintext per second, the best of the
repetitions. Writes nothing but stdout and the JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

from mass_gov.evidence import delta_compression as dc
from mass_gov.evidence.canonical import sha256_hex

QUESTIONS = ("What is 3 + 4 * 2?", "What is (5 - 2) * 6?", "What is 9 - 3 - 2?", "What is 8 * 2 + 1?")
SUBJECT = "s-" + "c" * 32
_NOWHERE = dc.ReferenceName(1, "0" * 64, "0192f0c1-0000-7000-8000-000000000001", "0" * 64)


@dataclass(frozen=True)
class Row:
    """One way of storing: bytes over all deltas, ratio to raw, and MB/s in and out."""

    way: str
    deltas: int
    raw: int
    stored: int
    ratio: float
    pack_mb_s: float
    unpack_mb_s: float


def make_deltas(changes: int) -> list[tuple[bytes, bytes | None]]:
    """Record real changes; (weights, weights of the parent where it is the same subject's) of each."""
    from mass_gov.cli.main import run  # noqa: PLC0415 - the learner is wanted only here
    from mass_gov.config import load_settings  # noqa: PLC0415
    from mass_gov.wiring import read_ledger  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as home:
        os.environ["MASS_GOV_HOME"] = home
        for number in range(changes):
            question = QUESTIONS[number % len(QUESTIONS)]
            options = ["--seed", str(number), "--scope", "deployment", "--subject", SUBJECT, "--json"]
            with redirect_stdout(sys.stderr):
                if run(["solve", question, *options]) != 0:
                    raise SystemExit(f"change {number} was not recorded")
                _approve_newest(run)
        found = []
        with read_ledger(load_settings()) as ledger:
            for change in ledger.changes(limit=10_000, newest_first=False):
                if change.body.update.delta is None:
                    continue
                weights = ledger.artifact(change.entry, "delta.adapter_model")
                parent = ledger.change_of_state(change.body.parents.parent_state)
                older = ledger.artifact(parent.entry, "delta.adapter_model") if parent is not None else None
                found.append((weights, older))
        return found


def _approve_newest(run: Callable[[Sequence[str]], int]) -> None:
    from mass_gov.config import load_settings  # noqa: PLC0415
    from mass_gov.wiring import read_ledger  # noqa: PLC0415

    with read_ledger(load_settings()) as ledger:
        (change,) = ledger.changes(limit=1)
    if change.status == "held":
        run(["changes", "approve", change.change_id, "--reason", "a benchmark", "--json"])


def measure(deltas: Sequence[tuple[bytes, bytes | None]], repeat: int) -> list[Row]:
    """The table: every delta by the first three ways, those with a parent by all four."""
    every, with_parent = [d for d, _ in deltas], [(d, p) for d, p in deltas if p is not None]
    none: list[bytes | None] = [None] * len(every)
    rows = [
        _row("raw", every, none, (dc.CODEC_RAW,), repeat),
        _row("zstd", every, none, (dc.CODEC_ZSTD,), repeat),
        _row("byte planes + zstd", every, none, (dc.CODEC_PLANES,), repeat),
    ]
    if with_parent:
        children, parents = [d for d, _ in with_parent], [p for _, p in with_parent]
        rows.append(_row("byte planes + zstd, of those with a parent", children, parents, (dc.CODEC_PLANES,), repeat))
        rows.append(_row("against parent", children, parents, (dc.CODEC_AGAINST,), repeat))
    return rows


def _row(
    way: str, deltas: Sequence[bytes], parents: Sequence[bytes | None], codecs: tuple[int, ...], repeat: int
) -> Row:
    packed, best_in, best_out = [], float("inf"), float("inf")
    for _ in range(repeat):
        started = time.perf_counter()
        packed = [dc.encode(codecs[0], d, _basis(p)) for d, p in zip(deltas, parents, strict=True)]
        best_in = min(best_in, time.perf_counter() - started)
        started = time.perf_counter()
        for delta, parent, body in zip(deltas, parents, packed, strict=True):
            if dc.unpack(codecs[0], body, len(delta), lambda _, p=parent: p or b"") != delta:  # type: ignore[misc]
                raise SystemExit(f"{way} is not lossless")
        best_out = min(best_out, time.perf_counter() - started)
    raw, stored = sum(map(len, deltas)), sum(map(len, packed))
    return Row(way, len(deltas), raw, stored, raw / stored, raw / best_in / 1e6, raw / best_out / 1e6)


def _basis(parent: bytes | None) -> dc.Basis | None:
    if parent is None:
        return None
    name = dc.ReferenceName(1, _NOWHERE.stored, _NOWHERE.change_id, sha256_hex(parent))
    return dc.Basis(name, parent)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=6)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    rows = measure(make_deltas(options.changes), options.repeat)
    print("| way | deltas | raw bytes | stored bytes | ratio | in, MB/s | out, MB/s |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.way} | {row.deltas} | {row.raw:,} | {row.stored:,} | {row.ratio:.3f} | {row.pack_mb_s:.0f} | "
            f"{row.unpack_mb_s:.0f} |"
        )
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
