"""Measures one child process: wall clock, processor time and peak memory of it and all its descendants, and the JSON that
it prints."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INTERVAL = 0.5
PROC = Path("/proc")
ROOT = Path(__file__).resolve().parent.parent


class ChildFailedError(RuntimeError):
    """A measured process did not end with status 0; its message was on standard error."""


@dataclass(frozen=True)
class Measured:
    """``seconds`` of wall clock from start to end, ``answer`` as printed; ``peak_bytes`` and ``processor_seconds`` are
    None where there is no /proc. A process that lived only between two samples is in neither."""

    seconds: float
    peak_bytes: int | None
    processor_seconds: float | None
    answer: dict[str, Any]


def measured(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], cores: int | None = None
) -> Measured:
    """Run ``python -m module arguments`` from the top of the checkout; the last line of its output is its answer. With
    ``cores`` it and all that it starts are held to so many of the machine's (Linux only)."""

    def held() -> None:
        if cores is not None:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])

    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        started = time.monotonic()
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=out,
            stderr=err,
            cwd=ROOT,
            env={**os.environ, **environment},
            preexec_fn=held,
        )
        peak = 0
        processor: dict[int, float] = {}
        try:
            while child.poll() is None:
                now = tree(child.pid, peak)
                peak = max(peak, sum(used.bytes for used in now.values()))
                processor |= {pid: used.seconds for pid, used in now.items()}
                time.sleep(INTERVAL)
        except BaseException:
            child.terminate()
            child.wait()
            raise
        seconds = time.monotonic() - started
        out.seek(0)
        err.seek(0)
        if child.returncode != 0:
            print(err.read()[-2000:], file=sys.stderr)
            raise ChildFailedError(f"{module} ended with status {child.returncode}")
        lines = out.read().splitlines()
    processor_seconds = round(sum(processor.values()), 1) if processor else None
    return Measured(seconds, peak or None, processor_seconds, json.loads(lines[-1]) if lines else {})


@dataclass(frozen=True)
class Used:
    """The memory that one process has now, and the processor time that it has used."""

    bytes: int
    seconds: float


def tree(root: int, peak: int = 0) -> dict[int, Used]:
    """A process and its descendants now, by id; empty without /proc. Each has its share of the memory that several have
    in common, which takes Linux long to tell of large processes: where they have no more than ``peak`` even with all that is in
    common, it is not asked. A process that was just started and is still the very program of its parent has that one's
    memory (Java starts another program for a moment to set the mode of a file): it is not counted beside it."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for entry in PROC.glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            pid, ticks = int(entry.name), int(fields[11]) + int(fields[12])
            parents[pid], seconds[pid] = int(fields[1]), ticks / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError, ValueError):
            continue  # it ended while we looked
    found = {}
    for pid in parents:
        above: int | None = pid
        while above is not None and above != root:
            above = parents.get(above)
        if above == root:
            same = pid != root and _program(pid) == _program(parents[pid])
            found[pid] = Used(0 if same else _resident_bytes(pid), seconds[pid])
    if sum(used.bytes for used in found.values()) <= peak:
        return found
    return {pid: Used(used.bytes and _proportional_bytes(pid), used.seconds) for pid, used in found.items()}


def _program(pid: int) -> bytes:
    """The call that a process is; empty when it has ended."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def _resident_bytes(pid: int) -> int:
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def _proportional_bytes(pid: int) -> int:
    try:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except (OSError, IndexError, ValueError):
        pass
    return 0


def commit() -> str:
    """The checkout's commit, with a plus where its code differs from it; empty outside of one."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "ebi_spark", "jobs", "conf", "expectations")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
