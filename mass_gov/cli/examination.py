"""What `mass-gov doctor` looks at, one check after the other; each one answers even when the one before failed.

Rules: nothing is made or changed (a probe file in a writable home is removed at once). What is absent by choice (no
ledger yet, an auditor's install without the learner) is a note, not a problem.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mass_gov import __version__
from mass_gov.cli.environment import Environment
from mass_gov.cli.exits import NO, OUTAGE, message_of, status_of
from mass_gov.config import CONFIG, Settings
from mass_gov.errors import MassGovError
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex

if TYPE_CHECKING:
    from mass_gov.mass.learner import Learner

LOW_SPACE = 200 * 1024 * 1024
"""Bytes below which a ledger is soon full: some hundred changes of the reference model."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `status` is what it contributes to the exit status: 0, 1 or 6."""

    name: str
    verdict: Literal["ok", "note", "problem"]
    detail: str
    status: int = 0
    environment: Environment | None = None
    """What the fingerprint's check found, in full."""

    def document(self) -> dict[str, Any]:
        """The finding as JSON."""
        return {"name": self.name, "verdict": self.verdict, "detail": self.detail}


def examine(settings: Settings) -> list[Finding]:
    """Run every check."""
    checks: list[tuple[str, Callable[[Settings], Iterator[Finding]]]] = [
        ("version", _version),
        ("home", _home),
        ("disk space", _space),
        ("ledger", _ledger),
        ("serving", _serving),
        ("learner", _learner),
    ]
    return [finding for name, check in checks for finding in _run(name, check, settings)]


def _run(name: str, check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(check(settings))
    except (MassGovError, OSError) as error:
        found.append(Finding(name, "problem", message_of(error), OUTAGE if status_of(error) == OUTAGE else NO))
    return found


def _version(settings: Settings) -> Iterator[Finding]:
    yield Finding("version", "ok", f"mass-gov {__version__}")


def _home(settings: Settings) -> Iterator[Finding]:
    folder = _existing(settings.home)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        detail = f"{settings.home} cannot be written: set MASS_GOV_HOME to a folder of yours"
        yield Finding("home", "problem", detail, OUTAGE)
        return
    if folder == settings.home:
        with tempfile.TemporaryFile(dir=folder):  # says more than permission bits: full disks, read-only mounts
            yield Finding("home", "ok", f"{settings.home} is writable")
    else:
        yield Finding("home", "note", f"{settings.home} is not there yet; `mass-gov init` makes it")


def _space(settings: Settings) -> Iterator[Finding]:
    free = shutil.disk_usage(_existing(settings.home)).free
    shown = f"{free / 2**30:.1f} GiB free"
    if free < LOW_SPACE:
        yield Finding("disk space", "problem", f"only {shown}: free some space, or move MASS_GOV_HOME", OUTAGE)
    else:
        yield Finding("disk space", "ok", shown)


def _ledger(settings: Settings) -> Iterator[Finding]:
    from mass_gov.flows.initialise import policy_in_force
    from mass_gov.wiring import has_ledger, read_ledger

    if not has_ledger(settings):
        yield Finding("ledger", "note", "there is none yet; `mass-gov init` or `mass-gov solve` makes it")
        return
    with read_ledger(settings) as ledger:
        for fault in ledger.durability_faults():
            yield Finding("durability", "problem", fault, NO)
        head = ledger.latest_checkpoint()
        detail = f"{head.size} events; the head verifies, and agrees with the checkpoints outside"
        yield Finding("ledger", "ok", f"{detail}. `mass-gov verify` checks all of it")
        if ledger.keys is None:
            yield Finding("keys", "note", f"none in {settings.key_folder}: contents stay sealed, nothing can be added")
            return
        yield Finding("keys", "ok", f"{settings.key_folder}, the ledger's own")
        policy = policy_in_force(ledger)
    if policy is None:
        yield Finding("policy", "note", "none is in force yet; `mass-gov init` activates one")
    else:
        yield Finding("policy", "ok", f"{policy.label} is in force")


def _serving(settings: Settings) -> Iterator[Finding]:
    from mass_gov.wiring import has_ledger, read_ledger

    if (file := os.environ.get(CONFIG)) is not None:
        yield Finding(
            "configuration", "ok", f"{file} is read where neither an option nor the environment says otherwise"
        )
    if not has_ledger(settings):
        return
    with read_ledger(settings) as ledger:
        known = ledger.has_principals()
    if not known:
        yield Finding("serving", "note", "nobody is registered, so `mass-gov serve` would let nobody in")
        return
    where = f"{settings.serve_host} port {settings.serve_port}, {settings.serve_learners} learner(s)"
    open_to = "" if settings.serve_host in ("127.0.0.1", "::1", "localhost") else "; put TLS before it"
    yield Finding("serving", "note" if open_to else "ok", f"{where}, up to {settings.serve_queue} waiting{open_to}")


def _learner(settings: Settings) -> Iterator[Finding]:
    if find_spec("torch") is None:
        yield Finding("learner", "note", "not installed (an auditor's install); `pip install 'mass-gov[ml]'` adds it")
        return
    packages = ", ".join(f"{name} {_installed(name)}" for name in ("torch", "transformers", "peft"))
    yield Finding("learner", "ok", f"{packages}; {settings.threads} thread(s) of {os.cpu_count()} CPUs")
    yield from _run("model", _model, settings)


def _model(settings: Settings) -> Iterator[Finding]:
    from mass_gov.wiring import model_folder, open_model

    learner = open_model(settings)
    size = f"{learner.parameter_count:,} parameters"
    yield Finding("model", "ok", f"{model_folder(settings)}: {size}, digest {learner.base_digest[:16]}")
    found = environment_of(learner)
    digest, present = sha256_hex(canonical_bytes(found.fingerprint)), found.fingerprint
    where = f"{present['cpu.model']}, {present['torch.cpu_capability']}" if "cpu.model" in present else "any CPU"
    what = f"{present['numerics']} numerics, {present['platform']}, {where}"
    detail = f"{digest[:16]}: {what}. Replay is bit for bit where it is the same"
    yield Finding("fingerprint", "ok", detail, environment=found)


def environment_of(learner: Learner) -> Environment:
    """The numeric environment of this process, with this model's canaries."""
    return Environment(learner.base_digest, dict(learner.fingerprint()))


def _existing(path: Path) -> Path:
    """The path itself, or its nearest parent that exists."""
    return next((one for one in (path, *path.parents) if one.exists()), Path("/"))


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(missing)"
