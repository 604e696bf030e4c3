"""Source files while they are read: the one that breaks a run is named, and one that changes is noticed.

Spark reads a file several times and, of plain text, no further than the length it was listed with. One that is replaced or
cut short meanwhile would give fewer rows, or those of two states, without any error.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import BrokenRunError, EbiError, InputError
from ebi_spark.sources.file_inventory import files_below, find_files, is_remote, within
from ebi_spark.sources.text_scan import WHOLE_COPY

# How an error of Spark names the file: as a URL, or as Java writes one.
_NAMED = re.compile(r"(?:reading file|File does not exist:|FileNotFoundException: File)\s+(?:file:)?/*(/.*)")
_STILL = "let nothing write to the source files while they are read, then make the same call again"

State = Mapping[str, tuple[int, int, int] | None]


def state_of(paths: Iterable[str]) -> State:
    """Size, time and identity of each local file, and of each file of a folder."""
    found: dict[str, tuple[int, int, int] | None] = {}
    for path in paths:
        if is_remote(path):
            continue
        found |= {str(file): _stated(file) for file in files_below(path)}
    return found


def _stated(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def refuse_changed(before: State) -> None:
    """An :class:`InputError` when a file is not what it was; nothing has been replaced by what was read of it."""
    changed = _changed(before)
    if changed:
        raise InputError(f"{changed}; nothing was replaced by what was read of it", remedy=_STILL)


def _changed(before: State) -> str | None:
    for path, state in before.items():
        now = _stated(Path(path))
        if now != state:
            what = "is gone: it was deleted or moved" if now is None else "was replaced or written to"
            return f"{path} {what} while it was read"
    return None


def paths_of(config: RunConfig) -> list[str]:
    """All files and folders that the configuration's sources name and that are there."""
    found: list[str] = []
    for source in config.sources:
        for role, table in source.tables.items():
            try:
                found += [] if table.table else find_files(table, f"sources.{source.name}.{role}")
            except InputError:
                continue  # said when it is read
    return found


@contextmanager
def watched(config: RunConfig, written: Mapping[str, int]) -> Iterator[None]:
    """While the sources are read: what keeps one of them from being read to its end becomes an error that names it.

    Status 2 while ``written`` (versions by table) is empty, 3 once something stands. Of the engine's own text, which can
    hold rows, only the path is looked for, and told only where it is one of the configuration's files.
    """
    paths = paths_of(config)
    before = state_of(paths)
    try:
        yield
    except EbiError:
        raise
    except Exception as error:
        changed = _changed(before)
        broken = _named_in(error, before, paths)
        if changed:
            raise _error(changed, _STILL, written) from error
        if broken:
            raise _error(f"{broken} cannot be read to its end", WHOLE_COPY, written) from error
        raise
    changed = _changed(before)
    if changed:
        raise _error(changed, _STILL, written)


def _named_in(error: BaseException, known: State, paths: list[str]) -> str | None:
    for found in _NAMED.findall(str(error)):
        for text in (found, unquote(found)):
            # A name can have blanks and end with a full stop, so what is known says where it ends.
            named = max((path for path in known if text.startswith(path)), key=len, default=None)
            if named:
                return named
            path = text.split(maxsplit=1)[0].rstrip("/.,")
            if any(within(path, stated) for stated in paths):
                return path
    return None


def _error(what: str, remedy: str, written: Mapping[str, int]) -> EbiError:
    if not written:
        return InputError(f"{what}; nothing was written", remedy=remedy)
    return BrokenRunError(
        f"{what}; the run broke midway: what was committed stands and the old release with it", remedy=remedy
    )
