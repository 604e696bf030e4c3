"""Finding the files of a source table and seeing how each is written, before Spark reads a row."""

import csv
import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyarrow.lib import ArrowException

from ebi_spark.acquire.layouts import Layout
from ebi_spark.errors import InputError
from ebi_spark.settings import RunConfig, TableSource

DELIMITERS = (",", "|", "\t", ";")
_HEAD_BYTES = 1 << 20
# How many times larger than its file a table of this ending is, roughly.
_PACKED = {".parquet": 4, ".gz": 5, ".bz2": 7}


@dataclass(frozen=True)
class Form:
    """How a group of files is written: format, columns in order and, for CSV, delimiter and header row. Names of CSV
    columns are in upper case, so that files that differ in case alone are one group."""

    format: str
    columns: tuple[str, ...]
    delimiter: str = ","
    header: bool = True


def is_remote(path: str) -> bool:
    """Whether a path names a store that Python's file functions do not reach."""
    return "://" in path or path.startswith("dbfs:")


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
            for path in map(Path, found):
                files = (f for f in path.rglob("*") if f.is_file()) if path.is_dir() else (path,)
                size += sum(file.stat().st_size * _PACKED.get(file.suffix, 1) for file in files)
    return size


def stored_bytes(lake: Path) -> int:
    """How large the records of a local lake are, as text and roughly; old versions count, which errs upwards."""
    files = (file for file in (lake / "silver").rglob("*.parquet"))
    return sum(file.stat().st_size for file in files) * _PACKED[".parquet"]


def find_files(source: TableSource, where: str) -> list[str]:
    """The files or folders that the source's paths and globs name, sorted; none at all is an error."""
    found: set[str] = set()
    headers = str(Path(source.headers_file).resolve()) if source.headers_file else None
    for path in source.paths:
        if is_remote(path):
            found.add(path)
            continue
        matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else [path]
        matches = [match for match in matches if Path(match).exists() and str(Path(match).resolve()) != headers]
        if not matches:
            what = "no file matches" if glob.has_magic(path) else "there is no file"
            raise InputError(
                f"{where}: {what} {path}", remedy="correct the path; it is taken relative to the configuration file"
            )
        found.update(matches)
    return sorted(found)


def form_of(path: str, source: TableSource, layout: Layout, where: str) -> Form:
    """How one local file or folder is written, from the configuration or from its own first bytes."""
    kind = source.format or _guess_format(path)
    try:
        if kind == "delta":
            return Form("delta", ())
        if kind == "parquet":
            return Form("parquet", tuple(pq.read_schema(_first_file(path, ".parquet", where)).names))
        return _csv_form(path, source, layout, where)
    except (ArrowException, OSError, UnicodeDecodeError, EOFError) as error:
        raise InputError(
            f"{where}: {path} cannot be read as {kind} ({type(error).__name__})",
            remedy="replace the file with a whole copy, or state its `format`",
        ) from None


def _guess_format(path: str) -> str:
    place = Path(path)
    if place.is_dir():
        if (place / "_delta_log").is_dir():
            return "delta"
        return "parquet" if next(place.rglob("*.parquet"), None) else "csv"
    with place.open("rb") as file:
        return "parquet" if file.read(4) == b"PAR1" or path.endswith(".parquet") else "csv"


def _first_file(path: str, suffix: str, where: str) -> str:
    place = Path(path)
    if place.is_file():
        return path
    files = sorted(
        file
        for file in place.rglob("*")
        if file.is_file() and not file.name.startswith(("_", ".")) and (not suffix or file.name.endswith(suffix))
    )
    if not files:
        raise InputError(f"{where}: the folder {path} holds no file", remedy="correct the path")
    return str(files[0])


def _head(path: str) -> list[str]:
    """The first two lines of a text file (gzip understood), as text."""
    import bz2
    import gzip

    opener: Any = {".gz": gzip.open, ".bz2": bz2.open}.get(Path(path).suffix, open)
    with opener(path, "rb") as file:
        data: bytes = file.read(_HEAD_BYTES)
    if b"\x00" in data[:4096]:
        raise OSError("NUL bytes")
    text = data.decode("utf-8-sig", errors="replace")
    return text.splitlines()[:2]


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _csv_form(path: str, source: TableSource, layout: Layout, where: str) -> Form:
    lines = _head(_first_file(path, "", where))
    if not lines or not lines[0].strip():
        raise InputError(f"{where}: {path} is empty", remedy="replace the file, or take it out of the configuration")
    known = layout.known_names() | {name.upper() for name in source.columns.values()}
    choices = [source.delimiter] if source.delimiter else list(DELIMITERS)
    best = max(choices, key=lambda d: sum(cell.upper() in known for cell in _cells(lines[0], d)))
    columns = _cells(lines[0], best)
    hits = sum(name.upper() in known for name in columns)
    header = source.header if source.header is not None else hits >= min(len(columns), max(2, len(columns) // 4))
    if header:
        if hits == 0:
            near = max(DELIMITERS, key=lambda d: sum(cell.upper() in known for cell in _cells(lines[0], d)))
            better = sum(cell.upper() in known for cell in _cells(lines[0], near))
            raise InputError(
                f"{where}: {path}: no known column in the first line as read with delimiter {best!r}",
                remedy=f"write `delimiter: {near!r}`"
                if better
                else "check that this is the right table and that it has a header row",
            )
        return Form("csv", tuple(name.upper() for name in columns), best, True)
    if not source.delimiter:
        best = max(DELIMITERS, key=lambda d: len(_cells(lines[0], d)))
    headers_file = source.headers_file or _headers_beside(path, known)
    if headers_file is None:
        raise InputError(
            f"{where}: {path} has no header row and no headers file is named",
            remedy="name the file that lists its columns: `headers_file: …`",
        )
    names = _headers(headers_file, known, where)
    width = len(_cells(lines[0], best))
    if width != len(names):
        raise InputError(
            f"{where}: {path} has {width} columns as read with delimiter {best!r}, its headers file names {len(names)}",
            remedy="give the headers file that belongs to it, or its `delimiter`",
        )
    return Form("csv", tuple(name.upper() for name in names), best, False)


def _headers(path: str, known: set[str], where: str) -> list[str]:
    """Column names of a headers file: one line with any delimiter, or one name a line."""
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
