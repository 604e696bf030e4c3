"""Read small published tables without Spark, as their publishers save them: in a ZIP archive, below title lines, with
semicolons or with a byte order mark."""

import csv
import gzip
import io
import zipfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from ebi_spark.errors import InputError

# No published table of people by area, or of practices, is larger when unpacked.
MOST_BYTES = 256_000_000
# The most lines of titles and notes above a table.
_TITLE_LINES = 50
_DELIMITERS = ",;\t|"
_WORKBOOK = "[Content_Types].xml"
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True)
class PublishedTable:
    """A table as published.

    ``header``: the column names, after ``alike`` of :func:`read_table`. ``line``: the line number of the header.
    ``rows``: (line number, cells) of every later line that is not blank. ``titles``: the text above the header.
    """

    header: tuple[str, ...]
    line: int
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    titles: str

    def records(self) -> list[tuple[int, dict[str, str]]]:
        """(line number, cells by column name) of each row; a missing cell is an empty text."""
        blank = ("",) * len(self.header)
        return [(line, dict(zip(self.header, (*cells, *blank), strict=False))) for line, cells in self.rows]


def plain_name(name: str) -> str:
    """A column name in upper case, without spaces around it."""
    return name.strip().upper()


def read_table(
    path: Path, what: str, wanted: Collection[str], alike: Callable[[str], str] = plain_name
) -> PublishedTable:
    """The table in a published file.

    The header and delimiter are those with which most of the ``wanted`` columns are found among the first lines.
    ``alike`` brings column names into one form. The caller checks whether a column is missing; a wanted column that
    appears twice raises an :class:`InputError`.
    """
    text = text_of(path, what)
    names = {*wanted}
    best: tuple[int, str, int] | None = None
    for delimiter in _DELIMITERS:
        for number, (_, cells) in enumerate(islice(_lines(text, delimiter, what), _TITLE_LINES)):
            found = len(names & {alike(cell) for cell in cells})
            if best is None or found > best[0]:
                best = (found, delimiter, number)
    if best is None:
        raise InputError(f"{what} is empty", remedy="replace the file with a complete copy")
    _, delimiter, place = best
    lines = list(_lines(text, delimiter, what))
    line, header = lines[place]
    columns = tuple(alike(name) for name in header)
    twice = sorted(name for name in names if columns.count(name) > 1)
    if twice:
        raise InputError(f"{what}, line {line}: the column {twice[0]} appears twice", remedy="give each column once")
    titles = "\n".join(" ".join(cells) for _, cells in lines[:place])
    return PublishedTable(columns, line, tuple(lines[place + 1 :]), titles)


def read_lines(path: Path, what: str) -> list[tuple[int, tuple[str, ...]]]:
    """(line number, cells) of each line that is not blank, in a comma-separated file without a header row."""
    return list(_lines(text_of(path, what), ",", what))


def _lines(text: str, delimiter: str, what: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            cells = tuple(cell.strip() for cell in row)
            if any(cells):
                yield reader.line_num, cells
    except csv.Error:
        raise InputError(
            f"{what}, line {reader.line_num} cannot be read as CSV", remedy="save the table as CSV (UTF-8)"
        ) from None


def text_of(path: Path, what: str) -> str:
    """The text of a file, unpacked if it is a ZIP archive with one CSV file or is packed with gzip."""
    try:
        if not path.is_file():
            raise InputError(f"{what}: there is no such file", remedy="correct the path")
        with path.open("rb") as file:
            data = _limited(file, what)
        if data.startswith(_OLD_WORKBOOK):
            raise _is_workbook(what)
        if data.startswith(b"PK\x03\x04"):
            data = _only_member(data, what)
        elif data.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as unpacked:
                data = _limited(unpacked, what)
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
        raise InputError(f"{what} cannot be read ({type(error).__name__})", remedy="give a readable file") from None
    # Spreadsheet programs save UTF-8, UTF-16 ("Unicode text") or, for names with accents, Windows-1252.
    utf_16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if utf_16 else ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InputError(f"{what} is not text", remedy="save the table as CSV (UTF-8)")


def _limited(file: IO[bytes] | gzip.GzipFile, what: str) -> bytes:
    data: bytes = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise InputError(
            f"{what} has more than {MOST_BYTES:,} bytes, packed or unpacked", remedy="check that it is the right file"
        )
    return data


def _only_member(data: bytes, what: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if _WORKBOOK in names:
            raise _is_workbook(what)
        tables = [name for name in names if name.lower().endswith(".csv") and not name.startswith("__MACOSX/")]
        if len(tables) != 1:
            listed = ", ".join(sorted(tables)[:4]) or "no CSV file"
            raise InputError(
                f"{what} is a ZIP archive with {len(tables)} CSV files ({listed})",
                remedy="unpack it and give the path of the right file",
            )
        with archive.open(tables[0]) as member:
            return _limited(member, what)


def _is_workbook(what: str) -> InputError:
    return InputError(f"{what} is an Excel workbook", remedy="save the sheet that has the table as CSV (UTF-8)")
