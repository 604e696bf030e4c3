"""Read the log of a local Delta table, and the rows of small tables, without a Spark job.

A run that finds nothing to do should be faster than Spark's first query. Only `storage` uses this module.
A function returns None if it cannot read something (removed by clean-up, another layout); `storage` then asks Delta.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.lib import ArrowException


class CommitInfo(NamedTuple):
    """One commit: ``operation`` is Delta's name for it, ``metadata`` is the text that its writer added (None if
    there is none)."""

    version: int
    operation: str
    metadata: str | None


class DataFile(NamedTuple):
    """A file of a table's newest version. ``rows`` is None if its writer did not count them."""

    path: Path
    partition: dict[str, str | None]
    rows: int | None


def newest_version(folder: Path) -> int | None:
    """The newest version, from the names of the log's files."""
    return max(_entries(folder), default=None)


def commits_after(folder: Path, version: int) -> list[CommitInfo]:
    """The commits after ``version`` that the log still has. Unreadable ones are left out."""
    found = []
    for number, entry in sorted(_entries(folder).items()):
        if number > version:
            info = _action(entry, "commitInfo")
            if info is not None:
                found.append(CommitInfo(number, str(info.get("operation", "")), info.get("userMetadata")))
    return found


def rows_written(folder: Path) -> int | None:
    """The number of rows that the newest commit wrote, as counted by its writer."""
    entries = _entries(folder)
    info = _action(entries[max(entries)], "commitInfo") if entries else None
    counted = ((info or {}).get("operationMetrics") or {}).get("numOutputRows")
    return int(counted) if counted is not None else None


def described(folder: Path) -> tuple[dict[str, Any], dict[str, str]] | None:
    """(schema as Spark's JSON, table properties), from the newest commit or checkpoint that has them."""
    checkpoint = _checkpoint(folder)
    for number, entry in sorted(_entries(folder).items(), reverse=True):
        if checkpoint is not None and number <= checkpoint[0]:
            break
        stated = _action(entry, "metaData")
        if stated is not None:
            return json.loads(stated["schemaString"]), dict(stated.get("configuration") or {})
    if checkpoint is None:
        return None
    try:
        for row in pq.read_table(checkpoint[1], columns=["metaData"]).column("metaData").to_pylist():
            if row is not None:
                return json.loads(row["schemaString"]), dict(row["configuration"] or {})
    except (ArrowException, OSError, KeyError, ValueError):
        pass
    return None


def files(folder: Path) -> list[DataFile] | None:
    """The files that have the rows of the newest version. None if the log does not go back far enough, or if readers
    need more than the files (deletion vectors, column mapping)."""
    checkpoint = _checkpoint(folder)
    since = -1 if checkpoint is None else checkpoint[0]
    entries = {number: entry for number, entry in sorted(_entries(folder).items()) if number > since}
    if [*entries] != [*range(since + 1, since + 1 + len(entries))]:
        return None
    found: dict[str, DataFile] = {}
    reader = None
    try:
        for action in _actions(checkpoint[1] if checkpoint else None, entries.values()):
            if protocol := action.get("protocol"):
                reader = protocol["minReaderVersion"]
            if add := action.get("add"):
                stated = json.loads(add.get("stats") or "{}").get("numRecords")
                found[add["path"]] = DataFile(folder / unquote(add["path"]), dict(add["partitionValues"]), stated)
            if remove := action.get("remove"):
                found.pop(remove["path"], None)
    except (ArrowException, OSError, KeyError, ValueError):
        return None
    return list(found.values()) if reader == 1 else None


def rows(folder: Path, columns: Sequence[str]) -> list[dict[str, Any]] | None:
    """Some columns of all rows of a small table without partitions, as a dictionary for each row.

    Maps are dictionaries, times are microseconds since 1970, and a column that a file does not have is None. The result
    is None as for :func:`files`.
    """
    current = files(folder)
    if current is None:
        return None
    found: list[dict[str, Any]] = []
    try:
        for file in current:
            parquet = pq.ParquetFile(file.path, coerce_int96_timestamp_unit="us")
            there = [name for name in parquet.schema_arrow.names if name in columns]
            if file.partition or not there:
                return None
            table = parquet.read(columns=there)
            for number, field in enumerate(table.schema):
                if pa.types.is_timestamp(field.type):
                    moments = table.column(number).cast(pa.timestamp("us", field.type.tz)).cast(pa.int64())
                    table = table.set_column(number, field.name, moments)
            maps = [field.name for field in table.schema if pa.types.is_map(field.type)]
            for row in table.to_pylist():
                values = {name: row.get(name) for name in columns}
                found.append(values | {name: dict(values[name]) for name in maps if values[name] is not None})
    except (ArrowException, OSError, ValueError):
        return None
    return found


def forget_before_checkpoint(folder: Path) -> None:
    """Remove log entries and checkpoints before the newest checkpoint, as Delta's own clean-up does later."""
    checkpoint = _checkpoint(folder)
    if checkpoint is None:
        return
    for entry in (folder / "_delta_log").iterdir():
        number = entry.name.lstrip(".").split(".")[0]
        if entry.is_file() and number.isdigit() and int(number) < checkpoint[0]:
            entry.unlink()


def _actions(checkpoint: Path | None, entries: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The protocol and file actions of a checkpoint and of the commits after it, in order."""
    if checkpoint is not None:
        yield from pq.read_table(checkpoint, columns=["protocol", "add"]).to_pylist()
    for entry in entries:
        with entry.open(encoding="utf-8") as commit:
            yield from map(json.loads, commit)


def _entries(folder: Path) -> dict[int, Path]:
    return {int(entry.stem): entry for entry in (folder / "_delta_log").glob("*.json") if entry.stem.isdigit()}


def _checkpoint(folder: Path) -> tuple[int, Path] | None:
    """(version, path) of the newest checkpoint that is a single file."""
    found = [
        (int(entry.name.split(".")[0]), entry)
        for entry in (folder / "_delta_log").glob("*.checkpoint.parquet")
        if entry.name.split(".")[0].isdigit()
    ]
    return max(found, default=None)


def _action(entry: Path, name: str) -> dict[str, Any] | None:
    marker = f'"{name}"'
    try:
        with entry.open(encoding="utf-8") as file:
            for line in file:
                if marker in line[:40]:
                    action: dict[str, Any] = json.loads(line)[name]
                    return action
    except (OSError, ValueError, KeyError):
        return None
    return None
