"""A lock that lets only one run write to a lake in a folder or at a URL. It names its owners, and is taken over only if they
have ended.

A run has two processes: Python, and the Java process that Spark runs in, which can outlive Python and continue to
write. The lock names both with their start times, because process numbers are reused.

At a URL the lock is an object that the store writes only if it does not exist yet, or if it is still as this run wrote it.
Delta needs it there, because two programs that commit to a table in S3 at the same time can lose one of the commits.
"""

import contextlib
import fcntl
import getpass
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from ebi_spark.errors import BrokenRunError, InputError
from ebi_spark.lake.object_store import Objects, Version, without_conditions

LOCK = ".lock"
_GUARD = ".lock.guard"
# A run writes the time into the lock of a lake at a URL so often, because nobody elsewhere can see its processes.
RENEWED_EVERY = 60.0
# A version that no object has, in the form of each store.
_NO_VERSION = {"e_tag": f'"{"0" * 32}"', "version": "1"}


@dataclass
class Lock:
    """A lock that this process has. ``name_java`` adds the Java process after it has started."""

    path: Path | None

    def name_java(self) -> None:
        """Add the Java process that this process has started to the owners."""
        if self.path is not None:
            _write(self.path, [os.getpid(), *_java_children(os.getpid())])

    def check(self) -> None:
        """Raise a :class:`BrokenRunError` if the lock is known to be lost. A local one cannot be."""


class StoreLock(Lock):
    """The lock of a lake at a URL. Nobody else can see whether its owner is still active, so a thread writes the time into it
    every minute."""

    def __init__(self, url: str) -> None:
        super().__init__(None)
        self._url, self._objects, self._name = url, Objects(url), f"silver/{LOCK}"
        self._owner = {"id": uuid.uuid4().hex, "user": _user(), **_owner([os.getpid()])}
        self._version: Version | None = None
        self._writing, self._ended = threading.Lock(), threading.Event()

    def take(self) -> None:
        """Get the lock. An :class:`InputError` if another run has it, or the store cannot write on a condition."""
        place = f"{self._url}/{self._name}"
        if not self._write(None):
            found = self._objects.read(self._name)
            if found is not None:
                _refuse(self._url, place, _understood(found.data))
            if not self._write(found.version if found else None):
                raise InputError(
                    f"another run has just locked the lake {self._url}", remedy="wait until that run has ended"
                )
        # A store that ignores the conditions would let two runs have the lock. Both of these writes have to be refused.
        other = {name: _NO_VERSION[name] for name in self._version or {}}
        if self._objects.create(self._name, b"{}") or self._objects.update(self._name, b"{}", other):
            with contextlib.suppress(InputError):
                self._objects.remove(self._name)
            raise without_conditions(self._url)
        threading.Thread(target=self._renew_now_and_then, daemon=True).start()

    def name_java(self) -> None:
        """Add the Java process that this process has started to the owners."""
        self._owner |= _owner([os.getpid(), *_java_children(os.getpid())]) | {"since": self._owner["since"]}
        self.renew()

    def renew(self) -> None:
        """Write the time into the lock. If another program has changed the lock, it is lost."""
        with self._writing:
            if self._version is not None and not self._ended.is_set():
                self._write(self._version)

    def check(self) -> None:
        """Raise a :class:`BrokenRunError` if another program has changed or removed the lock."""
        if self._version is None:
            raise BrokenRunError(
                f"this run no longer has the lock of the lake {self._url}: {self._name} was removed or taken by another run",
                remedy="run the same command again when no other run writes to the lake",
            )

    def release(self) -> None:
        """Remove the lock, unless it is lost."""
        self._ended.set()
        if self._version is None:
            return
        with self._writing, contextlib.suppress(InputError):  # the next run finds that this one has ended
            if self._own_version() is not None:
                self._objects.remove(self._name)

    def _write(self, version: Version | None) -> bool:
        """Write the lock if it does not exist (no ``version``), or if it is still this version. Returns whether this run has it."""
        data = json.dumps({**self._owner, "alive": f"{datetime.now(UTC):%F %T} UTC"}).encode()
        if version is None:
            written = self._objects.create(self._name, data)
        else:
            written = self._objects.update(self._name, data, version)
        if written is None:
            # It may be this run's own: where the answer to a request is lost, it is made again and then refused.
            written = self._own_version()
        self._version = written
        return written is not None

    def _own_version(self) -> Version | None:
        """The version of the lock as the store has it; None if it is not this run's."""
        found = self._objects.read(self._name)
        return found.version if found is not None and _understood(found.data).get("id") == self._owner["id"] else None

    def _renew_now_and_then(self) -> None:
        while not self._ended.wait(RENEWED_EVERY):
            with contextlib.suppress(InputError):  # the store cannot be reached now; perhaps it can in a minute
                self.renew()


@contextlib.contextmanager
def locked(place: Path | str | None) -> Iterator[Lock]:
    """Lock the lake in a folder or at a URL (None: a catalogue, whose commits need no lock).

    Raises an :class:`InputError` that names the owner if another run has the lock.
    """
    if place is None:
        yield Lock(None)
        return
    if isinstance(place, str):
        lock = StoreLock(place)
        try:
            lock.take()
            yield lock
        finally:
            lock.release()
        return
    folder = place
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
        return _understood(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError:
        return {}


def _understood(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    if isinstance(found, dict) and "pid" in found:  # as older versions wrote it
        owner = {"pid": found["pid"], "started": found.get("started", ""), "name": "python"}
        found = {**_here(), "since": found.get("since", "unknown"), "processes": [owner]}
    return found if isinstance(found, dict) else {}


def _owner(pids: list[int]) -> dict[str, Any]:
    return {
        **_here(),
        "since": time.strftime("%F %T"),
        "processes": [{"pid": pid, "started": _started(pid) or "", "name": _name(pid)} for pid in pids],
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return str(os.getuid())


def _write(path: Path, pids: list[int]) -> None:
    part = path.with_name(f"{LOCK}.{os.getpid()}")
    part.write_text(json.dumps(_owner(pids)), encoding="utf-8")
    part.chmod(0o600)
    part.replace(path)


def _refuse(lake: Path | str, path: Path | str, holder: dict[str, Any]) -> None:
    """Raise an :class:`InputError` unless every owner is known to have ended."""
    here, processes = _here(), holder.get("processes", [])
    if isinstance(path, Path) and holder.get("host") == here["host"] and holder.get("boot") != here["boot"]:
        return  # the machine has been restarted since; at a URL it may be another machine of that name
    if holder and {key: holder.get(key) for key in here} != here:
        user = f" by {holder['user']}" if "user" in holder else ""
        alive = f"; its last sign of life was at {holder['alive']} (there is one a minute)" if "alive" in holder else ""
        raise InputError(
            f"the lake {lake} has been in use on {holder.get('host', 'another machine')}{user} since "
            f"{holder.get('since', 'unknown')}; whether that run is still active cannot be seen from here{alive}",
            remedy=f"wait until it has ended; if you are certain that it has, remove {path}",
        )
    living = [item for item in processes if _alive(item)]
    if living:
        listed = " and ".join(
            f"process {item['pid']} ({item['name'] or 'unknown'}, started {_clock(item['started'])})" for item in living
        )
        raise InputError(
            f"the lake {lake} is in use by {listed}, since {holder['since']}",
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
