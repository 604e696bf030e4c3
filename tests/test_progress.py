"""What a long run shows of its progress: on a terminal and in a log. No session is needed."""

import io
import time
from types import SimpleNamespace
from typing import Any

import pytest

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.stages.run_context import StageReport
from jobs import harness
from jobs.harness import Context, showing_progress
from jobs.screen import SafeConsole


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def context_on(console: SafeConsole) -> Context:
    lake: Any = SimpleNamespace(spark=None)
    return Context(RunConfig(lake=LakeLocation()), lake, "run1", console)


def test_how_far_a_stage_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, context = Clock(), context_on(SafeConsole(file=io.StringIO()))
    monkeypatch.setattr("ebi_spark.stages.run_context.time", clock)
    assert context.how_far() == ""
    context.expect(600)
    context._running, context._since = StageReport("flag"), clock.now
    clock.now += 65
    assert context.how_far() == "flag · 1:05 · about 9 min left"  # 535 of 600 seconds
    context._running.years = ["2022-23"]
    assert context.how_far() == "flag · 2022-23 · 1:05 · about 9 min left"
    context._running.years, context._running.rows_to_read = ["2023-24", "2021-22", "2022-23"], 259_789
    clock.now += 515
    assert context.how_far() == "flag · 2021-22 to 2023-24 · 259,789 rows · 9:40 · about 20 s left"
    clock.now += 21
    assert context.how_far().endswith("10:01 · longer than expected")
    context.expect(None)
    assert context.how_far().endswith(" · 10:01")


def test_a_terminal_has_one_line_that_changes() -> None:
    file = io.StringIO()
    context = context_on(SafeConsole(file=file, force_terminal=True, width=80, _environ={"TERM": "xterm"}))
    with showing_progress(context):
        context._running, context._since = StageReport("flag", years=["2022-23"]), time.monotonic()
        context.progress("applying the policies to the records")
    printed = file.getvalue()
    assert "flag · 2022-23 · 0:00" in printed and "applying the policies to the records\n" in printed
    assert printed.count("\n") <= 3  # the line of progress is redrawn in its place
    assert printed.endswith("\x1b[?25h\r\x1b[1A\x1b[2K") or "\x1b[2K" in printed.rpartition("flag · ")[2]


def test_a_log_has_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    context = context_on(SafeConsole(file=file, width=200))
    monkeypatch.setattr(harness, "QUIET_SECONDS", 0.12)
    with showing_progress(context):
        time.sleep(0.2)
        assert file.getvalue() == ""  # nothing to say between two stages
        context._running, context._since = StageReport("rate", years=["2022-23"]), time.monotonic() - 125
        time.sleep(0.5)
    lines = file.getvalue().splitlines()
    assert 1 <= len(lines) <= 5 and all("rate · 2022-23 · 2:05" in line for line in lines)
    assert "\x1b" not in file.getvalue()
