"""Find the files of a source table and detect the format of each, before Spark reads a row."""

import csv
import glob
import os
import re
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.lib import ArrowException

from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import Source, TableSource
from ebi_spark.errors import InputError
from ebi_spark.quoting import refuse_unusable
from ebi_spark.small_files import refuse_special, special_kind
from ebi_spark.sources.layouts import Layout
from ebi_spark.sources.text_scan import OPENERS, WHOLE_COPY, is_plain, most_of_a_line

DELIMITERS = (",", "|", "\t", ";")
_HEAD_BYTES = 1 << 20
# Roughly how many times larger a table is than its file, by the ending of the file name.
_PACKED = {".parquet": 4, ".gz": 5, ".bz2": 7}
# The most bytes of one column in one row group of Parquet. No usual writer makes more, and a Java array cannot be
# larger.
_PART_BYTES = 1 << 30
_AS_UTF8 = "save it as UTF-8 (`iconv -f utf-16 -t utf-8`)"
_UNPACK = "unpack it, or pack it with gzip under a name that ends in .gz"
# Files that are not plain text: their first bytes, what they are, and the remedy.
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
# How a run finds the files of a source: by :func:`find_files`, or as they were found before.
FindFiles = Callable[[TableSource, str], list[str]]


@dataclass(frozen=True)
class FileFormat:
    """The format of a group of files: kind, columns in order and, for CSV, delimiter and header row.

    CSV column names are in upper case, so that files that differ only in case are one group. Parquet files of one group
    also have the same types. In a group of text files, either each of them may have lines that have to be checked again after
    parsing, or none has such lines.
    """

    format: str
    columns: tuple[str, ...]
    delimiter: str = ","
    header: bool = True
    types: tuple[str, ...] = ()
    plain: bool = False  # no line has to be checked again after parsing


def group_by_format(found: Iterable[tuple[str, str, FileFormat]]) -> dict[tuple[FileFormat, str], list[str]]:
    """Files of one format together. ``found``: (path that the configuration states, file, its format). Parquet files of a folder are
    grouped with the folder, because Spark reads the names of its subfolders as columns; for other files it is empty.

    | path | file        | format  | → format, folder | files                    |
    |------|-------------|---------|------------------|--------------------------|
    | a    | a/1.parquet | parquet | parquet, a       | a/1.parquet, a/2.parquet |
    | a    | a/2.parquet | parquet |                  |                          |
    | b    | b/1.csv     | csv     | csv, (empty)     | b/1.csv                  |
    """
    groups: dict[tuple[FileFormat, str], list[str]] = {}
    for path, file, form in found:
        base = path if form.format == "parquet" and file != path else ""
        groups.setdefault((form, base), []).append(file)
    return groups


def is_remote(path: str) -> bool:
    """Whether a path is in a store that Python's file functions cannot read."""
    return "://" in path or path.startswith("dbfs:")


def within(path: str, stated: str) -> bool:
    """Whether a file is the path that a configuration states, or is in the folder that it states."""
    return path == stated or path.startswith(f"{stated.rstrip('/')}/")


def stated_for(path: str, stated: Container[str]) -> str | None:
    """Which of the ``stated`` files and folders of a configuration a local file is, or is in; None if none."""
    while path and path not in stated:
        path = path.rpartition("/")[0]
    return path or None


def is_configured(path: str, sources: Iterable[Source]) -> bool:
    """Whether the configuration names a file (by path, folder or pattern) or a catalogue table. It need not exist."""
    named = [table for source in sources for table in source.tables.values()]
    return any(
        path in table.catalogue_tables
        # A name with brackets can be a pattern or a file of that very name.
        or any(within(path, name) or _matches(path.split("/"), name.split("/")) for name in map(_spelt, table.paths))
        for table in named
    )


def _spelt(stated: str) -> str:
    return stated if is_remote(stated) else os.path.normpath(stated)


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Whether a path matches a pattern, or is in a folder that matches it. Both are split at slashes."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matches(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def source_bytes(config: RunConfig, find: FindFiles | None = None) -> int | None:
    """Roughly how large the sources are as text, in bytes. None if not all of them are local files."""
    tables = [table for source in config.sources for table in source.tables.values()]
    if any(table.catalogue_tables or any(map(is_remote, table.paths)) for table in tables):
        return None
    size = 0
    for path in existing_paths(config.sources, find or find_files):
        for file in files_below(path):
            with suppress(OSError):  # reported when the file is read
                size += file.stat().st_size * _PACKED.get(file.suffix, 1)
    return size


def existing_paths(sources: Iterable[Source], find: FindFiles) -> list[str]:
    """All existing files and folders that sources name."""
    found: list[str] = []
    for source in sources:
        for role, table in source.tables.items():
            with suppress(InputError):  # it is raised again when the table is read
                found += [] if table.catalogue_tables else find(table, f"sources.{source.name}.{role}")
    return found


def files_below(path: str) -> list[Path]:
    """The file itself, or all readable files in a folder, sorted."""
    if not Path(path).is_dir():
        return [Path(path)]
    return sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)


def stored_bytes(lake: Path) -> int:
    """Roughly how large the records of a local lake are as text, in bytes. Old versions are included, so it errs
    upwards."""
    return sum(file.stat().st_size for file in (lake / "silver").rglob("*.parquet")) * _PACKED[".parquet"]


def find_files(source: TableSource, where: str) -> list[str]:
    """The files or folders that the paths and patterns of a source name, sorted.

    Raises an :class:`InputError` if there are none, or if one is neither file nor folder, such as a pipe or device.
    """
    found: set[str] = set()
    headers = os.path.realpath(source.headers_file) if source.headers_file else None
    for path in source.paths:
        if is_remote(path):
            found.add(path)
            continue
        # A path with brackets or stars is a pattern, unless a file with exactly that name exists.
        pattern = glob.has_magic(path) and not os.path.lexists(path)
        matches = sorted(glob.glob(path, recursive=True)) if pattern else [path]
        # Written as Spark names the file of a row, without ``..``, because files are compared by their path.
        matches = [
            os.path.normpath(match)
            for match in matches
            if _is_there(match, where) and os.path.realpath(match) != headers
        ]
        if not matches:
            what = "no file matches" if pattern else "there is no file"
            raise InputError(
                f"{where}: {what} {path}", remedy="correct the path; it is relative to the configuration file"
            )
        found.update(matches)
    return sorted(found)


def _is_there(path: str, where: str) -> bool:
    """Whether a file or folder exists. Raises an :class:`InputError` if it is something else, or its name cannot be
    used."""
    try:
        kind = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if not Path(path).is_symlink():
            return False
        raise InputError(
            f"{where}: {path} is a link to a file that does not exist",
            remedy="remove the link, or restore the file that it points to",
        ) from None
    except OSError as error:
        raise _cannot_open(path, error, where) from None
    refuse_unusable(f"{where}: the name of a file", path)
    special = special_kind(kind)
    if special:
        raise InputError(
            f"{where}: {path} is {special}",
            remedy="name ordinary files only, or a pattern that excludes it",
        )
    return True


def file_formats(
    path: str, source: TableSource, layout: Layout, where: str, config: RunConfig
) -> dict[str, FileFormat]:
    """The format of a local file, or of every file in a folder, by path: from the configuration, otherwise detected.

    If all Parquet files in a folder have one format, the result has only the folder, so that Spark reads the names of
    its subfolders (``fyear=2122``) as columns. A Delta table is one entry.
    """
    forms = file_headers(path, source, layout, where, config)
    for file, form in forms.items():
        if form.format == "csv":
            encoding = source.encoding or "utf-8"
            keys = layout.key_names(source.columns)
            plain = is_plain(file, keys, form.header, encoding, config.max_field_bytes, where)
            forms[file] = replace(form, plain=plain)
        elif form.format == "parquet":
            _refuse_huge_values(file, most_of_a_line(config.max_field_bytes), where)
    alike = set(forms.values())
    only = alike.pop() if len(alike) == 1 else None
    return {path: only} if only and only.format == "parquet" else forms


def file_headers(
    path: str, source: TableSource, layout: Layout, where: str, config: RunConfig
) -> dict[str, FileFormat]:
    """The format of each file by its header or schema alone, without a look at its rows. A Delta table is one entry
    without columns."""
    kind = source.format or _guess_format(path, where)
    if kind == "delta":
        return {path: FileFormat("delta", ())}
    forms = {}
    for file in _files_in(path, kind, source, layout, where):
        form = _file_format(file, kind, source, layout, where)
        if len(form.columns) > config.max_columns:
            raise InputError(
                f"{where}: {file} has {len(form.columns):,} columns, more than the {config.max_columns:,} that the "
                "configuration allows",
                remedy="check the delimiter; if the file is right, raise `max_columns`",
            )
        forms[file] = form
    return forms


def _file_format(path: str, kind: str, source: TableSource, layout: Layout, where: str) -> FileFormat:
    try:
        return _parquet_format(path, where) if kind == "parquet" else _csv_format(path, source, layout, where)
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
        raise _cannot_open(path, error, where) from None


def _files_in(path: str, kind: str, source: TableSource, layout: Layout, where: str) -> list[str]:
    """The files that Spark would read from a path: in a folder, all except hidden and empty files and a headers
    file."""
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
        raise InputError(f"{where}: the folder {path} has no files", remedy="correct the path")
    return files


def _walked(place: Path, where: str) -> list[Path]:
    """All files in a folder and its subfolders, without hidden ones. Raises an :class:`InputError` if a folder cannot
    be opened, or is a link to another folder (which Spark would follow)."""

    def unopened(error: OSError) -> None:
        raise _cannot_open(str(error.filename), error, where)

    found: list[Path] = []
    for folder, folders, names in os.walk(place, onerror=unopened):
        folders[:] = [name for name in folders if not name.startswith(("_", "."))]
        linked = next((Path(folder, name) for name in folders if Path(folder, name).is_symlink()), None)
        if linked:
            raise InputError(
                f"{where}: {linked} is a link to a folder, and its files would not be read",
                remedy="name that folder as a path of its own, and remove the link",
            )
        found += [Path(folder, name) for name in names if not name.startswith(("_", "."))]
    return sorted(found)


def _cannot_open(path: str, error: OSError, where: str) -> InputError:
    return InputError(
        f"{where}: {path} cannot be opened ({error.strerror})", remedy="correct the path or its permissions"
    )


def _parquet_format(path: str, where: str) -> FileFormat:
    schema = pq.read_metadata(path).schema
    leaves = [schema.column(number) for number in range(len(schema))]
    for leaf in leaves:
        kind = leaf.logical_type.type
        if kind in ("TIME", "FLOAT16") or (kind == "TIMESTAMP" and "nanoseconds" in str(leaf.logical_type)):
            type_text = "a time stamp in nanoseconds" if kind == "TIMESTAMP" else f"of type {kind}"
            raise InputError(
                f"{where}: {path}: the column {leaf.path} is {type_text}, which Spark cannot read",
                remedy=f"write {leaf.path} as DATE, as a time stamp in microseconds or as text, or leave it out",
            )
    types = tuple(f"{leaf.path} {leaf.physical_type} {leaf.logical_type}" for leaf in leaves)
    return FileFormat("parquet", tuple(schema.to_arrow_schema().names), types=types)


def _refuse_huge_values(path: str, most: int, where: str) -> None:
    """Raise an :class:`InputError` if a Parquet file has a value too large for Java's memory. Values are read only if a
    column chunk is large enough to contain one."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.metadata.num_row_groups):
                described = file.metadata.row_group(group)
                for part in map(described.column, range(described.num_columns)):
                    name, size = part.path_in_schema, part.total_uncompressed_size
                    if part.physical_type != "BYTE_ARRAY" or size <= most:
                        continue
                    if size > _PART_BYTES or _longest(file, group, name) > most:
                        raise InputError(
                            f"{where}: {path}: the column {name} has a value of more than {most:,} bytes, or a "
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
    """The length in bytes of the longest value of a column in one row group."""
    longest = 0
    for batch in file.iter_batches(batch_size=1 << 14, row_groups=[group], columns=[column]):
        values = batch.column(0)
        while isinstance(values, pa.ListArray | pa.LargeListArray):
            values = values.flatten()
        if isinstance(values, pa.StringArray | pa.BinaryArray | pa.LargeStringArray | pa.LargeBinaryArray):
            longest = max(longest, pc.max(pc.binary_length(values)).as_py() or 0)
    return longest


def _head(path: str, encoding: str, where: str) -> list[str]:
    """The first two lines of a text file that are not blank; gzip and bzip2 are unpacked. Raises an :class:`InputError`
    that says what the file is if it is not readable text."""
    with OPENERS.get(Path(path).suffix, open)(path, "rb") as file:
        data: bytes = file.read(_HEAD_BYTES)
    for first, what, remedy in _OTHER_FORMATS:
        if data.startswith(first):
            raise InputError(f"{where}: {path} cannot be read: it is {what}", remedy=remedy)
    # Only the line ends that Spark recognises; Python's splitlines has more. A line that is cut off at the end is
    # ignored.
    parts = re.split(rb"\r\n|\r|\n", data)
    whole = parts[:-1] if len(data) == _HEAD_BYTES and len(parts) > 1 else parts
    lines = [line for line in whole if line.strip(b"\x1a\x00 \t")]
    if lines and b"\x00" in lines[0]:
        raise InputError(
            f"{where}: {path} cannot be read: its first line has NUL bytes, so it is UTF-16 text or damaged",
            remedy=f"{_AS_UTF8}, or replace the file with a whole copy",
        )
    if len(data) == _HEAD_BYTES and len(parts) == 1:
        raise InputError(
            f"{where}: {path} cannot be read: its first line does not end within {_HEAD_BYTES:,} bytes",
            remedy="check that the file is a table with one row on each line",
        )
    name = "utf-8-sig" if encoding == "utf-8" else encoding
    return [line.decode(name, errors="replace") for line in lines[:2]]


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _hits(line: str, delimiter: str, known: set[str]) -> int:
    """The number of known column names in a line."""
    return sum(cell.upper() in known for cell in _cells(line, delimiter))


def _best_delimiter(line: str, known: set[str]) -> str:
    return max(DELIMITERS, key=lambda delimiter: _hits(line, delimiter, known))


def _csv_format(path: str, source: TableSource, layout: Layout, where: str) -> FileFormat:
    lines = _head(path, source.encoding or "utf-8", where)
    if not lines:
        raise InputError(f"{where}: {path} is empty", remedy="replace the file, or remove it from the configuration")
    known = layout.known_names() | {name.upper() for name in source.columns.values()}
    near = _best_delimiter(lines[0], known)
    best = source.delimiter or near
    columns, hits = _cells(lines[0], best), _hits(lines[0], best, known)
    header = source.header if source.header is not None else hits >= min(len(columns), 2)
    better = _hits(lines[0], near, known) > max(hits, 1)
    if hits == 0 and (header or better):
        raise InputError(
            f"{where}: {path}: the first line has no known column name when read with the delimiter {best!r}",
            remedy=f"write `delimiter: {near!r}`"
            if better
            else "check that this is the right table and that it has a header row",
        )
    if header:
        rows = lines[1:]
    else:
        if not source.delimiter:
            best = max(DELIMITERS, key=lambda d: len(_cells(lines[0], d)))
        columns = _columns_elsewhere(path, source, known, where)
        rows = lines[:1]
    first = _cells(rows[0], best) if rows else columns
    # A delimiter after the last field: in the rows only, it makes a column without a name; in the header only, no
    # column.
    if len(first) == len(columns) + 1 and not first[-1]:
        columns = [*columns, ""]
    elif len(first) == len(columns) - 1 and not columns[-1]:
        columns = columns[:-1]
    if not header and len(first) != len(columns):
        raise InputError(
            f"{where}: {path} has {len(first)} columns when read with the delimiter {best!r}, but its headers file names "
            f"{len(columns)}",
            remedy="name the right headers file, or state the `delimiter`",
        )
    return FileFormat("csv", tuple(name.upper() for name in columns), best, header)


def _columns_elsewhere(path: str, source: TableSource, known: set[str], where: str) -> list[str]:
    """The columns of a file without a header row, from its headers file."""
    headers_file = source.headers_file or _headers_beside(path, known)
    if headers_file is None:
        raise InputError(
            f"{where}: {path} has no header row that can be recognised (too few known column names in its first line), "
            "and no headers file is named",
            remedy="check that it is the right table. If it has a header row, map its names under `columns` (our name: the "
            "file's own name); otherwise name the file that lists its columns: `headers_file: …`",
        )
    return _headers(headers_file, known, where)


def _headers(path: str, known: set[str], where: str) -> list[str]:
    """The column names in a headers file: one line with any delimiter, or one name on each line."""
    refuse_special(Path(path), f"{where}: the headers file ", _HEAD_BYTES)
    try:
        lines = [line for line in Path(path).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{where}: the headers file {path} cannot be read", remedy="correct `headers_file`") from None
    if len(lines) > 1:
        return [line.strip().strip(",|;") for line in lines]
    return _cells(lines[0], _best_delimiter(lines[0], known)) if lines else []


def _headers_beside(path: str, known: set[str]) -> str | None:
    """A file next to ``path`` with "header" in its name that names at least two known columns; None if there is
    none."""
    place = Path(path)
    folder = place if place.is_dir() else place.parent
    for candidate in sorted(folder.glob("*[hH]eader*")):
        with suppress(InputError):  # a file of rows can have such a name too
            if candidate.is_file() and sum(n.upper() in known for n in _headers(str(candidate), known, "")) >= 2:
                return str(candidate)
    return None
