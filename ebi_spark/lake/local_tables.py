"""Read the tables of a lake in a folder without Spark, and so without Java.

Rows, columns and partitions come from `deltalake`. It opens a small table in milliseconds, where Spark needs seconds to
start and a second for a first query. Commits are read here (:func:`commits_after`): if one of them has no
description, `deltalake` numbers the commits wrongly, and then another year would count as changed.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from pyarrow.lib import ArrowException

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.errors import InputError
from ebi_spark.lake.conditions import Where, condition_of, quoted
from ebi_spark.tables.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from deltalake import DeltaTable

# One thread: rows then come in the same order each time.
_IN_ORDER = {"datafusion.execution.target_partitions": "1"}

# A character of a path that Spark may read as a pattern or decode.
_PATTERN = re.compile(r"[^\w./=,+ -]")


class UnreadableTableError(Exception):
    """Only Spark can read the table: it was changed by hand or written with features that `deltalake` does not have."""


class CommitInfo(NamedTuple):
    """One commit: ``operation`` is Delta's name for it, ``metadata`` is the text that its writer added (None if
    there is none)."""

    version: int
    operation: str
    metadata: str | None


class DataFiles(NamedTuple):
    """The Parquet files of a table, with their sizes in bytes. ``schema`` is Spark's JSON."""

    schema: dict[str, Any]
    paths: tuple[str, ...]
    sizes: tuple[int, ...]


class LocalLake:
    """Reads the tables of a lake in a folder, at their newest versions.

    Every method raises an :class:`UnreadableTableError` for a table that only Spark can read.
    """

    def __init__(self, location: LakeLocation) -> None:
        self.location = location

    def path(self, table: Table) -> str:
        """The folder or URL of a table, for a lake in a folder or at a URL."""
        return f"{self.location.place}/{table.layer}/{table.name}"

    def exists(self, table: Table) -> bool:
        """Whether the table has a first version."""
        log = Path(self.path(table)) / "_delta_log"
        return log.is_dir() and any(log.glob("*.json"))

    def refuse_missing(self, table: Table) -> None:
        """Raise an :class:`InputError` if the lake does not have the table."""
        if not self.exists(table):
            raise InputError(f"{self.location} has no table {table.full_name}", remedy="run the earlier stages first")

    def small_rows(
        self, table: Table, columns: Sequence[str], where: Where | Sequence[Where] = ()
    ) -> list[dict[str, Any]]:
        """Some columns of all rows of a small table, or of those that are meant, as a dictionary for each row.

        Maps are dictionaries, and a column that the table does not have yet is None. A time is in microseconds since
        1970: local time would be ambiguous in the hour that occurs twice in October.
        """
        rows = self.select(table, _listed(columns), _filter(where))
        for number, field in enumerate(rows.schema):
            if pa.types.is_timestamp(field.type):
                rows = rows.set_column(number, field.name, rows.column(number).cast(pa.int64()))
        maps = [field.name for field in rows.schema if pa.types.is_map(field.type)]
        return [
            row | {name: dict(row[name]) for name in maps if row[name] is not None} for row in rows.to_pylist()
        ]  # fmt: skip

    def rows_if_there(
        self, table: Table, columns: Sequence[str], where: Where | Sequence[Where] = ()
    ) -> list[dict[str, Any]]:
        """As :meth:`small_rows`; no rows if the lake does not have the table yet."""
        return self.small_rows(table, columns, where) if self.exists(table) else []

    def grouped(
        self, table: Table, by: Sequence[str], sums: Sequence[str] = (), where: Where | Sequence[Where] = ()
    ) -> list[dict[str, Any]]:
        """The number of ``rows`` and the sums of some columns for each value of the columns ``by``. The table can be
        large."""
        added = ["count(*) AS rows", *(f"sum({quoted(name)}) AS {quoted(name)}" for name in sums)]
        group = f" GROUP BY {_listed(by)}" if by else ""
        selected = ", ".join([_listed(by), *added] if by else added)
        counted = self.select(table, selected, _filter(where) + group, in_order=False)
        rows: list[dict[str, Any]] = counted.to_pylist()
        return rows

    def frame(self, table: Table, where: Where) -> "pd.DataFrame":
        """Some rows of a published table, with all columns that it has."""
        return self.arrow(table, where).to_pandas()

    def arrow(self, table: Table, where: Where | None = None) -> pa.Table:
        """All rows of a small table, or some of them, with the columns that are stored."""
        filters = [(column, "in", list(values)) for column, values in (where or {}).items()]
        opened = open_table(Path(self._existing_path(table)))
        try:
            rows = opened.to_pyarrow_table(filters=filters or None)
            # PySpark cannot take a column that has no array at all.
            return rows if rows.num_rows else rows.schema.empty_table()
        except (ArrowException, OSError, ValueError) as error:
            raise UnreadableTableError(f"{table.full_name}: {type(error).__name__}") from None

    def size(self, table: Table) -> tuple[int, int]:
        """(number of files, bytes) of the newest version."""
        sizes = (
            pa.table(open_table(Path(self._existing_path(table))).get_add_actions()).column("size_bytes").to_pylist()
        )
        return len(sizes), sum(sizes)

    def select(self, table: Table, selected: str, end: str = "", *, in_order: bool = True) -> pa.Table:
        """The rows of ``SELECT selected FROM the table``, with ``end`` after it, in DataFusion's SQL. Columns that the
        table does not have yet are NULL. Not ``in_order``: all cores work on it, and rows come in any order."""
        return query(Path(self._existing_path(table)), selected, end, table.names(), in_order=in_order)

    def _existing_path(self, table: Table) -> str:
        self.refuse_missing(table)
        return self.path(table)


def query(folder: Path, selected: str, end: str, columns: Iterable[str] = (), *, in_order: bool = True) -> pa.Table:
    """The rows of ``SELECT selected FROM the table``, with ``end`` after it. Those of ``columns`` that the table does not
    have yet are NULL. ``in_order``: the rows come in the same order each time, which takes longer."""
    from deltalake import QueryBuilder

    opened = open_table(folder)
    there = {field.name for field in opened.schema().fields}
    later = "".join(f", NULL AS {quoted(name)}" for name in columns if name not in there)
    # All names and values in it are quoted.
    sql = f"SELECT {selected} FROM (SELECT *{later} FROM stored) AS stored{end}"  # noqa: S608
    try:
        return pa.table(QueryBuilder(_IN_ORDER if in_order else {}).register("stored", opened).execute(sql).read_all())
    except BaseException as error:  # a broken file, for which there is no class of its own
        if isinstance(error, Exception) or _is_panic(error):
            raise UnreadableTableError(f"{folder.name}: {type(error).__name__}") from None
        raise


def _is_panic(error: BaseException) -> bool:
    """Whether the Rust code of `deltalake` broke off. Its exception is no subclass of ``Exception`` and cannot be imported."""
    return type(error).__name__ == "PanicException"


def is_misread(folder: Path) -> bool:
    """Whether `deltalake` would decode the folder's name and so read another folder."""
    return "%" in str(folder) or "\\" in str(folder)


def open_table(folder: Path) -> "DeltaTable":
    """The table, opened by `deltalake`."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    if is_misread(folder):
        raise UnreadableTableError(f"{folder.name} has % or \\ in its path")
    try:
        opened = DeltaTable(folder)
        # ebi-spark writes reader version 1. Higher ones can have deletion vectors or columns with other names.
        if opened.protocol().min_reader_version > 1:
            raise UnreadableTableError(f"{folder.name} has reader version {opened.protocol().min_reader_version}")
    except BaseException as error:
        if isinstance(error, DeltaError | OSError | ValueError) or _is_panic(error):
            raise UnreadableTableError(f"{folder.name}: {type(error).__name__}") from None
        raise
    return opened


def described(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """(schema as Spark's JSON, table properties)."""
    opened = open_table(folder)
    return json.loads(opened.schema().to_json()), dict(opened.metadata().configuration)


def data_files(folder: Path) -> DataFiles | None:
    """The files of the newest version. None if Spark may not find the same rows and partitions by the files' paths."""
    opened = open_table(folder)
    columns = opened.metadata().partition_columns
    files = _listed_files(opened)
    for file in files:
        partition = "".join(f"{column}={file[f'partition.{column}']}/" for column in columns)
        if file["path"].rpartition("/")[0] != partition.rstrip("/"):
            return None
    paths = tuple(str(folder / file["path"]) for file in files)
    if any(_PATTERN.search(path) for path in paths):
        return None
    return DataFiles(json.loads(opened.schema().to_json()), paths, tuple(file["size_bytes"] for file in files))


def partitions(folder: Path, column: str) -> set[str]:
    """The values of a partition column that have rows. It needs the log only, however large the table is."""
    found = {file[f"partition.{column}"] for file in _files_with_rows(folder)}
    return {value for value in found if value is not None}


def may_have_rows(folder: Path, where: Sequence[Where]) -> bool:
    """Whether the table may have rows that are meant, by the values of partition columns in its log."""

    def may_fit(file: Mapping[str, Any], one: Where) -> bool:
        partitions = {column: f"partition.{column}" for column in one if f"partition.{column}" in file}
        return all(file[name] in set(one[column]) for column, name in partitions.items())

    return any(may_fit(file, one) for file in _files_with_rows(folder) for one in where)


def _listed_files(opened: "DeltaTable") -> list[dict[str, Any]]:
    """The files of a version as its log has them: ``path``, ``size_bytes``, and ``partition.X`` for each partition column X.
    ``num_records`` is missing or None where the log does not say it."""
    files: list[dict[str, Any]] = pa.table(opened.get_add_actions(flatten=True)).to_pylist()
    return files


def _files_with_rows(folder: Path) -> list[dict[str, Any]]:
    """The files of the newest version, without those that are known to have no rows."""
    return [file for file in _listed_files(open_table(folder)) if file.get("num_records") != 0]


def newest_version(folder: Path) -> int | None:
    """The newest version, from the names of the log's files: a run asks for it too often to open the table each time."""
    return max(_entries(folder), default=None)


def commits_after(folder: Path, version: int) -> list[CommitInfo]:
    """The commits after ``version`` that the log still has. Those without a description are left out."""
    found = []
    for number, entry in sorted(_entries(folder).items()):
        if number > version:
            info = _commit_info(entry)
            if info is not None:
                found.append(CommitInfo(number, str(info.get("operation", "")), info.get("userMetadata")))
    return found


def forget_before_checkpoint(folder: Path) -> None:
    """Remove log entries and checkpoints before the newest checkpoint. `deltalake` removes them only after the table's
    retention."""
    log = folder / "_delta_log"
    checkpoints = [int(entry.name.split(".")[0]) for entry in log.glob("*.checkpoint.parquet")]
    if not checkpoints:
        return
    for entry in log.iterdir():
        number = entry.name.lstrip(".").split(".")[0]
        if entry.is_file() and number.isdigit() and int(number) < max(checkpoints):
            entry.unlink()


def _entries(folder: Path) -> dict[int, Path]:
    return {int(entry.stem): entry for entry in (folder / "_delta_log").glob("*.json") if entry.stem.isdigit()}


def _commit_info(entry: Path) -> dict[str, Any] | None:
    try:
        with entry.open(encoding="utf-8") as file:
            for line in file:
                if '"commitInfo"' in line[:40]:
                    info: dict[str, Any] = json.loads(line)["commitInfo"]
                    return info
    except (OSError, ValueError, KeyError):
        return None
    return None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(quoted, names))


def _filter(where: Where | Sequence[Where]) -> str:
    condition = condition_of(where)
    return f" WHERE {condition}" if condition else ""
