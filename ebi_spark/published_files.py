"""Small tables as their publishers save them, read on the driver: in a ZIP archive, below title lines, with semicolons or a
byte order mark."""

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

# No published table of people by area, or of practices, is larger once unpacked.
MOST_BYTES = 256_000_000
# Titles and notes that stand above a table.
_TITLE_LINES = 50
_DELIMITERS = ",;\t|"
_WORKBOOK = "[Content_Types].xml"
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True)
class PublishedTable:
    """``header``: the column names as :func:`read_table` made them alike, ``line`` the header's line in the file, ``rows``
    every later line that is not blank, with its number, ``titles`` the text above the header."""

    header: tuple[str, ...]
    line: int
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    titles: str

    def records(self) -> list[tuple[int, dict[str, str]]]:
        """The rows by column name, each with its line; an absent field is empty."""
        blank = ("",) * len(self.header)
        return [(line, dict(zip(self.header, (*cells, *blank), strict=False))) for line, cells in self.rows]


def plain_name(name: str) -> str:
    """A column name in upper case, without blanks around."""
    return name.strip().upper()


def read_table(
    path: Path, what: str, wanted: Collection[str], alike: Callable[[str], str] = plain_name
) -> PublishedTable:
    """The table in a published file. Its header is the line, and its delimiter the one, that has most of the columns
    ``wanted`` (which of them are missing is for the caller to say)."""
    text = text_of(path, what)
    names = {*wanted}
    best: tuple[int, str, int] | None = None
    for delimiter in _DELIMITERS:
        for number, (_, cells) in enumerate(islice(_lines(text, delimiter, what), _TITLE_LINES)):
            found = len(names & {alike(cell) for cell in cells})
            if best is None or found > best[0]:
                best = (found, delimiter, number)
    if best is None:
        raise InputError(f"{what} is empty", remedy="give the file again")
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
    """The lines of a comma-separated file without a header row that are not blank, each with its number."""
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
    """The text of a file, unpacked where it is a ZIP archive of one CSV file or packed with gzip."""
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
    # Spreadsheets save UTF-8, UTF-16 ("Unicode text") or, for names with accents, Windows-1252.
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
                remedy="unpack it and give the path of the file that is wanted",
            )
        with archive.open(tables[0]) as member:
            return _limited(member, what)


def _is_workbook(what: str) -> InputError:
    return InputError(f"{what} is a workbook", remedy="save the sheet that has the table as CSV (UTF-8)")
