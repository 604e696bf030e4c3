"""Finding the files of a source table and seeing how each is written, before Spark reads a row."""

import csv
import glob
import os
import re
from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.lib import ArrowException

from ebi_spark.config.settings import RunConfig, Source, TableSource
from ebi_spark.errors import InputError
from ebi_spark.quoting import refuse_unusable
from ebi_spark.small_files import refuse_special, special_kind
from ebi_spark.sources.layouts import Layout
from ebi_spark.sources.text_scan import OPENERS, WHOLE_COPY, is_plain, most_of_a_line

DELIMITERS = (",", "|", "\t", ";")
_HEAD_BYTES = 1 << 20
# How many times larger than its file a table of this ending is, roughly.
_PACKED = {".parquet": 4, ".gz": 5, ".bz2": 7}
# No writer puts so much of one column into one row group, and Java has no array for it.
_PART_BYTES = 1 << 30
_AS_UTF8 = "save it as UTF-8 (`iconv -f utf-16 -t utf-8`)"
_UNPACK = "unpack it, or pack it with gzip under a name that ends in .gz"
# First bytes of files that are no plain text, what they are and what to do.
_OTHER_FORMATS = (
    (b"\xff\xfe", "UTF-16 text", _AS_UTF8),
    (b"\xfe\xff", "UTF-16 text", _AS_UTF8),
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", "save the sheet as CSV"),
    (b"\x1f\x8b", "packed with gzip, and its name does not say so", "let its name end in .gz"),
    (b"BZh", "packed with bzip2, and its name does not say so", "let its name end in .bz2"),
    (b"\xfd7zXZ", "packed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", _UNPACK),
)


@dataclass(frozen=True)
class FileFormat:
    """How a group of files is written: format, columns in order and, for CSV, delimiter and header row. Names of CSV
    columns are in upper case, so that files that differ in case alone are one group; Parquet files of one group have the
    same types too, and of text files either all or none have lines that need a second look."""

    format: str
    columns: tuple[str, ...]
    delimiter: str = ","
    header: bool = True
    types: tuple[str, ...] = ()
    plain: bool = False  # no line of text needs a second look


def is_remote(path: str) -> bool:
    """Whether a path names a store that Python's file functions do not reach."""
    return "://" in path or path.startswith("dbfs:")


def within(path: str, stated: str) -> bool:
    """Whether a file is the one that a configuration states, or lies in the folder that it states."""
    return path == stated or path.startswith(f"{stated.rstrip('/')}/")


def stated_for(path: str, stated: Container[str]) -> str | None:
    """The one among many files and folders, as a configuration states them, that a local file is or lies in."""
    while path and path not in stated:
        path = path.rpartition("/")[0]
    return path or None


def is_configured(path: str, sources: Iterable[Source]) -> bool:
    """Whether a file, or a table of a catalogue, is one that the configuration names, by its path, its folder or a pattern,
    whether or not it is there."""
    named = [table for source in sources for table in source.tables.values()]
    return any(
        path == table.table or any(_matches(path.split("/"), _spelt(stated).split("/")) for stated in table.paths)
        for table in named
    )


def _spelt(stated: str) -> str:
    return stated if is_remote(stated) else os.path.normpath(stated)


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Whether a path is what a pattern names, or lies in a folder that it names."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matches(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def source_bytes(config: RunConfig) -> int | None:
    """How large the sources are, as text and roughly; None where they are not all local files."""
    size = 0
    for source in config.sources:
        for role, table in source.tables.items():
            if table.table or any(is_remote(path) for path in table.paths):
                return None
            try:
                found = find_files(table, f"sources.{source.name}.{role}")
            except InputError:
                continue  # said when it is read
            for path in found:
                for file in files_below(path):
                    with suppress(OSError):  # said when it is read
                        size += file.stat().st_size * _PACKED.get(file.suffix, 1)
    return size


def files_below(path: str) -> list[Path]:
    """A file, or all files of a folder that can be seen, sorted."""
    if not Path(path).is_dir():
        return [Path(path)]
    return sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)


def stored_bytes(lake: Path) -> int:
    """How large the records of a local lake are, as text and roughly; old versions count, which errs upwards."""
    files = (file for file in (lake / "silver").rglob("*.parquet"))
    return sum(file.stat().st_size for file in files) * _PACKED[".parquet"]


def find_files(source: TableSource, where: str) -> list[str]:
    """The files or folders that the source's paths and globs name, sorted; none at all is an error, and so is what is
    neither: a pipe or a device has no end."""
    found: set[str] = set()
    headers = os.path.realpath(source.headers_file) if source.headers_file else None
    for path in source.paths:
        if is_remote(path):
            found.add(path)
            continue
        # A name with a bracket that is there is that file's; else it is a pattern.
        pattern = glob.has_magic(path) and not os.path.lexists(path)
        matches = sorted(glob.glob(path, recursive=True)) if pattern else [path]
        # Spelt as Spark names the file of a row, without ``..``: what is known of a file is known by its path.
        matches = [
            os.path.normpath(match)
            for match in matches
            if _is_there(match, where) and os.path.realpath(match) != headers
        ]
        if not matches:
            what = "no file matches" if pattern else "there is no file"
            raise InputError(
                f"{where}: {what} {path}", remedy="correct the path; it is taken relative to the configuration file"
            )
        found.update(matches)
    return sorted(found)


def _is_there(path: str, where: str) -> bool:
    """Whether there is a file or folder of that name; an :class:`InputError` where it is something else, or cannot be read
    because of what it is called."""
    try:
        kind = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if not Path(path).is_symlink():
            return False
        raise InputError(
            f"{where}: {path} is a link that leads nowhere",
            remedy="remove it, or put the file there that it points to",
        ) from None
    except OSError as error:
        raise _unopened(path, error, where) from None
    refuse_unusable(f"{where}: the name of a file", path)
    special = special_kind(kind)
    if special:
        raise InputError(
            f"{where}: {path} is {special}",
            remedy="name ordinary files, or a pattern that leaves it out: nothing else has an end",
        )
    return True


def forms_of(path: str, source: TableSource, layout: Layout, where: str, config: RunConfig) -> dict[str, FileFormat]:
    """How a local file is written, from the configuration or from its own first bytes; of a folder every file, by path.

    The files of a folder that are all of one form stand under the folder's path, so that the names of its subfolders
    (``fyear=2122``) stay columns. A Delta table is one.
    """
    kind = source.format or _guess_format(path, where)
    if kind == "delta":
        return {path: FileFormat("delta", ())}
    files = _files_in(path, kind, source, layout, where)
    forms = {}
    for file in files:
        form = _form_of(file, kind, source, layout, where)
        if len(form.columns) > config.max_columns:
            raise InputError(
                f"{where}: {file} has {len(form.columns):,} columns, more than the {config.max_columns:,} that the "
                "configuration allows",
                remedy="check the delimiter; if the file is right, raise `max_columns`",
            )
        if form.format == "csv":
            encoding = source.encoding or "utf-8"
            keys = layout.key_names(source.columns)
            form = replace(form, plain=is_plain(file, keys, form.header, encoding, config.max_field_bytes, where))
        else:
            _refuse_huge_values(file, most_of_a_line(config.max_field_bytes), where)
        forms[file] = form
    alike = set(forms.values())
    return {path: alike.pop()} if len(alike) == 1 and kind == "parquet" else forms


def _form_of(path: str, kind: str, source: TableSource, layout: Layout, where: str) -> FileFormat:
    try:
        return _parquet_form(path, where) if kind == "parquet" else _csv_form(path, source, layout, where)
    except (ArrowException, OSError, UnicodeDecodeError, EOFError, csv.Error) as error:
        raise InputError(
            f"{where}: {path} cannot be read as {kind} ({type(error).__name__})",
            remedy="replace the file with a whole copy, or state its `format`",
        ) from None


def _guess_format(path: str, where: str) -> str:
    place = Path(path)
    if place.is_dir():
        if (place / "_delta_log").is_dir():
            return "delta"
        return "parquet" if next(place.rglob("*.parquet"), None) else "csv"
    try:
        with place.open("rb") as file:
            return "parquet" if file.read(4) == b"PAR1" or path.endswith(".parquet") else "csv"
    except OSError as error:
        raise _unopened(path, error, where) from None


def _files_in(path: str, kind: str, source: TableSource, layout: Layout, where: str) -> list[str]:
    """The files that Spark would read of a path: of a folder all but hidden and empty ones; a list of headers beside
    rows of CSV is none of them."""
    place = Path(path)
    if place.is_file():
        return [path]
    ending = ".parquet" if kind == "parquet" else ""
    files = [
        str(file)
        for file in _walked(place, where)
        if file.name.endswith(ending) and _is_there(str(file), where) and file.is_file() and file.stat().st_size
    ]
    if kind == "csv":
        headers = source.headers_file or _headers_beside(path, layout.known_names())
        files = [file for file in files if not headers or Path(file).resolve() != Path(headers).resolve()]
    if not files:
        raise InputError(f"{where}: the folder {path} holds no file", remedy="correct the path")
    return files


def _walked(place: Path, where: str) -> list[Path]:
    """What is in a folder and the folders in it, without what is hidden; an :class:`InputError` where one cannot be looked
    into, or is the link to another: Spark would follow it."""

    def unopened(error: OSError) -> None:
        raise _unopened(str(error.filename), error, where)

    found: list[Path] = []
    for folder, folders, names in os.walk(place, onerror=unopened):
        folders[:] = [name for name in folders if not name.startswith(("_", "."))]
        linked = next((Path(folder, name) for name in folders if Path(folder, name).is_symlink()), None)
        if linked:
            raise InputError(
                f"{where}: {linked} is a link to a folder, and its files would not be read",
                remedy="name that folder as a path of its own, and take the link out",
            )
        found += [Path(folder, name) for name in names if not name.startswith(("_", "."))]
    return sorted(found)


def _unopened(path: str, error: OSError, where: str) -> InputError:
    return InputError(
        f"{where}: {path} cannot be opened ({error.strerror})", remedy="correct the path or the rights to it"
    )


def _parquet_form(path: str, where: str) -> FileFormat:
    schema = pq.read_metadata(path).schema
    leaves = [schema.column(number) for number in range(len(schema))]
    for leaf in leaves:
        kind = leaf.logical_type.type
        if kind in ("TIME", "FLOAT16") or (kind == "TIMESTAMP" and "nanoseconds" in str(leaf.logical_type)):
            told = "a time stamp in nanoseconds" if kind == "TIMESTAMP" else f"of type {kind}"
            raise InputError(
                f"{where}: {path}: the column {leaf.path} is {told}, which Spark does not read",
                remedy=f"write {leaf.path} as DATE, as a time stamp in microseconds or as text, or leave it out",
            )
    types = tuple(f"{leaf.path} {leaf.physical_type} {leaf.logical_type}" for leaf in leaves)
    return FileFormat("parquet", tuple(schema.to_arrow_schema().names), types=types)


def _refuse_huge_values(path: str, most: int, where: str) -> None:
    """An :class:`InputError` where a Parquet file has a value that Java would not survive. Only where a column's part is large
    enough to have one are its values looked at."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.metadata.num_row_groups):
                described = file.metadata.row_group(group)
                for number in range(described.num_columns):
                    part = described.column(number)
                    if part.physical_type != "BYTE_ARRAY" or part.total_uncompressed_size <= most:
                        continue
                    if part.total_uncompressed_size > _PART_BYTES or _longest(file, group, part.path_in_schema) > most:
                        raise InputError(
                            f"{where}: {path}: the column {part.path_in_schema} has a value of more than {most:,} bytes, or a "
                            f"row group with more than {_PART_BYTES:,} bytes of it",
                            remedy="check that it is the right column, and write the file again without it or in smaller row "
                            "groups",
                        )
    except (ArrowException, OSError) as error:
        raise InputError(
            f"{where}: {path} cannot be read to its end ({type(error).__name__}); nothing was written",
            remedy=WHOLE_COPY,
        ) from None


def _longest(file: pq.ParquetFile, group: int, column: str) -> int:
    """Bytes of the longest value of a column in one row group."""
    longest = 0
    for batch in file.iter_batches(batch_size=1 << 14, row_groups=[group], columns=[column]):
        values = batch.column(0)
        while isinstance(values, pa.ListArray | pa.LargeListArray):
            values = values.flatten()
        if isinstance(values, pa.StringArray | pa.BinaryArray | pa.LargeStringArray | pa.LargeBinaryArray):
            longest = max(longest, pc.max(pc.binary_length(values)).as_py() or 0)
    return longest


def _head(path: str, encoding: str, where: str) -> list[str]:
    """The first two lines of a text file (gzip and bzip2 understood) that are not blank; a file that is no text that
    can be read is refused by what it is."""
    with OPENERS.get(Path(path).suffix, open)(path, "rb") as file:
        data: bytes = file.read(_HEAD_BYTES)
    for first, what, remedy in _OTHER_FORMATS:
        if data.startswith(first):
            raise InputError(f"{where}: {path} cannot be read: it is {what}", remedy=remedy)
    # Line ends as Spark sees them; Python's splitlines knows more. A line that the head cuts tells nothing.
    parts = re.split(rb"\r\n|\r|\n", data)
    whole = parts[:-1] if len(data) == _HEAD_BYTES and len(parts) > 1 else parts
    lines = [line for line in whole if line.strip(b"\x1a\x00 \t")]
    if lines and b"\x00" in lines[0]:
        raise InputError(
            f"{where}: {path} cannot be read: NUL bytes stand in its first line, so it is UTF-16 text, or damaged",
            remedy=f"{_AS_UTF8}, or replace the file with a whole copy",
        )
    if len(data) == _HEAD_BYTES and len(parts) == 1:
        raise InputError(
            f"{where}: {path} cannot be read: its first line does not end within {_HEAD_BYTES:,} bytes",
            remedy="check that the file is a table with a row a line",
        )
    name = "utf-8-sig" if encoding == "utf-8" else encoding
    return [line.decode(name, errors="replace") for line in lines[:2]]


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _csv_form(path: str, source: TableSource, layout: Layout, where: str) -> FileFormat:
    lines = _head(path, source.encoding or "utf-8", where)
    if not lines:
        raise InputError(f"{where}: {path} is empty", remedy="replace the file, or take it out of the configuration")
    known = layout.known_names() | {name.upper() for name in source.columns.values()}
    choices = [source.delimiter] if source.delimiter else list(DELIMITERS)
    best = max(choices, key=lambda d: sum(cell.upper() in known for cell in _cells(lines[0], d)))
    columns = _cells(lines[0], best)
    hits = sum(name.upper() in known for name in columns)
    header = source.header if source.header is not None else hits >= min(len(columns), 2)
    near = max(DELIMITERS, key=lambda d: sum(cell.upper() in known for cell in _cells(lines[0], d)))
    better = sum(cell.upper() in known for cell in _cells(lines[0], near)) > max(hits, 1)
    if hits == 0 and (header or better):
        raise InputError(
            f"{where}: {path}: no known column in the first line as read with delimiter {best!r}",
            remedy=f"write `delimiter: {near!r}`"
            if better
            else "check that this is the right table and that it has a header row",
        )
    if header:
        rows = lines[1:]
    else:
        if not source.delimiter:
            best = max(DELIMITERS, key=lambda d: len(_cells(lines[0], d)))
        headers_file = source.headers_file or _headers_beside(path, known)
        if headers_file is None:
            raise InputError(
                f"{where}: {path} has no header row and no headers file is named",
                remedy="name the file that lists its columns: `headers_file: …`",
            )
        columns = _headers(headers_file, known, where)
        rows = lines[:1]
    first = _cells(rows[0], best) if rows else columns
    # A delimiter behind the last field, in the rows or in the header alone: a column without a name, or none.
    if len(first) == len(columns) + 1 and not first[-1]:
        columns = [*columns, ""]
    elif len(first) == len(columns) - 1 and not columns[-1]:
        columns = columns[:-1]
    if not header and len(first) != len(columns):
        raise InputError(
            f"{where}: {path} has {len(first)} columns as read with delimiter {best!r}, its headers file names "
            f"{len(columns)}",
            remedy="give the headers file that belongs to it, or its `delimiter`",
        )
    return FileFormat("csv", tuple(name.upper() for name in columns), best, header)


def _headers(path: str, known: set[str], where: str) -> list[str]:
    """Column names of a headers file: one line with any delimiter, or one name a line."""
    refuse_special(Path(path), f"{where}: the headers file ", _HEAD_BYTES)
    try:
        lines = [line for line in Path(path).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{where}: the headers file {path} cannot be read", remedy="correct `headers_file`") from None
    if len(lines) > 1:
        return [line.strip().strip(",|;") for line in lines]
    best = max(DELIMITERS, key=lambda d: sum(cell.upper() in known for cell in _cells(lines[0], d))) if lines else ","
    return _cells(lines[0], best) if lines else []


def _headers_beside(path: str, known: set[str]) -> str | None:
    """A file beside ``path`` whose name says header and whose words are known columns."""
    place = Path(path)
    folder = place if place.is_dir() else place.parent
    for candidate in sorted(folder.glob("*[hH]eader*")):
        if candidate.is_file() and sum(n.upper() in known for n in _headers(str(candidate), known, "")) >= 2:
            return str(candidate)
    return None
