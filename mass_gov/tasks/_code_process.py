"""The process that runs generated code, and the one that judges it. Started by `code_execution`; trusts nothing.

    checker (mass-gov) -> launcher -> judge -> suspect
                          namespaces  tests    the generated program

Rules
1. The suspect never holds the tests, the nonce or the verdict's pipe: it is forked before the job is read, and gets
   its program, then arguments, one call at a time. What it returns comes back as plain values (`_code_values`).
   So nothing that it prints, patches, raises or exits with can make a verdict.
2. The judge writes the verdict, with the job's nonce, after `check` has returned in its own process, and only if the
   suspect is still answering then.
3. The judge is process 1 of its namespace: when it ends, for whatever reason, the kernel kills every other process
   there, whatever session or group it moved to.
4. The judge runs the file's tests. Those are inside the same walls, since a benchmark file is not trusted either. What
   they could write into the verdict's pipe is a verdict at most: that the walls stand is said before, by `READY`.

It does not know who asked. Standard library only: it runs under `python -I -S`.
"""

from __future__ import annotations

import builtins
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final, NoReturn

from mass_gov.tasks import _code_isolation as isolation
from mass_gov.tasks import _code_values as values
from mass_gov.tasks._code_calls import forbid_calls

MAX_REPLY_BYTES: Final = 4 * 1024 * 1024
_JUDGE_EXTRA_SECONDS: Final = 10


class SuspectGoneError(Exception):
    """The tested process ended, or sent what is no reply. Stays inside this module."""


def main() -> None:
    """Be the launcher: enter the namespaces, start the judge inside them, wait for it."""
    parent, root = int(sys.argv[1]), Path(sys.argv[2])
    isolation.die_with_parent(parent)
    verdicts = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)  # what a test prints is no verdict
    settings: dict[str, int] = json.loads(sys.argv[3])
    try:
        isolation.enter_namespaces()
        child = os.fork()
    except OSError as error:
        _report(verdicts, {"isolation": str(error)})
        return
    if child == 0:
        _judge(verdicts, null, root, settings)
    os.close(verdicts)
    os.waitpid(child, 0)


def _report(verdicts: int, message: dict[str, str]) -> None:
    os.write(verdicts, json.dumps(message).encode("ascii") + b"\n")


# ---- the judge ------------------------------------------------------------------------------------------------


def _judge(verdicts: int, null: int, root: Path, settings: dict[str, int]) -> NoReturn:
    try:
        isolation.enter_new_root(root, settings["scratch_bytes"])
        ask, answer = os.pipe(), os.pipe()
        if os.fork() == 0:
            _suspect(ask[0], answer[1], null, settings)
        os.close(ask[0])
        os.close(answer[1])
        _confine(settings, _JUDGE_EXTRA_SECONDS)
        isolation.die_with_parent(os.getppid())  # changing the user has cleared it
        suspect = _Suspect(ask[1], answer[0])
    except OSError as error:
        _report(verdicts, {"isolation": str(error)})
        os._exit(1)
    os.write(verdicts, values.READY + b"\n")
    job = json.loads(sys.stdin.buffer.read())
    os.dup2(null, 0)  # it is a file of the machine's
    _set_alarm(verdicts, job["nonce"], float(job["seconds"]))
    outcome, detail = _try(job, suspect)
    signal.setitimer(signal.ITIMER_REAL, 0)
    _report(verdicts, {"nonce": job["nonce"], "outcome": outcome, "detail": detail})
    os._exit(0)


def _confine(settings: dict[str, int], extra_seconds: int) -> None:
    isolation.drop_privileges()
    isolation.set_limits(
        cpu_seconds=settings["cpu_seconds"] + extra_seconds,
        memory_bytes=settings["memory_bytes"],
        file_bytes=settings["file_bytes"],
        open_files=settings["open_files"],
    )
    forbid_calls()


def _set_alarm(verdicts: int, nonce: str, seconds: float) -> None:
    """Report a timeout when the time is up, and end the namespace. An alarm that comes early was sent by a suspect."""
    deadline = time.monotonic() + seconds

    def ring(_signal: int, _frame: object) -> None:
        if time.monotonic() >= deadline - 0.01:
            _report(verdicts, {"nonce": nonce, "outcome": "timeout", "detail": f"no verdict within {seconds:g} s"})
            os._exit(0)

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)


def _try(job: dict[str, str], suspect: _Suspect) -> tuple[str, str]:
    """Return outcome and detail of the program against its tests."""
    try:
        hello = suspect.ask([job["program"], job["entry_point"]])
    except SuspectGoneError as error:
        return "wrong", values.shown(f"the program ended before its first test ({error})")
    if hello != ["ready"]:
        return ("unparseable" if hello[:1] == ["unparseable"] else "wrong"), values.shown(str(hello[-1]))
    try:
        space: dict[str, Any] = {"__name__": "tests"}
        exec(job["helpers"], space)  # noqa: S102  (rule 4)
        space[job["entry_point"]] = suspect
        exec(job["test"], space)  # noqa: S102
        space["check"](suspect)
    except BaseException as error:  # a test may raise anything, SystemExit included
        return "wrong", values.shown(f"{type(error).__name__}: {error}")
    return ("wrong", values.shown(f"the program {suspect.gone}")) if suspect.gone else ("right", "all tests passed")


class _Suspect:
    """The tested function as the judge sees it: a call is a question to another process."""

    def __init__(self, ask: int, answer: int) -> None:
        self.gone = ""
        self._ask = ask
        self._answer = answer
        self._buffer = b""

    def __call__(self, *arguments: object, **named: object) -> object:
        reply = self.ask([list(arguments), dict(named)])
        if len(reply) == 3 and reply[0] == "raised":
            raise _exception(str(reply[1]), str(reply[2]))
        if len(reply) != 2 or reply[0] != "returned":
            raise self._lost("sent no reply")
        return reply[1]

    def ask(self, question: list[Any]) -> list[Any]:
        """Send one value, wait for one. Raises `SuspectGoneError`, again for every later question."""
        if self.gone:
            raise SuspectGoneError(self.gone)
        try:
            _write_all(self._ask, values.dumps(question))
            reply = values.loads(self._line())
        except (OSError, ValueError) as error:
            raise self._lost("ended" if isinstance(error, OSError) else "sent what is no value") from None
        if not isinstance(reply, list):
            raise self._lost("sent no reply")
        return reply

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            chunk = os.read(self._answer, 65_536)
            if not chunk or len(self._buffer) > MAX_REPLY_BYTES:
                raise self._lost("returned too much" if chunk else "ended")
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _lost(self, how: str) -> SuspectGoneError:
        self.gone = self.gone or how
        return SuspectGoneError(self.gone)


def _exception(name: str, text: str) -> Exception:
    """The built-in exception of this name, since tests may expect one; RuntimeError for any other."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(text)
        except TypeError:
            return RuntimeError(f"{name}: {text}")
    return RuntimeError(f"{name}: {text}")


# ---- the suspect ----------------------------------------------------------------------------------------------


def _suspect(ask: int, answer: int, null: int, settings: dict[str, int]) -> NoReturn:
    try:
        os.setsid()
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        questions, replies = 3, 4
        ask, answer = os.dup2(ask, 60), os.dup2(answer, 61)
        os.dup2(ask, questions)
        os.dup2(answer, replies)
        os.closerange(5, 4096)
        _confine(settings, 0)
        _serve(questions, replies)
    finally:
        os._exit(0)


def _serve(questions: int, replies: int) -> None:
    """Run the program, then answer calls until the questions end."""
    lines = os.fdopen(questions, "rb", closefd=False)
    program, entry_point = values.loads(lines.readline())
    try:
        code = compile(program, "program.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        _write_all(replies, values.dumps(["unparseable", f"{type(error).__name__}: {error}"]))
        return
    space: dict[str, Any] = {"__name__": "program"}
    try:
        exec(code, space)  # noqa: S102  (what this process is for)
    except BaseException as error:  # sys.exit() is a failure like any other
        _write_all(replies, values.dumps(["failed", f"{type(error).__name__}: {error}"]))
        return
    if not callable(space.get(entry_point)):
        _write_all(replies, values.dumps(["unparseable", f"the program defines no function {entry_point}"]))
        return
    _write_all(replies, values.dumps(["ready"]))
    for line in lines:
        _write_all(replies, values.dumps(_answer(space[entry_point], line)))


def _answer(function: Any, line: bytes) -> list[Any]:
    try:
        arguments, named = values.loads(line)
        return ["returned", function(*arguments, **named)]
    except Exception as error:
        return ["raised", type(error).__name__, str(error)[: values.DETAIL_CHARS]]


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
