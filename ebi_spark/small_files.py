"""Small CSV files, the product's own or the user's, read as dictionaries without Spark."""

import csv
import glob
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ebi_spark.errors import InputError

# A table of practices or areas has a few megabytes and is read whole into memory.
MOST_BYTES = 1 << 29


def refuse_special(path: Path, what: str, most_bytes: int | None = MOST_BYTES) -> None:
    """Raise an :class:`InputError` that begins with ``what`` if a file must not be read.

    That is a pipe, device or socket, which has no end, or a file larger than its kind ever is. A missing file raises
    nothing: the caller finds out when opening it.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return
    kind = special_kind(found.st_mode)
    if kind:
        raise InputError(f"{what}{path} is {kind}", remedy="give an ordinary file")
    if most_bytes is not None and stat.S_ISREG(found.st_mode) and found.st_size > most_bytes:
        raise InputError(
            f"{what}{path} has {found.st_size:,} bytes; a file of its kind may not have more than {most_bytes:,} bytes",
            remedy="check that it is the right file",
        )


def named_files(path: Path) -> list[Path]:
    """The files that a path means, in order: those that match if its name is a pattern (``people_*.csv``). A path that is no pattern,
    or a file of that very name, means itself, whether it exists or not."""
    if glob.has_magic(path.name) and not os.path.lexists(path):
        return sorted(path.parent.glob(path.name))
    return [path]


def special_kind(mode: int) -> str | None:
    """What a path is, in words, if it is neither a file nor a folder; otherwise None."""
    if stat.S_ISFIFO(mode):
        return "a named pipe (FIFO)"
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return "a device"
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "a socket"


def read_rows(path: Path, required: Iterable[str] = ()) -> list[dict[str, str]]:
    """The rows of a small CSV file as dictionaries by column name. Every value is text, and an empty cell is an empty text. A cell
    that is missing at the end of a line is None.

    Raises an :class:`InputError` if the file cannot be read, or if ``required`` columns are named and one is missing.
    """
    refuse_special(path, "")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__})", remedy="give a readable CSV file") from None
    missing = [name for name in required if not rows or name not in rows[0]]
    if missing:
        raise InputError(
            f"{path}: the column {missing[0]} is missing, or the file has no rows", remedy=f"add {missing[0]}"
        )
    return rows
