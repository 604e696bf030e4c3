"""Watch source files while they are read: name the file that breaks a run, and notice a file that changes.

Spark reads a file several times, and reads plain text only up to the length the file had when it was listed. A file
that is replaced or shortened meanwhile would give too few rows, or rows of two versions, without any error.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import BrokenRunError, EbiError, InputError
from ebi_spark.sources.file_inventory import FindFiles, existing_paths, files_below, find_files, is_remote, within
from ebi_spark.sources.text_scan import WHOLE_COPY

# How Spark's errors name a file: as a URL, or as a Java path.
_NAMED = re.compile(r"(?:reading file|File does not exist:|FileNotFoundException: File)\s+(?:file:)?/*(/.*)")
_STILL = "make sure that nothing writes to the source files during a run, then run the same command again"

State = Mapping[str, tuple[int, int, int] | None]


def state_of(paths: Iterable[str]) -> State:
    """Size, time of change and inode of each local file and of each file in a local folder; None for a missing file."""
    return {str(file): _stated(file) for path in paths if not is_remote(path) for file in files_below(path)}


def _stated(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def refuse_changed(before: State) -> None:
    """Raise an :class:`InputError` if a file has changed; nothing was replaced by rows read from it."""
    changed = _changed(before)
    if changed:
        raise InputError(f"{changed}; nothing in the lake was replaced by its rows", remedy=_STILL)


def _changed(before: State) -> str | None:
    for path, state in before.items():
        now = _stated(Path(path))
        if now != state:
            what = "is gone: it was deleted or moved" if now is None else "was replaced or written to"
            return f"{path} {what} while it was read"
    return None


@contextmanager
def watched(config: RunConfig, written: Mapping[str, int], find: FindFiles = find_files) -> Iterator[None]:
    """While the sources are read, turn an error in a source file, or a change of it, into an error that names the file.

    The exit status is 2 if nothing was ``written`` (Delta versions by table) yet, otherwise 3. Spark's own message can
    contain rows, so only a path is taken from it, and only if it is one of the configured files.
    """
    paths = existing_paths(config.record_sources, find)
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
            # A file name can have spaces or end with a full stop, so its end is found by comparing it with known names.
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
        f"{what}; the run failed part-way: what was committed stays, and so does the old release", remedy=remedy
    )
