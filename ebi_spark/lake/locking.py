"""A lock that lets only one run write to a local lake. It names its owners, and is taken over only if they have ended.

A run has two processes: Python, and the Java process that Spark runs in, which can outlive Python and continue to
write. The lock names both with their start times, because process numbers are reused.
"""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ebi_spark.errors import InputError

LOCK = ".lock"
_GUARD = ".lock.guard"


@dataclass
class Lock:
    """A lock that this process has. ``name_java`` adds the Java process after it has started."""

    path: Path | None

    def name_java(self) -> None:
        """Add the Java process that this process has started to the owners."""
        if self.path is not None:
            _write(self.path, [os.getpid(), *_java_children(os.getpid())])


@contextlib.contextmanager
def locked(folder: Path | None) -> Iterator[Lock]:
    """Lock the lake in ``folder`` (None: a catalogue, whose commits need no lock).

    Raises an :class:`InputError` that names the owner if another run has the lock.
    """
    if folder is None:
        yield Lock(None)
        return
    path = folder / "silver" / LOCK
    with _guarded(path):
        holder = _read(path)
        if holder is not None:
            _refuse(folder, path, holder)
        _write(path, [os.getpid()])
    try:
        yield Lock(path)
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Let one process at a time check and take the lock, so that no two of them take over the same old lock."""
    with path.with_name(_GUARD).open("w", encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> dict[str, Any] | None:
    """The content of the lock; an empty dictionary if it cannot be understood, None if there is no lock."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    if isinstance(found, dict) and "pid" in found:  # as older versions wrote it
        owner = {"pid": found["pid"], "started": found.get("started", ""), "name": "python"}
        found = {**_here(), "since": found.get("since", "unknown"), "processes": [owner]}
    return found if isinstance(found, dict) else {}


def _write(path: Path, pids: list[int]) -> None:
    owner = {
        **_here(),
        "since": time.strftime("%F %T"),
        "processes": [{"pid": pid, "started": _started(pid) or "", "name": _name(pid)} for pid in pids],
    }
    part = path.with_name(f"{LOCK}.{os.getpid()}")
    part.write_text(json.dumps(owner), encoding="utf-8")
    part.chmod(0o600)
    part.replace(path)


def _refuse(folder: Path, path: Path, holder: dict[str, Any]) -> None:
    """Raise an :class:`InputError` unless every owner is known to have ended."""
    here, processes = _here(), holder.get("processes", [])
    if holder.get("host") == here["host"] and holder.get("boot") != here["boot"]:
        return  # the machine has been restarted since
    if holder and {key: holder.get(key) for key in here} != here:
        raise InputError(
            f"the lake {folder} has been in use on {holder.get('host', 'another machine')} since "
            f"{holder.get('since', 'unknown')}; whether that run is still active cannot be seen from here",
            remedy=f"wait until it has ended; if you are certain that it has, remove {path}",
        )
    alive = [item for item in processes if _alive(item)]
    if alive:
        listed = " and ".join(
            f"process {item['pid']} ({item['name'] or 'unknown'}, started {_clock(item['started'])})" for item in alive
        )
        raise InputError(
            f"the lake {folder} is in use by {listed}, since {holder['since']}",
            remedy="wait until it has ended, or end that run (both Python and Java, if both are named)",
        )


def _here() -> dict[str, str]:
    """What must be the same for a process to be visible here: the machine, its last start and its process namespace."""
    boot, view = "", ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        view = str(Path("/proc/self/ns/pid").readlink())
    return {"host": socket.gethostname(), "boot": boot, "view": view}


def _running(pid: int) -> psutil.Process | None:
    """The process; None if it has ended or is a zombie."""
    try:
        process = psutil.Process(pid)
        return None if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) else process
    except psutil.Error:
        return None


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since the machine started: setting the clock does not change it."""
    process = _running(pid)
    if process is None:
        return None
    with contextlib.suppress(psutil.Error):
        booted = psutil.boot_time()
        return str(round((process.create_time() - booted) * os.sysconf("SC_CLK_TCK")))
    return None


def _name(pid: int) -> str:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).name()
    return ""


def _clock(ticks: str) -> str:
    """A start time in clock ticks as local time."""
    try:
        return time.strftime("%F %T", time.localtime(psutil.boot_time() + int(ticks) / os.sysconf("SC_CLK_TCK")))
    except (OSError, ValueError):
        return "at an unknown time"


def _alive(process: dict[str, Any]) -> bool:
    started = _started(int(process["pid"]))
    return started is not None and started == process["started"]


def _java_children(pid: int) -> list[int]:
    """The Java processes that ``pid`` has started."""
    children = psutil.Process(pid).children()
    return sorted(child.pid for child in children if _running(child.pid) and _name(child.pid) == "java")
