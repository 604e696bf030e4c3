"""What this machine has for a local run: Python, packages, Java, jars, memory, disk, rights, locale and time zone.

Nothing is started. Nothing is written except one file that is removed at once.
"""

import locale
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from ebi_spark import __version__
from ebi_spark.errors import InputError
from ebi_spark.runs.checks_before_start import PASSED, REFUSED, WARNING, Answer, Finding
from ebi_spark.spark.jars import local_jars
from ebi_spark.spark.java import java_home_problem, java_version, require_java
from ebi_spark.spark.platform import platform_session
from ebi_spark.spark.session import local_size

PYTHONS = ((3, 11), (3, 12))
# Java takes about this much beside its heap, and Python with Great Expectations about as much again.
BESIDE_THE_HEAP = 1 << 30
LEAST_DISK = 5 << 30
LEAST_OPEN_FILES = 1024
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

Work = Callable[[], Answer]


def check_environment(folder: Path | None = None) -> list[Finding]:
    """One finding for each thing that a local session needs. ``folder``: the lake's folder; None: the working directory."""
    findings = []
    for name, work in _checks(folder or Path.cwd()):
        try:
            found, result = work()
            findings.append(Finding(name, found, result))
        except InputError as error:
            findings.append(Finding(name, error.message, REFUSED, error.remedy))
    return findings


def _checks(folder: Path) -> Iterator[tuple[str, Work]]:
    yield "ebi-spark", lambda: Answer(f"{__version__} in {Path(__file__).parents[1]}")
    yield "Python", _python
    yield "packages", _packages
    yield "session", _session
    if not platform_session():
        yield "Java", _java
        yield "Delta's jars", lambda: Answer(", ".join(path.name for path in local_jars()))
        yield "memory", _memory
    yield "disk", lambda: _disk(folder)
    yield (
        "temporary files",
        lambda: _writable(Path(tempfile.gettempdir()), "set TMPDIR to a folder that you may write to"),
    )
    yield "rights", lambda: _writable(_existing(folder), f"name a folder that you may write to, instead of {folder}")
    yield "open files", _open_files
    yield "locale", _locale
    yield "time zone", _time_zone


def _python() -> Answer:
    found = f"{sys.version.split()[0]} in {sys.prefix}"
    if sys.version_info[:2] not in PYTHONS:
        raise InputError(
            f"Python {found}; ebi-spark needs 3.11 or 3.12", remedy="run `make setup` with PYTHON=/path/to/python3.12"
        )
    return Answer(found)


def _packages() -> Answer:
    """The installed versions, compared with the ranges that ebi-spark states."""
    wrong, shown = [], []
    for text in metadata.requires("ebi-spark") or ():
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"extra": "local"}):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is not installed")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"{wanted.name} is {version}, not {wanted.specifier}")
        elif wanted.name.replace("_", "-") in ("pyspark", "delta-spark", "great-expectations", "deltalake"):
            shown.append(f"{wanted.name} {version}")
    if wrong:
        raise InputError("; ".join(wrong), remedy="install the locked versions: `make setup`")
    return Answer(", ".join(shown))


def _session() -> Answer:
    if platform_session():
        return Answer("the platform's own: its Java, jars and memory are not checked", WARNING)
    master, memory = local_size()
    return Answer(f"{master} with a heap of {memory} on {os.cpu_count()} processors")


def _java() -> Answer:
    if java_home_problem():
        require_java()
    return Answer(java_version())


def _memory() -> Answer:
    heap = local_size()[1].lower().rstrip("b")
    wanted = int(heap[:-1]) * _UNITS[heap[-1]] + BESIDE_THE_HEAP
    total, free = psutil.virtual_memory().total, psutil.virtual_memory().available
    found = f"{total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB free; a session takes up to {wanted / 2**30:.1f} GiB"
    if total < wanted:
        raise InputError(found, remedy="set EBI_SPARK_DRIVER_MEMORY to less, such as 2g, or use a larger machine")
    return Answer(found, PASSED if free >= wanted else WARNING)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest folder above it that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())


def _disk(folder: Path) -> Answer:
    free = shutil.disk_usage(_existing(folder)).free
    found = f"{free / 1e9:,.1f} GB free at {_existing(folder)}"
    return Answer(found) if free >= LEAST_DISK else Answer(f"{found}: a national year needs about 30 GB", WARNING)


def _writable(place: Path, remedy: str) -> Answer:
    try:
        with tempfile.TemporaryFile(dir=place):
            return Answer(f"{place} can be written")
    except OSError as error:
        raise InputError(f"{place} cannot be written ({error.strerror})", remedy=remedy) from None


def _open_files() -> Answer:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < LEAST_OPEN_FILES:
        return Answer(f"only {soft:,} at a time: `ulimit -n 4096` before a run of many files", WARNING)
    return Answer("no limit" if soft < 0 else f"up to {soft:,} at a time")


def _locale() -> Answer:
    encoding = locale.nl_langinfo(locale.CODESET) or "none"
    if re.sub("[^A-Z0-9]", "", encoding.upper()) != "UTF8":
        return Answer(f"{encoding}: Java is started with C.UTF-8, so that it can open all files", WARNING)
    return Answer(encoding)


def _time_zone() -> Answer:
    return Answer(
        f"{'/'.join(dict.fromkeys(time.tzname))} here; Spark uses the key `timezone` (Europe/London unless you set it)"
    )
