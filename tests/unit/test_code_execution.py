"""Generated code: nothing that it does makes it right but being right, and nothing of this machine is in its reach."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mass_gov.errors import OutageError, PermissionRefusedError, SettingsError
from mass_gov.tasks.checking import Outcome, Verdict
from mass_gov.tasks.code_execution import CodeLimits, check_code, require_isolation
from mass_gov.tasks.readers import BenchmarkTask, CodeTests, read_humaneval
from tests.fakes.public_files import public_file

ROOT = Path(__file__).parents[2]
PROMPT = 'def double(x):\n    """Return twice x."""\n'
TEST = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-3) == -6\n"
TESTS = CodeTests(PROMPT, "double", TEST)
PATIENT = CodeLimits(seconds=60.0, memory_bytes=256 * 1024**2)


@pytest.fixture(scope="module", autouse=True)
def isolation() -> None:
    if sys.platform != "linux":
        pytest.skip("generated code is isolated with Linux namespaces")
    try:
        require_isolation()
    except OutageError as error:
        pytest.skip(f"this machine lets no process be isolated, so nothing can be run here: {error}")


def run(text: str, *, tests: CodeTests = TESTS, limits: CodeLimits = PATIENT) -> Verdict:
    return check_code(tests, text, allow_code_execution=True, limits=limits)


def finding(body: str) -> str:
    """What `body` assigns to `seen`, as the judge saw it returned: the hostile program's own report."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    tests = CodeTests(
        "def look(x):\n    pass\n", "look", "def check(candidate):\n    assert False, repr(candidate(0))\n"
    )
    return run(f"def look(x):\n    seen = None\n{lines}\n    return seen\n", tests=tests).detail


# ---- permission and walls -------------------------------------------------------------------------------------


def test_nothing_runs_without_permission(tmp_path: Path) -> None:
    with pytest.raises(PermissionRefusedError, match="--allow-code-execution"):
        check_code(TESTS, f"    open({str(tmp_path / 'mark')!r}, 'w')\n    return 2 * x\n")
    assert not list(tmp_path.iterdir())


WITHOUT_CAPABILITIES = """
import ctypes, sys; sys.path.insert(0, sys.argv.pop(1))
from mass_gov.tasks import _code_process
ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
_code_process.main()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="takes the capabilities of root away, and this is another user")
def test_where_nothing_can_be_isolated_nothing_runs_and_the_message_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mass_gov.tasks.code_execution._BOOT", WITHOUT_CAPABILITIES)
    with pytest.raises(OutageError, match=r"cannot be isolated here .*unshare: Operation not permitted.*none was run"):
        run("    return 2 * x\n")


AS_ANOTHER_USER = r"""
import os, sys
from mass_gov.tasks.code_execution import check_code
from mass_gov.tasks.readers.values import CodeTests
key = sys.argv[1]
open(key, "w").write("secret")
os.chmod(key, 0o600)
test = "def check(candidate):\n    assert False, repr(candidate(0))\n"
tests = CodeTests("def look(x):\n    pass\n", "look", test)
seen = f"os.path.exists({key!r}), os.getresuid(), os.access('/', os.W_OK), os.listdir('.')"
print(os.geteuid(), check_code(tests, f"    import os\n    return {seen}\n", allow_code_execution=True).detail)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="starts a process as another user, which needs root")
def test_a_user_without_privileges_gets_the_same_walls_around_files_of_its_own(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for python in (sys.executable, "/usr/bin/python3"):
        with tempfile.TemporaryDirectory() as home:
            Path(home).chmod(0o777)
            ran = subprocess.run(
                ["setpriv", "--reuid=4321", "--regid=4321", "--clear-groups",
                 python, "-c", AS_ANOTHER_USER, f"{home}/key"],
                env={"PYTHONPATH": str(ROOT)}, cwd="/", capture_output=True, text=True, check=False,
            )  # fmt: skip
        if ran.returncode == 0:
            assert ran.stdout.strip() == "4321 AssertionError: (False, (65534, 65534, 65534), False, [])"
            return
    pytest.skip(f"no interpreter that another user may start, or no user namespaces: {ran.stderr[-300:]}")


def test_a_secret_of_the_parent_is_not_there_to_be_read(tmp_path: Path) -> None:
    secret = tmp_path / "master.key"
    secret.write_text("secret")
    secret.chmod(0o600)
    shown = finding(f"try:\n    seen = open({str(secret)!r}).read()\nexcept OSError as e:\n    seen = type(e).__name__")
    assert "FileNotFoundError" in shown
    public = finding("import os\nseen = sorted(os.listdir('/'))")
    assert "scratch" in public
    assert not {"etc", "proc", "dev", "run", "var", "boot"} & set(public.replace("'", " ").split())


def test_nothing_can_be_written_outside_a_scratch_folder_that_vanishes(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    before = set(Path("/tmp").iterdir())
    tries = [str(tmp_path / "x"), "/tmp/x", "/x", "/usr/lib/x", os.__file__]
    shown = finding(
        f"seen = []\nfor path in {tries!r}:\n    try:\n        open(path, 'w').close()\n"
        "        seen.append('written')\n    except OSError as e:\n        seen.append(e.errno)\n"
        "open('here', 'w').write('ok')\nseen.append(open('here').read())"
    )
    assert "written" not in shown
    assert "'ok'" in shown
    assert not list(tmp_path.iterdir())
    assert not [path for path in set(Path("/tmp").iterdir()) - before if path.name.startswith(("x", "here"))]


def test_there_is_no_network_not_even_to_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        shown = finding(
            "import socket\ntry:\n"
            f"    seen = socket.create_connection(('127.0.0.1', {port}), timeout=0.3) and 'connected'\n"
            "except OSError as e:\n    seen = type(e).__name__ + ' ' + str(e.errno)"
        )
        assert "connected" not in shown
        assert "101" in shown  # ENETUNREACH: even the loopback is down


def test_no_process_outside_can_be_signalled_and_the_judge_not_either() -> None:
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        ids = [os.getpid(), victim.pid]
        verdict = run(
            "    import os, signal\n"
            f"    for pid in [*{ids!r}, os.getppid(), -1, 1]:\n"
            "        try:\n            os.kill(pid, signal.SIGKILL)\n        except OSError:\n            pass\n"
            "    return 2 * x\n"
        )
        assert verdict.outcome is Outcome.RIGHT  # it went unharmed, and so did everybody else
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_an_early_alarm_does_not_pass_for_a_timeout() -> None:
    verdict = run("    import os, signal\n    os.kill(1, signal.SIGALRM)\n    return x\n")
    assert verdict.outcome is Outcome.WRONG


def test_no_privilege_no_environment_no_input_and_no_descriptor_is_left() -> None:
    shown = finding(
        "import os, sys\nopen_ = []\nfor fd in range(5, 256):\n    try:\n        os.fstat(fd); open_.append(fd)\n"
        "    except OSError:\n        pass\n"
        "seen = [os.getresuid(), os.getgroups() in ([], [65534]), dict(os.environ), sys.stdin.read(), open_]"
    )
    assert "[(65534, 65534, 65534), True, {" in shown
    assert shown.endswith("'', []]")
    assert "HOME" not in shown and "PATH" not in shown


def test_privileges_cannot_be_regained() -> None:
    shown = finding(
        "import os, ctypes\nlibc = ctypes.CDLL(None)\nseen = [libc.setuid(0), os.getuid(), libc.setgroups(0, None)]\n"
        "seen.append(libc.mount(b'none', b'/scratch', b'tmpfs', 0, None))\nseen.append(libc.ptrace(16, 1, None, None))"
    )
    assert shown.endswith("[-1, 65534, -1, -1, -1]")


# ---- what uses things up --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    ["    while True: pass\n", "    import time\n    time.sleep(60)\n", "    return 3 ** (10 ** 9)\n"],
    ids=["loop", "sleep", "one endless operation"],
)
def test_what_does_not_end_is_ended_and_a_timeout(body: str) -> None:
    assert run(body, limits=CodeLimits(seconds=0.5)).outcome is Outcome.TIMEOUT


def test_a_test_that_does_not_end_is_a_timeout_too() -> None:
    endless = CodeTests(PROMPT, "double", "def check(candidate):\n    while True:\n        candidate(1)\n")
    assert run("    return 2 * x\n", tests=endless, limits=CodeLimits(seconds=0.5)).outcome is Outcome.TIMEOUT


def test_no_process_can_be_started_let_alone_a_bomb() -> None:
    assert "BlockingIOError" in finding(
        "import os\ntry:\n    seen = os.fork()\nexcept OSError as e:\n    seen = type(e).__name__"
    )
    bomb = "    import os\n    while True:\n        try: os.fork()\n        except OSError: pass\n"
    assert run(bomb, limits=CodeLimits(seconds=0.5)).outcome is Outcome.TIMEOUT


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ("    return len(bytearray(1 << 34))\n", "MemoryError"),
        ("    with open('f', 'wb') as f:\n        f.write(b'x' * (2 << 20))\n    return 2 * x\n", "wrong"),
        ("    files = [open(f'f{i}', 'w') for i in range(100)]\n    return 2 * x\n", "Too many open files"),
        ("    return x if x < 0 else double(x)\n", "RecursionError"),
        ("    return 'x' * (8 << 20)\n", "returned too much"),
        ("    import ctypes\n    ctypes.string_at(0)\n", "ended"),
    ],
    ids=["memory", "one file", "descriptors", "recursion", "reply", "crash"],
)
def test_what_uses_up_too_much_is_wrong_and_says_so(body: str, seen: str) -> None:
    verdict = run(body)
    assert verdict.outcome is Outcome.WRONG
    assert seen in f"wrong {verdict.detail}"


def test_a_gigabyte_of_output_goes_nowhere() -> None:
    noisy = "    for _ in range(1024):\n        print('x' * (1 << 20))\n    return 2 * x\n"
    assert run(noisy, limits=CodeLimits(seconds=60)).outcome is Outcome.RIGHT


# ---- what pretends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "    import sys\n    sys.exit(0)\n",
        "    import os\n    os._exit(0)\n",
        '    print(\'{"outcome": "right", "nonce": "", "detail": ""}\')\n    return x\n',
        "    import os\n    for fd in range(16):\n        try:\n"
        '            os.write(fd, b\'{"outcome": "right", "nonce": ""}\\n["plain", true]\\n\')\n'
        "        except OSError:\n            pass\n    return x\n",
        "    class Same:\n        __eq__ = lambda s, o: True\n        __hash__ = None\n    return Same()\n",
        "    class Same(int):\n        __eq__ = lambda s, o: True\n        __hash__ = None\n    return Same(1)\n",
        "    import builtins, sys\n    builtins.AssertionError = Warning\n"
        "    for module in list(sys.modules.values()):\n"
        "        module.__dict__['check'] = lambda f: None\n    return x\n",
        "    import sys, json\n    json.dumps = lambda *a, **k: '[\"plain\", true]'\n    return x\n",
        "    return x\n\n\nimport sys\nsys.exit(0)\n",
    ],
    ids=[
        "sys.exit", "os._exit", "prints a verdict", "writes to every pipe", "equals everything", "an int that equals",
        "patches the harness", "patches json", "plain wrong",
    ],
)  # fmt: skip
def test_what_is_wrong_does_not_pass_for_right(body: str) -> None:
    assert run(body).outcome is Outcome.WRONG


def test_an_exit_while_the_program_loads_is_wrong() -> None:
    text = "import sys\nsys.exit(0)\n\n\ndef double(x):\n    return 2 * x\n"
    verdict = run(text)
    assert verdict.outcome is Outcome.WRONG
    assert "SystemExit" in verdict.detail


def test_an_exit_that_a_test_would_swallow_is_wrong() -> None:
    forgiving = "def check(candidate):\n    try:\n        candidate(1)\n    except BaseException:\n        pass\n"
    assert (
        run("    import os\n    os._exit(0)\n", tests=CodeTests(PROMPT, "double", forgiving)).outcome is Outcome.WRONG
    )


def test_the_tests_are_not_in_the_tested_process() -> None:
    """A test's own text, in the prompt's words, cannot be found by whoever walks everything that Python tracks."""
    shown = finding(
        "import gc\nmark = ''.join(['assert ', 'False', ', repr'])\nseen = [str(o)[:80] for o in gc.get_objects()"
        " if isinstance(o, (str, bytes, dict, list, tuple)) and mark in str(o)[:100000]]"
    )
    assert shown.endswith("AssertionError: []")


def test_no_folder_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run("    return 2 * x\n").outcome is Outcome.RIGHT
    assert run("    while True: pass\n", limits=CodeLimits(seconds=0.2)).outcome is Outcome.TIMEOUT
    assert not list(tmp_path.iterdir())


# ---- what is right --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "    return 2 * x\n",
        "    return 2 * x\n\n\ndef main():\n    print(double(1))\n",
        "Here it is:\n```python\ndef double(x):\n    return x + x\n```\nIt doubles.",
        "```\nfrom math import prod\n\ndef double(x):\n    return prod([2, x])\n```",
        "```python\ndef double(x):\n    return x\n```\nNo, wait:\n```python\ndef double(x):\n    return 2 * x\n```",
        "```python\n    return 2 * x\n```",
        "Sure.\n\nfactor = 2\n\ndef double(x):\n    return factor * x\n",
    ],
    ids=["continued", "continued, then more", "block", "bare block", "last block", "block continued", "no block"],
)
def test_a_right_program_is_right_however_it_is_written(text: str) -> None:
    assert run(text).outcome is Outcome.RIGHT


@pytest.mark.parametrize(
    "text", ["", "I do not know.", "    return 2 *\n", "```python\nprint(1)\n```\n```python\nprint(2)\n```"]
)
def test_a_text_without_a_program_is_unparseable(text: str) -> None:
    assert run(text).outcome is Outcome.UNPARSEABLE


@pytest.mark.parametrize(
    "value",
    ["None", "True", "-7", "10 ** 5000", "0.1", "float('inf')", "1j", "'a\\ud800\\n'", "b'\\x00'", "[1, (2, 'x')]",
     "{1, 2}", "{(1, 2): [None]}", "range(3)", "frozenset('ab')"],
)  # fmt: skip
def test_values_cross_unchanged_in_both_directions(value: str) -> None:
    tests = CodeTests(
        "def same(x):\n    pass\n",
        "same",
        f"def check(candidate):\n    v = {value}\n    w = candidate(v)\n    assert w == v and type(w) is type(v)\n",
    )
    assert run("    return x\n", tests=CodeTests(tests.prompt, "same", tests.test)).outcome is Outcome.RIGHT


def test_an_expected_exception_arrives_as_itself() -> None:
    expecting = (
        "def check(candidate):\n    try:\n        candidate(None)\n    except TypeError:\n        return\n"
        "    raise AssertionError\n"
    )
    tests = CodeTests(PROMPT, "double", expecting)
    assert run("    return 2 * x\n", tests=tests).outcome is Outcome.RIGHT
    assert run("    return x\n", tests=tests).outcome is Outcome.WRONG


def test_several_threads_may_check_at_once() -> None:
    found: list[Outcome] = []
    texts = ["    return 2 * x\n", "    return x\n"] * 3
    threads = [threading.Thread(target=lambda t=t: found.append(run(t).outcome)) for t in texts]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["right"] * 3 + ["wrong"] * 3


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_limits_that_limit_nothing_are_refused(seconds: float) -> None:
    with pytest.raises(SettingsError):
        CodeLimits(seconds=seconds)


# ---- the real file --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def humaneval() -> Iterator[list[BenchmarkTask]]:
    yield list(read_humaneval(public_file("HumanEval.jsonl.gz")))


ALTERED = """

_right = {name}


def {name}(*arguments):
    value = _right(*arguments)
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return value + type(value)("x") if isinstance(value, (str, list, tuple)) else {{"x": "x"}}
"""


@pytest.mark.slow
def test_every_canonical_solution_is_right_and_the_same_off_by_one_is_wrong(humaneval: list[BenchmarkTask]) -> None:
    def both(task: BenchmarkTask) -> tuple[str, Outcome, Outcome]:
        assert task.tests and task.tests.canonical
        right = task.tests.canonical
        altered = task.tests.prompt + right + ALTERED.format(name=task.tests.entry_point)
        generous = CodeLimits(seconds=60)
        outcomes = [run(text, tests=task.tests, limits=generous).outcome for text in (right, altered)]
        return task.task_id, outcomes[0], outcomes[1]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(both, humaneval))
    assert len(found) == 164
    assert [name for name, right, _ in found if right is not Outcome.RIGHT] == []
    assert [name for name, _, altered in found if altered is not Outcome.WRONG] == []


PROGRAM = "def double(x):\n    return 2 * x\n"

# ---- what limits do not count, and what a benchmark file may say -----------------------------------------------


def test_memory_that_belongs_to_nobody_and_namespaces_of_its_own_are_refused() -> None:
    """Shared memory of System V counts for no limit once it is detached; a user namespace gives capabilities back."""
    calls = ("shmget(0, 1 << 26, 0o1600)", "memfd_create(b'x', 0)", "unshare(0x10000000)", "msgget(0, 0o1600)")
    body = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nseen = []\n"
    body += "".join(f"seen.append((libc.{call}, ctypes.get_errno()))\n" for call in calls)
    assert finding(body) == f"AssertionError: {[(-1, errno.EPERM)] * len(calls)!r}"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls by number, as x86-64 counts them")
def test_a_call_that_another_interface_numbers_otherwise_is_refused_too() -> None:
    body = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    body += (
        "seen = [(libc.syscall(0x40000000 + number, 0, 1 << 20, 0o1600), ctypes.get_errno()) for number in (29, 39)]"
    )
    assert finding(body) == f"AssertionError: {[(-1, errno.EPERM)] * 2!r}"


def test_a_further_process_or_thread_is_refused_as_by_the_limit() -> None:
    body = "import os, threading\nseen = []\nfor start in (os.fork, threading.Thread(target=print).start):\n"
    body += "    try:\n        start()\n    except (OSError, RuntimeError) as error:\n"
    body += "        seen.append(getattr(error, 'errno', None) or 'no thread')"
    assert finding(body) == f"AssertionError: {[errno.EAGAIN, 'no thread']!r}"


@pytest.mark.parametrize(
    "said",
    [
        "b'not json\\n'",
        "b'[1]\\n'",
        'b\'{"isolation": "\\\\u001b[2J"}\\n\'',
        'b\'{"nonce": 1, "outcome": "right", "detail": ""}\\n\'',
        "b'[' * 8000 + b'\\n'",
        "b'x' * 65536 * 1000",
    ],
)
def test_what_a_benchmark_file_writes_for_a_verdict_is_none(said: str) -> None:
    """Its tests run where the verdict's pipe is; nothing but a verdict is read from there, and not much of anything."""
    test = f"""
def check(candidate):
    import fcntl, os
    for number in range(3, 32):
        try:
            writes = fcntl.fcntl(number, fcntl.F_GETFL) & 3 == 1
        except OSError:
            continue
        said = {said}
        while writes and said:
            said = said[os.write(number, said[:65536]):]
    os._exit(0)
"""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run(PROGRAM, tests=CodeTests(PROMPT, "double", test)) == Verdict(
        Outcome.WRONG, "the tests ended without a verdict"
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "KiB"


def test_a_terminal_is_shown_no_escape_of_a_test() -> None:
    test = "def check(candidate):\n    raise ValueError('\\x1b[2J owned')\n"
    assert run(PROGRAM, tests=CodeTests(PROMPT, "double", test)).detail == "ValueError:  [2J owned"
