"""One measured child process: wall clock, peak memory of it and all its descendants, and the JSON that it prints."""

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

INTERVAL = 0.2
PROC = Path("/proc")
ROOT = Path(__file__).resolve().parent.parent


class ChildFailedError(RuntimeError):
    """A measured process did not end with status 0; its message stood on standard error."""


@dataclass(frozen=True)
class Measured:
    """``seconds`` of wall clock from start to end, ``peak_bytes`` (None where there is no /proc), ``answer`` as printed."""

    seconds: float
    peak_bytes: int | None
    answer: dict[str, Any]


def measured(module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Measured:
    """Run ``python -m module arguments`` from the top of the checkout; the last line of its output is its answer."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        started = time.monotonic()
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=out,
            stderr=err,
            cwd=ROOT,
            env={**os.environ, **environment},
        )
        peak = 0
        try:
            while child.poll() is None:
                peak = max(peak, tree_bytes(child.pid))
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
    return Measured(seconds, peak or None, json.loads(lines[-1]) if lines else {})


def tree_bytes(root: int) -> int:
    """Memory of a process and its descendants now, each its share of the pages that several have: Java forks for a moment to
    set the mode of a file, and the fork has all of its pages too. 0 without /proc."""
    parents: dict[int, int] = {}
    for entry in PROC.glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it ended while we looked
    total = 0
    for pid in parents:
        above: int | None = pid
        while above is not None and above != root:
            above = parents.get(above)
        total += _proportional_bytes(pid) if above == root else 0
    return total


def _proportional_bytes(pid: int) -> int:
    try:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except (OSError, IndexError, ValueError):
        pass
    return 0
