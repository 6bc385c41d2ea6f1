"""Is this program right? Generated code held to tests, in processes that can reach nothing and are killed whole.

Rules
1. Nothing generated runs unless the caller passes `allow_code_execution=True`.
2. The walls are `_code_isolation`'s: no network, no file of this machine but Python's libraries, no other process, no
   environment, no privilege, limits on everything that can be used up. Where they can't be had, nothing runs: that is
   an outage, with what to do about it, and there is no option to go without (decision 0011).
3. Right needs a verdict from the process that tests, which the tested program cannot write to (`_code_process`).
4. Right, wrong, unparseable (no program could be read from the text) and timeout are kept apart; none is an exception.

It does not know how programs are read from text (`_code_answers`), nor what a model is.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import mass_gov
from mass_gov.errors import OutageError, PermissionRefusedError, SettingsError
from mass_gov.tasks._code_answers import program_of
from mass_gov.tasks.checking import Outcome, Verdict
from mass_gov.tasks.readers.values import CodeTests

MAX_PROGRAM_CHARS: Final = 200_000
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
        reply = _exchange(root, request, limits)
    if reply is None:
        return Verdict(Outcome.TIMEOUT, f"nothing heard within {limits.seconds + _START_SECONDS:g} s")
    if "isolation" in reply:
        raise OutageError(
            f"Generated code cannot be isolated here ({reply['isolation']}), so none was run. It needs Linux 5.12 and, "
            "as root, CAP_SYS_ADMIN; as another user, unprivileged user namespaces (see docs/decisions/0011)."
        )
    if not secrets.compare_digest(reply.get("nonce", ""), nonce):
        return Verdict(Outcome.WRONG, "the tests ended without a verdict")
    return Verdict(Outcome(reply["outcome"]), reply["detail"])


def _exchange(root: str, request: bytes, limits: CodeLimits) -> dict[str, str] | None:
    """Start the processes, send the job, return the verdict; {} if they ended without one, None if they did not."""
    process = _start(root, limits)
    try:
        output, _ = process.communicate(request, timeout=limits.seconds + _START_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _kill(process)
    line = output.partition(b"\n")[0]
    return {str(key): str(value) for key, value in json.loads(line).items()} if line else {}


def _start(root: str, limits: CodeLimits) -> subprocess.Popen[bytes]:
    settings = {**asdict(limits), "cpu_seconds": math.ceil(limits.seconds) + 1}
    package = str(Path(mass_gov.__file__).resolve().parent.parent)
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", _BOOT, package, str(os.getpid()), root, json.dumps(settings)],
            stdin=subprocess.PIPE,
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
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()
