"""Is this program right? Generated code held to tests, in processes that can reach nothing and are killed whole.

Rules
1. Nothing generated runs unless the caller passes `allow_code_execution=True`.
2. The walls are `_code_isolation`'s and `_code_calls`': no network, no file of this machine but Python's libraries, no
   other process, no environment, no privilege, limits on what can be used up and no call that goes round them. Where
   they can't be had, nothing runs: that is an outage, with what to do about it, and there is no option to go without
   (decision 0011).
3. Right needs a verdict from the process that tests, which the tested program cannot write to (`_code_process`). What
   comes from there is read as from a stranger, since the file's own tests run there: a bounded number of bytes, and
   whatever is not a verdict in its exact form is none.
4. Right, wrong, unparseable (no program could be read from the text) and timeout are kept apart; none is an exception.

It does not know how programs are read from text (`_code_answers`), nor what a model is.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

import mass_gov
from mass_gov.errors import OutageError, PermissionRefusedError, SettingsError
from mass_gov.tasks._code_answers import program_of
from mass_gov.tasks._code_values import READY, shown
from mass_gov.tasks.checking import Outcome, Verdict
from mass_gov.tasks.readers.values import CodeTests

MAX_PROGRAM_CHARS: Final = 200_000
_MOST_HEARD: Final = 8192
"""Bytes of what the processes say; a verdict has some hundred."""
_START_SECONDS: Final = 60.0  # starting Python on a busy machine; no part of a program's time
_BOOT: Final = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from mass_gov.tasks import _code_process; "
    "del sys.path[0]; _code_process.main()"
)


@dataclass(frozen=True, slots=True)
class CodeLimits:
    """What one program with its tests may use: wall seconds, address space, one file, all files, descriptors."""

    seconds: float = 10.0
    memory_bytes: int = 1024**3
    file_bytes: int = 1024**2
    scratch_bytes: int = 16 * 1024**2
    open_files: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf or min(self.memory_bytes, self.file_bytes, self.scratch_bytes) < 4096:
            raise SettingsError("Limits for generated code must be positive and finite. Give seconds above 0.")


DEFAULT_LIMITS: Final = CodeLimits()


def check_code(
    tests: CodeTests, answer: str, *, allow_code_execution: bool = False, limits: CodeLimits = DEFAULT_LIMITS
) -> Verdict:
    """Run the program that `answer` (a model's whole text) stands for against its tests.

    Raises: `PermissionRefusedError` without permission, `OutageError` where the program cannot be isolated.
    """
    require_permission(allow_code_execution)
    program = program_of(tests, answer)
    if program is None or len(program) > MAX_PROGRAM_CHARS:
        return Verdict(Outcome.UNPARSEABLE, "no program found" if program is None else "the program is too long")
    job = {"program": program, "helpers": tests.prompt, "test": tests.test, "entry_point": tests.entry_point}
    return _run(job, limits)


def require_permission(allow_code_execution: bool) -> None:
    """Raise `PermissionRefusedError` unless running generated code was asked for."""
    if not allow_code_execution:
        raise PermissionRefusedError(
            "These tasks are checked by running code that the model wrote, which was not allowed. "
            "Pass --allow-code-execution to run it in an isolated process."
        )


def require_isolation() -> None:
    """Raise `OutageError` unless programs can be isolated here; found out by running one that does nothing."""
    tests = CodeTests(
        "def nothing():\n    pass\n", "nothing", "def check(candidate):\n    assert candidate() is None\n"
    )
    verdict = check_code(tests, tests.prompt, allow_code_execution=True)
    if verdict.outcome is not Outcome.RIGHT:
        raise OutageError(f"An isolated program that does nothing failed ({verdict.detail}). Run it again when idle.")


def _run(job: dict[str, str], limits: CodeLimits) -> Verdict:
    if sys.platform != "linux":
        raise OutageError("Generated code is isolated with Linux namespaces. Run this evaluation on Linux.")
    nonce = secrets.token_hex(16)
    request = json.dumps({**job, "nonce": nonce, "seconds": limits.seconds}).encode("ascii")
    with tempfile.TemporaryDirectory(prefix="mass-gov-code-") as root:
        heard = _exchange(root, request, limits)
    if heard is None:
        return Verdict(Outcome.TIMEOUT, f"nothing heard within {limits.seconds + _START_SECONDS:g} s")
    first, _, rest = heard.partition(b"\n")
    if first != READY and (why := _fields(first).get("isolation")) is not None:  # nothing of the file has run yet
        raise OutageError(
            f"Generated code cannot be isolated here ({why}), so none was run. It needs Linux 5.12, seccomp filters "
            "and as root CAP_SYS_ADMIN, as another user unprivileged user namespaces (see docs/decisions/0011)."
        )
    return _verdict(rest.partition(b"\n")[0], nonce)


def _verdict(line: bytes, nonce: str) -> Verdict:
    """What the judge says; whatever else stands there, the file's own tests wrote it."""
    said = _fields(line)
    if (
        said.keys() != {"nonce", "outcome", "detail"}
        or not secrets.compare_digest(said["nonce"].encode(errors="replace"), nonce.encode())
        or said["outcome"] not in set(Outcome)
    ):
        return Verdict(Outcome.WRONG, "the tests ended without a verdict")
    return Verdict(Outcome(said["outcome"]), shown(said["detail"]))


def _fields(line: bytes) -> dict[str, str]:
    """A JSON object of text; {} for anything else."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        return {}
    return found


def _exchange(root: str, request: bytes, limits: CodeLimits) -> bytes | None:
    """Start the processes with the job before them; the first two lines that they say, None if they go on and on."""
    with tempfile.TemporaryFile(prefix="mass-gov-code-") as job:  # a file: writing it waits for nobody
        job.write(request)
        job.seek(0)
        process = _start(root, job, limits)
    try:
        return _heard(process, limits.seconds + _START_SECONDS)
    finally:
        _kill(process)


def _heard(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    if process.stdout is None:
        raise AssertionError("it was started with a pipe")
    descriptor, deadline, heard = process.stdout.fileno(), time.monotonic() + seconds, b""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    while heard.count(b"\n") < 2 and len(heard) < _MOST_HEARD:
        left = deadline - time.monotonic()
        if left <= 0 or not waiting.poll(1000 * left):
            return None
        if not (said := os.read(descriptor, _MOST_HEARD)):
            break
        heard += said
    return heard[:_MOST_HEARD]


def _start(root: str, job: IO[bytes], limits: CodeLimits) -> subprocess.Popen[bytes]:
    settings = {**asdict(limits), "cpu_seconds": math.ceil(limits.seconds) + 1}
    package = str(Path(mass_gov.__file__).resolve().parent.parent)
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", _BOOT, package, str(os.getpid()), root, json.dumps(settings)],
            stdin=job,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
        )
    except OSError as error:
        raise OutageError(
            f"The process for generated code cannot be started: {error}. Check the limit on processes and memory."
        ) from error


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End launcher and judge, with the judge its whole process namespace, and reap; a stray pipe is closed."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        with contextlib.suppress(OSError):
            process.stdout.close()
