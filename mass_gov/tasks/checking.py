"""Is this answer right? Free-form answers, judged by math-verify in a process that can be killed.

Rules
1. Right, wrong, unparseable and timed-out are four different outcomes, and none of them is an exception.
2. The worker is a separate process group without the parent's environment. A question that takes longer than
   `timeout_seconds` costs the worker its life (SIGKILL) and is answered `timeout`; the next one gets a new worker.
3. A worker that died between two questions is replaced unnoticed. One that dies *during* a question is replaced and
   asked once more; if it dies again, the question is `unparseable` and the detail says what happened.
4. A worker that cannot be started is an outage; a missing math-verify is a missing extra. Neither is an outcome.

The shortcut: two plain integers (`1,319` and `1319`; ASCII digits, an optional sign, well-placed commas) are
compared as integers without the worker. That is sound in both directions, since such a text has one reading only.

It does not know how answers are read and compared (`_checker_process`), nor what a task is.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self, cast

import mass_gov
from mass_gov.errors import MissingExtraError, OutageError, SettingsError, TaskError
from mass_gov.tasks._answers import final_part

_START_SECONDS: Final = 120.0  # importing sympy on a busy machine; not part of any question's time
_CHECKS_PER_WORKER: Final = 5_000  # parser caches grow; a fresh worker now and then keeps memory flat
_MAX_REQUEST_CHARS: Final = 10_000  # six bytes each fit a pipe, so that sending can never block on a stopped worker
_INTEGER: Final = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,400})")


class Outcome(StrEnum):
    """What checking an answer found. Only `RIGHT` is right."""

    RIGHT = "right"
    WRONG = "wrong"
    UNPARSEABLE = "unparseable"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome and, for a person, how it came about ("math-verify", "words", "integers", why not)."""

    outcome: Outcome
    detail: str


class AnswerChecker:
    """Checks answers in one persistent worker, started when first needed; usable from several threads.

    Args: `timeout_seconds` of wall clock per answer; `shortcut` compares plain integers without the worker.
    Raises: `SettingsError` for a timeout that is not positive and finite.

        with AnswerChecker() as checker:
            checker.check(r"\\frac{1}{2}", "0.5")  # Outcome.RIGHT
    """

    def __init__(self, *, timeout_seconds: float = 5.0, shortcut: bool = True) -> None:
        if not 0 < timeout_seconds < float("inf"):
            raise SettingsError(
                f"A checking timeout of {timeout_seconds} s is not usable. Give a number of seconds above 0."
            )
        self._timeout = timeout_seconds
        self._shortcut = shortcut
        self._lock = threading.Lock()
        self._worker: _Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End and reap the worker. The checker stays usable: the next check starts another one."""
        with self._lock:
            self._discard()

    @property
    def worker_pid(self) -> int | None:
        """Process id of the running worker, None before the first question and after `close`."""
        worker = self._worker  # one read: another thread may be replacing it
        return worker.pid if worker else None

    def check(self, gold: str, answer: str) -> Outcome:
        """Return whether `answer` equals `gold`. See `explain` for the errors."""
        return self.explain(gold, answer).outcome

    def check_many(self, pairs: Iterable[tuple[str, str]]) -> list[Outcome]:
        """Return the outcome of each (gold, answer), in order; one that times out does not touch the others."""
        return [self.check(gold, answer) for gold, answer in pairs]

    def explain(self, gold: str, answer: str) -> Verdict:
        """Return the outcome with its reason.

        Raises: `TaskError` if the gold answer is empty, `MissingExtraError` without math-verify, `OutageError` if no
        worker can be started.
        """
        if not gold.strip():
            raise TaskError("The gold answer is empty. Give the task a gold answer, or do not check it.")
        if self._shortcut and (quick := _compare_integers(gold, answer)) is not None:
            return quick
        if len(gold) + len(answer) > _MAX_REQUEST_CHARS:
            answer = final_part(answer)  # the working before a marked answer may be long
        if len(gold) + len(answer) > _MAX_REQUEST_CHARS:
            return Verdict(Outcome.UNPARSEABLE, f"longer than {_MAX_REQUEST_CHARS} characters")
        with self._lock:
            return self._ask(gold, answer)

    def _ask(self, gold: str, answer: str) -> Verdict:
        """Ask the worker, replacing one that dies (rule 3). The caller holds the lock."""
        died = ""
        for _ in range(2):
            worker = self._ready_worker()
            try:
                reply = worker.ask(gold, answer, self._timeout)
            except TimeoutError:
                self._discard()
                return Verdict(Outcome.TIMEOUT, f"no verdict within {self._timeout:g} s")
            except _WorkerDiedError as error:
                self._discard()
                died = str(error)
                continue
            if "last" in reply or worker.asked >= _CHECKS_PER_WORKER:
                self._discard()
            return Verdict(Outcome(reply["outcome"]), reply["detail"])
        return Verdict(Outcome.UNPARSEABLE, f"the checking process died twice on this answer: {died}")

    def _ready_worker(self) -> _Worker:
        if self._worker and not self._worker.alive:
            self._discard()
        if self._worker is None:
            self._worker = _Worker()
        return self._worker

    def _discard(self) -> None:
        worker, self._worker = self._worker, None
        if worker:
            worker.kill()


def _compare_integers(gold: str, answer: str) -> Verdict | None:
    texts = [gold.strip(), answer.strip()]
    if not all(_INTEGER.fullmatch(text) for text in texts):
        return None
    left, right = (int(text.replace(",", "")) for text in texts)
    return Verdict(Outcome.RIGHT if left == right else Outcome.WRONG, "integers")


class _WorkerDiedError(Exception):
    """The worker ended without a reply. Stays inside this module."""


class _Worker:
    """One worker process and its two pipes. Not thread-safe; `AnswerChecker` holds the lock."""

    def __init__(self) -> None:
        self.asked = 0
        self._buffer = b""
        self._process = _spawn()
        # At interpreter exit and on garbage collection, too: no worker outlives the checker that started it.
        self.kill = weakref.finalize(self, _kill_group, self._process)
        try:
            hello = self._read_line(time.monotonic() + _START_SECONDS)
        except (TimeoutError, _WorkerDiedError) as error:
            self.kill()
            raise OutageError(
                f"The answer-checking process did not start ({error}). Run `mass-gov doctor`, and check that "
                "processes may be started and that 2 GB of memory are free."
            ) from error
        if "missing" in hello:
            self.kill()
            raise MissingExtraError(
                f"Checking answers needs the package {hello['missing']}, which is not installed. "
                "Install the learner's side: pip install 'mass-gov[ml]'."
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, gold: str, answer: str, seconds: float) -> dict[str, str]:
        """Send one question and return its reply. Raises `TimeoutError`, `_WorkerDiedError`."""
        self.asked += 1
        deadline = time.monotonic() + seconds
        # ASCII JSON: lone surrogates travel as escapes, and no text can contain the line end that frames it.
        line = json.dumps({"gold": gold, "answer": answer, "seconds": seconds}) + "\n"
        try:
            pipe = cast(IO[bytes], self._process.stdin)
            pipe.write(line.encode("ascii"))
            pipe.flush()
        except OSError as error:
            raise _WorkerDiedError(self._how_it_died()) from error
        try:
            return self._read_line(deadline)
        except _WorkerDiedError as error:
            if self._process.returncode == -signal.SIGXCPU:
                raise TimeoutError("CPU budget spent") from error
            raise

    def _read_line(self, deadline: float) -> dict[str, str]:
        pipe = cast(IO[bytes], self._process.stdout)
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError("no reply in time")
                chunk = os.read(pipe.fileno(), 65_536)
                if not chunk:
                    raise _WorkerDiedError(self._how_it_died())
                self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        return cast(dict[str, str], json.loads(line))

    def _how_it_died(self) -> str:
        """Wait for a process whose pipe is closed, and say how it ended."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        return f"signal {-code}" if code < 0 else f"exit status {code}"


def _spawn() -> subprocess.Popen[bytes]:
    """Start a worker: own process group, neutral folder, an environment that holds nothing but what Python needs."""
    environment = {
        "PYTHONPATH": str(Path(mass_gov.__file__).resolve().parent.parent),  # also when run from a checkout
        "PYTHONHASHSEED": "0",  # sympy orders some sets by hash: the same question gets the same verdict
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
    }
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "mass_gov.tasks._checker_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise OutageError(
            f"The answer-checking process cannot be started: {error}. Check the limit on processes and memory."
        ) from error


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a worker and everything that it may have started, and reap it."""
    if process.poll() is None:  # not reaped yet, so its id cannot have been reused
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            try:
                pipe.close()
            except BrokenPipeError:  # an unsent question in the buffer; its worker is dead
                continue
