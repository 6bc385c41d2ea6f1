"""From errors to exit statuses, in one place (DESIGN section 13; docs/reference/cli.md lists them).

Rules: one line on stderr, never a traceback; with `--json` the same error as one object on stdout. An unexpected
exception is a defect of ours: one line, status 70, and the traceback only where MASS_GOV_DEBUG asks for it.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import typer

from mass_gov.cli.output import emit, say, visible
from mass_gov.errors import (
    InputError,
    IntegrityError,
    MassGovError,
    NotRetainedError,
    OutageError,
    RefusedError,
    SettingsError,
)

DONE, NO, BAD_INPUT, OTHER_ENVIRONMENT, NOT_RETAINED, REFUSED, OUTAGE = range(7)
DEFECT, INTERRUPTED, BROKEN_PIPE = 70, 130, 141

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (IntegrityError, NO),
    (InputError, BAD_INPUT),
    (NotRetainedError, NOT_RETAINED),
    (RefusedError, REFUSED),
    (OutageError, OUTAGE),
    (OSError, OUTAGE),  # a disk that is full or read-only, met outside the ledger
)


def status_of(error: BaseException) -> int:
    """The exit status that an error means."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), DEFECT)


def guarded(command: Callable[[], object], argv: Sequence[str]) -> int:
    """Run a parsed command line and return its exit status; whatever it raises becomes a message and a status."""
    as_json = "--json" in _options(argv) or "--jsonl" in _options(argv)
    try:
        result = command()
        sys.stdout.flush()
        return result if isinstance(result, int) else DONE
    except BrokenPipeError:
        return _hush_stdout()
    except (KeyboardInterrupt, typer.Abort):  # the second where a question was not answered
        say("interrupted: what was recorded stays recorded, and nothing was half written.")
        return INTERRUPTED
    except typer.Exit as stop:
        return stop.exit_code
    except (MassGovError, OSError) as error:
        return report(type(error).__name__, message_of(error), status_of(error), as_json)
    except Exception as error:
        # Typer's own complaints about the usage can format themselves; anything else is ours.
        return _usage(error, as_json) if hasattr(error, "format_message") else _defect(error, as_json)


def report(kind: str, message: str, status: int, as_json: bool) -> int:
    """Say one error on stderr, and with `as_json` on stdout too."""
    say(f"error: {visible(message)}")
    if as_json:
        try:
            emit({"error": error_document(kind, message, status)}, line=True)  # also the end of JSON lines
        except BrokenPipeError:
            return _hush_stdout()
        except OSError as error:  # stdout itself is what failed: a full disk behind a redirection
            say(f"error: stdout: {message_of(error)}")
            _hush_stdout()
            return OUTAGE
    return status


def error_document(kind: str, message: str, status: int) -> dict[str, object]:
    """The JSON form of an error."""
    return {"type": kind, "message": message, "exit": status}


def message_of(error: BaseException) -> str:
    """What an error says to a person."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror or error}. Check the path, its permissions and the free space."
    return str(error)


def _options(argv: Sequence[str]) -> Sequence[str]:
    return argv[: argv.index("--")] if "--" in argv else argv


def _usage(error: Any, as_json: bool) -> int:
    message = str(error.format_message()).rstrip(".")
    if not message:
        return BAD_INPUT  # a group without a command: its help was shown
    path = getattr(getattr(error, "ctx", None), "command_path", "mass-gov")
    return report("UsageError", f"{message}. `{path} --help` shows what it takes.", BAD_INPUT, as_json)


def _defect(error: Exception, as_json: bool) -> int:
    if _debugging():
        traceback.print_exception(error)
    message = (
        f"unexpected {type(error).__name__}: {str(error).strip()[:300] or 'no message'}. This is a defect; set "
        "MASS_GOV_DEBUG=1 to see the traceback and report it."
    )
    return report(type(error).__name__, message, DEFECT, as_json)


def _debugging() -> bool:
    from mass_gov.config import load_settings

    try:
        return load_settings().debug
    except SettingsError:
        return False


def _hush_stdout() -> int:
    """Whoever read us is gone: leave quietly, and keep the interpreter from complaining at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return BROKEN_PIPE  # no real stdout to redirect
    return BROKEN_PIPE
