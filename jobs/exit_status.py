"""How a command ends: one message with its remedy, the exit status, the JSON object, and what an interrupt does."""

import json
import logging
import os
import re
import signal
import sys
import threading
import traceback
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from ebi_spark.errors import BrokenRunError, EbiError, spark_condition
from jobs.screen import SafeConsole, headed

INTERRUPTED = 130
_SHOW_CURSOR = "\x1b[?25h"


def new_run_id() -> str:
    """A run id that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"


def guarded(work: Callable[[Console, dict[str, Any]], None], *, as_json: bool, debug: bool) -> int:
    """Call ``work``, and turn whatever happens into one message and an exit status."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    for stream in (sys.stdout, sys.stderr):  # a terminal without a character shows its number
        with suppress(Exception):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    console = SafeConsole(stderr=True)
    outcome: dict[str, Any] = {
        "run_id": new_run_id(), "outcome": "done", "exit": 0, "stages": [], "tables": {}, "release": None,
        "report": None, "error": None,
    }  # fmt: skip

    def ended(status: int, word: str, message: str, remedy: str) -> None:
        outcome.update(exit=status, outcome=word, error={"message": message, "remedy": remedy})
        console.print(headed("ebi-spark:", f" {message}", "bold red"), highlight=False, soft_wrap=True)
        console.print(headed("what to do:", f" {remedy}"), highlight=False, soft_wrap=True)

    def interrupted() -> None:
        ended(
            INTERRUPTED,
            "interrupted",
            "interrupted; everything committed so far is kept",
            "run the same command again: it resumes from there",
        )

    _INTERRUPTED.clear()
    logging.disable(logging.NOTSET)
    handle_signals()
    try:
        work(console, outcome)
    except EbiError as error:
        if debug:
            traceback.print_exc()
        ended(error.exit_status, error.outcome, error.message, error.remedy)
    except KeyboardInterrupt:
        interrupted()
    except BrokenPipeError:
        return _unread()
    except Exception as error:
        # An interrupt can end the session in the middle of a call, which then fails with some other error.
        if _INTERRUPTED:
            interrupted()
            return _finished(outcome, as_json)
        if debug:
            traceback.print_exc()
        # The text of an engine's error can contain rows, so only its class and condition are shown.
        condition = spark_condition(error)
        kind = type(error).__name__ + (f" {condition}" if condition else "")
        broken = BrokenRunError(
            f"the run stopped with an error ({kind}); everything committed so far is kept, and so is the current release",
            remedy="run the same command again; `--debug` shows the traceback (it can contain records: do not share it)",
        )
        ended(broken.exit_status, broken.outcome, broken.message, broken.remedy)
    return _finished(outcome, as_json)


def _finished(outcome: dict[str, Any], as_json: bool) -> int:
    try:
        if as_json:
            print(_RAW.sub(_as_number, json.dumps(outcome, ensure_ascii=False, default=str)))
        sys.stdout.flush()
    except BrokenPipeError:
        return _unread()
    return int(outcome["exit"])


def _unread() -> int:
    """The status where nobody reads standard output any more, such as after ``| head``: that of a program that the signal ended."""
    # Python would complain when it writes the rest at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


# Characters that JSON does not escape and a terminal would act on.
_RAW = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def _as_number(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


_INTERRUPTED: list[bool] = []


def handle_signals() -> None:
    """End the command in good order when it is asked to stop. Starting Spark replaces the handlers: call it again then."""
    if threading.current_thread() is not threading.main_thread():  # a platform can run a task in another one
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)


def _interrupt(*_: Any) -> None:
    """End in good order; the second time at once."""
    if _INTERRUPTED:
        if sys.stderr.isatty():  # the line of progress hid it
            os.write(2, _SHOW_CURSOR.encode())
        os._exit(INTERRUPTED)
    _INTERRUPTED.append(True)
    # Calls to a session that is ending fail, and Py4J would log each failure with a traceback.
    logging.disable(logging.CRITICAL)
    raise KeyboardInterrupt
