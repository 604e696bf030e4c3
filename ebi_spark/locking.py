"""One writer at a time on a local lake: a lock that names its owner and is taken over only from the dead."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ebi_spark.errors import InputError

LOCK = ".lock"


def _started(pid: int) -> str | None:
    """When a process started, in ticks since boot: a pid that was given out again has another start."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def _alive(owner: dict[str, str]) -> bool:
    pid = int(owner.get("pid", "0"))
    if Path("/proc/self/stat").exists():
        return _started(pid) == owner.get("started")
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@contextlib.contextmanager
def locked(folder: Path | None) -> Iterator[None]:
    """Hold the lake in ``folder`` (None: a catalogue, whose commits need no lock)."""
    if folder is None:
        yield
        return
    path = folder / "silver" / LOCK
    owner = {"pid": str(os.getpid()), "started": _started(os.getpid()) or "", "since": time.strftime("%F %T")}
    for _ in range(3):
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            try:
                holder = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                time.sleep(0.2)  # written this moment, or left empty by a kill: looked at once more
                with contextlib.suppress(OSError):
                    if path.stat().st_size == 0 and time.time() - path.stat().st_mtime > 5:
                        path.unlink()
                continue
            if _alive(holder):
                raise InputError(
                    f"the lake {folder} is in use by process {holder['pid']} since {holder['since']}",
                    remedy="wait for it, or end that process",
                ) from None
            path.unlink(missing_ok=True)
            continue
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(owner, file)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
        return
    raise InputError(f"the lake {folder} could not be locked", remedy=f"remove {path} if no other run is at work")
