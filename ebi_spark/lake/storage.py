"""The lake: read and write its Delta tables. No other module knows their paths and names in SQL.

Every write is one commit, and repeating it does no harm. Tables are created empty with their whole schema, with reader
protocol 1 and without deletion vectors, so that other engines can read them.
"""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import pyarrow as pa
from pyspark.sql import DataFrame, DataFrameWriter, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import ArrayType, DataType, StructType

from ebi_spark import __version__
from ebi_spark.config.lake_location import LAYERS, LakeLocation
from ebi_spark.errors import BrokenRunError, InputError
from ebi_spark.lake import local_tables, small_writes
from ebi_spark.lake.adopted_files import AdoptedFiles, WrittenFiles
from ebi_spark.lake.earlier_releases import CORRECTED_IN, CORRECTIONS, EMPTIED
from ebi_spark.lake.local_tables import CommitInfo, LocalLake, UnreadableTableError, Where
from ebi_spark.lake.object_store import Objects, newest_log_entry
from ebi_spark.lake.small_writes import SmallWriter
from ebi_spark.quoting import sql_name, sql_text, table_parts
from ebi_spark.small_frames import Row, conform_table, small_frame, small_table
from ebi_spark.tables.published import RELEASE
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.table import SCHEMA_VERSION, YEAR, Table

if TYPE_CHECKING:
    import pandas as pd

VERSION_PROPERTY = "ebi_spark.schema_version"
# Apart from the year, the column by which a stage may replace a part of a table.
PART = "policy_id"
# `deltalake` sets these versions by itself.
_PROTOCOL = {"delta.minReaderVersion": "1", "delta.minWriterVersion": "2"}
_PROPERTIES = {
    "delta.enableDeletionVectors": "false",
    "delta.checkpointPolicy": "classic",
    # `maintain` decides how long old versions are kept, since it knows which releases need them. By default, Delta
    # forgets the files of old versions after a week and the versions themselves after a month.
    "delta.deletedFileRetentionDuration": "interval 1000 days",
    "delta.logRetentionDuration": "interval 1000 days",
}
# Only small files are compacted: large ones are already sorted the way policies need them. By default, Delta 4.4
# ignores the retention given to VACUUM and uses the property above instead, and it refuses a shorter one; the last two
# settings change that. If a platform does not allow these settings, files stay as long as the property says.
_MAINTAINING = {
    "spark.databricks.delta.optimize.minFileSize": str(64 << 20),
    "spark.databricks.delta.optimize.maxFileSize": str(256 << 20),
    "spark.databricks.delta.vacuum.retentionWindowIgnore.enabled": "false",
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
}
# The most bytes of files that `Lake.read_small` reads into memory.
IN_MEMORY_BYTES = 1 << 20
# The most bytes of files that `Lake.read` reads as one partition.
ONE_PARTITION_BYTES = 4 << 20

# What can be written: a Spark DataFrame, which may be large, or rows that are on the driver already.
Rows: TypeAlias = DataFrame | pa.Table | Sequence[Row]

_Answer = TypeVar("_Answer")


class Maintained(NamedTuple):
    """The result of maintaining a table: its number of files before and after, and their bytes after."""

    files_before: int
    files: int
    bytes: int


class Lake(LocalLake):
    """The tables of one lake, in a folder, at a URL or in a catalogue, with a session.

    Small tables and counts are read without Spark if the lake is in a folder. In such a lake only the owner can read
    silver and gold; published has the permissions that the user's umask gives. At a URL, Spark reads and writes every table
    as in a catalogue, but by its path, and the store's policy says who may read it.
    """

    def __init__(
        self,
        spark: SparkSession | Callable[[], SparkSession],
        location: LakeLocation,
        run_id: str = "",
        as_of: Mapping[str, int] | None = None,
        check_lock: Callable[[], None] = lambda: None,
    ) -> None:
        """``spark``: the session, or a function that starts it. The function is called when a session is first needed.
        ``check_lock``: raises an error if this run may no longer write. It is called before each commit."""
        super().__init__(location)
        self.check_lock = check_lock
        self._objects = Objects(location.url) if location.url else None
        self._spark, self._starting, self.run_id = spark, threading.Lock(), run_id
        # Tables (by full name) that are read at an old version, to replay a run.
        self.as_of = dict(as_of or {})
        self.versions_read: dict[str, int] = {}
        self.versions_written: dict[str, int] = {}
        self._years: dict[tuple[str, int], list[str]] = {}
        self._foreign: dict[str, str | None] = {}

    @property
    def spark(self) -> SparkSession:
        """The session. It is started now if it has not been started yet."""
        with self._starting:
            if callable(self._spark):
                self._spark = self._spark()
            return self._spark

    # Where things are

    def identifier(self, table: Table) -> str:
        """The table's name in SQL: ``catalog.schema.name`` or ``delta.`path` ``."""
        if self.location.place:
            return sql_name("delta", self._path(table))
        return catalogue_name(self.location, table)

    def exists(self, table: Table) -> bool:
        """Whether the table has a first version."""
        if self._objects:
            return newest_log_entry(self._objects, f"{table.layer}/{table.name}") is not None
        if self.location.folder:
            return super().exists(table)
        return self.spark.catalog.tableExists(self.identifier(table))

    # Making

    def prepare(self) -> None:
        """Create missing folders (or schemas) and tables, and migrate tables of an older version."""
        if self.location.folder:
            prepare_folders(self.location.folder)
        elif self.location.catalog:
            for schema in self.location.schemas.values():
                name = sql_name(str(self.location.catalog), schema)
                # A user of existing schemas may not have the right to create one, so this is asked first.
                if not self.spark.catalog.databaseExists(name):
                    self.spark.sql(f"CREATE SCHEMA IF NOT EXISTS {name}")
        there = {table.full_name: self.exists(table) for table in TABLES.values()}
        self.migrate([table for table in TABLES.values() if there[table.full_name]])
        run_in_threads([partial(self._create, table) for table in TABLES.values() if not there[table.full_name]])

    def migrate(self, tables: Iterable[Table] | None = None) -> list[str]:
        """Migrate tables that an older version of the product wrote. Returns what was done, a line for each table.

        New columns are added; they are NULL until their stage runs again. Figures that releases of schema 1 should not
        have disclosed are removed. Nothing else changes a row.

        Raises an :class:`InputError` if a table was written by a newer version, or a column has another type. All
        tables are checked before any is changed.
        """
        there = [table for table in (TABLES.values() if tables is None else tables) if self.exists(table)]
        found = dict(zip(there, run_in_threads([partial(self._described, table) for table in there]), strict=True))
        added_columns, properties, done = [], [], []
        for table, (schema, version) in found.items():
            name = table.full_name
            if version > SCHEMA_VERSION:
                raise InputError(
                    f"{name} was written by a newer version of ebi-spark (schema {version}; this version has schema "
                    f"{SCHEMA_VERSION})",
                    remedy="install that version; nothing was changed",
                )
            # Spark parses types in Java: for a hundred columns that takes as long as a query. So types are compared as
            # text first.
            existing = {field.name: field.dataType.simpleString() for field in schema.fields}
            same = all(existing.get(column) == kind.replace(" ", "") for column, kind, _ in table.fields())
            added, differing = ({}, []) if same else _differences(table.schema, schema)
            if differing:
                raise InputError(
                    f"{name} has columns of another type than this version writes: {', '.join(differing)}",
                    remedy="use the version of ebi-spark that wrote the lake, or start a new lake; nothing was changed",
                )
            if added:
                meanings = {sql_name(column): meaning for column, _, meaning in table.fields()}
                listed = ", ".join(_declared(column, kind, meanings.get(column, "")) for column, kind in added.items())
                added_columns.append(f"ALTER TABLE {self.identifier(table)} ADD COLUMNS ({listed})")
            if version < SCHEMA_VERSION:
                properties.append(f"ALTER TABLE {self.identifier(table)} SET TBLPROPERTIES ({_sql_properties(table)})")
            if added or version < SCHEMA_VERSION:
                what = f"added {', '.join(added).replace('`', '')}" if added else "no column changed"
                done.append(f"{name}: schema {version} to {SCHEMA_VERSION}, {what}")
        for statement in added_columns:
            self.spark.sql(statement)
        earlier = [t for t, (_, version) in found.items() if t.layer == "published" and version < CORRECTED_IN]
        done += self._empty_earlier_releases([table for table in earlier if self.version(table) > 0])
        # The version is set last, so that an interrupted migration is repeated.
        for statement in properties:
            self.spark.sql(statement)
        return done

    def _empty_earlier_releases(self, tables: Sequence[Table]) -> list[str]:
        """Remove figures that earlier versions should not have disclosed from published ``tables``, and the files and
        log entries that still have them. (In a catalogue the log stays, with the minimum and maximum of each column of
        each file, because it belongs to the platform. A lake at a URL has no such releases.)"""
        corrections = [correction for correction in CORRECTIONS if correction.table in tables]
        for correction in corrections:
            name = self.identifier(correction.table)
            if correction.remove:
                self.spark.sql(f"DELETE FROM {name} WHERE {correction.remove}")  # noqa: S608 (the product's own SQL)
            if correction.values:
                values = ", ".join(f"{column} = {value}" for column, value in correction.values.items())
                self.spark.sql(f"UPDATE {name} SET {values}")  # noqa: S608 (the same)
        if RELEASE in tables:
            self._count_again([correction.table for correction in corrections if correction.remove])
        if tables:
            with self._vacuuming():
                run_in_threads([partial(self._forget_history, table) for table in tables])
        return [f"{table.full_name}: {EMPTIED}" for table in tables]

    def _count_again(self, tables: Sequence[Table]) -> None:
        """Correct the row counts in the manifests of all releases, for tables from which rows were removed."""
        releases = {
            row["release_id"]: row["tables"] or {} for row in self.small_rows(RELEASE, ["release_id", "tables"])
        }
        for table in tables:
            counted = {row["release_id"]: row["rows"] for row in self.grouped(table, ["release_id"])}
            for release_id, stated in releases.items():
                if table.full_name in stated:
                    stated[table.full_name] = counted.get(release_id, 0)
        for release_id, stated in ((release_id, stated) for release_id, stated in releases.items() if stated):
            pairs = ", ".join(f"{_literal(name)}, {int(count)}L" for name, count in stated.items())
            where = predicate_of({"release_id": [release_id]})
            # The values are quoted.
            self.spark.sql(f"UPDATE {self.identifier(RELEASE)} SET tables = map({pairs}) WHERE {where}")  # noqa: S608

    def _forget_history(self, table: Table) -> None:
        """Remove every file that is not in the newest version and, for a local table, the log before it: a log entry
        has the minimum and maximum of each column of the files that it added."""
        name = self.identifier(table)
        self.spark.sql(f"VACUUM {name} RETAIN 0 HOURS")
        if self.location.folder:
            for _ in range(2):  # the second commit also writes a checkpoint, which replaces all entries before it
                self.spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('delta.checkpointInterval' = '1')")
            # Makes the session read the log again, so that it uses the checkpoint and not the entries that are removed
            # next.
            _ = self.spark.read.format("delta").load(self._path(table)).schema
            local_tables.forget_before_checkpoint(Path(self._path(table)))
            self.spark.sql(f"ALTER TABLE {name} UNSET TBLPROPERTIES ('delta.checkpointInterval')")
            _open_to_others(Path(self._path(table)), self.location.folder)

    def _described(self, table: Table) -> tuple[StructType, int]:
        """(the columns that the table has, the schema version that it was written with; 0 if it has none)."""
        with contextlib.suppress(UnreadableTableError):
            if self.location.folder:
                fields, properties = local_tables.described(Path(self._path(table)))
                return StructType.fromJson(fields), _schema_version(properties)
        row = self.spark.sql(f"DESCRIBE DETAIL {self.identifier(table)}").select("properties").first()
        properties = dict(row["properties"] or {}) if row else {}
        return self.spark.table(self.identifier(table)).schema, _schema_version(properties)

    def _create(self, table: Table) -> None:
        if self.location.folder and not local_tables.is_misread(Path(self._path(table))):
            small_writes.create(Path(self._path(table)), table, _properties(table))
            return
        columns = ", ".join(_declared(sql_name(name), kind, meaning) for name, kind, meaning in table.fields())
        partition = f" PARTITIONED BY ({', '.join(table.partition_by)})" if table.partition_by else ""
        self.spark.sql(
            f"CREATE TABLE IF NOT EXISTS {self.identifier(table)} ({columns}) USING DELTA{partition} "
            f"COMMENT {sql_text(table.row)} TBLPROPERTIES ({_sql_properties(table)})"
        )

    # Reading

    def read(self, table: Table) -> DataFrame:
        """The table at its newest version, or at the version in ``as_of``. The version is recorded for the run log.

        Raises an :class:`InputError` if the table does not exist.
        """
        self._note(table)
        reader, pinned = self.spark.read, self.as_of.get(table.full_name)
        if pinned is not None:
            reader = reader.option("versionAsOf", pinned)
        if self._without_spark(table):
            with contextlib.suppress(UnreadableTableError):
                files = local_tables.data_files(Path(self._path(table)))
                if files is not None and sum(files.sizes) <= ONE_PARTITION_BYTES:
                    return self._read_files(Path(self._path(table)), files)
        if self.location.place:
            return reader.format("delta").load(self._path(table))
        return reader.table(self.identifier(table))

    def _read_files(self, folder: Path, files: local_tables.DataFiles) -> DataFrame:
        """The rows of a small table, read from its Parquet files. Delta would ask its log for them in two or three queries, each time
        that a query reads the table. All rows are one partition, so that groups and joins need no shuffle."""
        schema = StructType.fromJson(files.schema)
        if not files.paths:
            return small_frame(self.spark, [], schema).limit(0)
        rows = self.spark.read.schema(schema).option("basePath", str(folder)).parquet(*files.paths)
        return rows.to(schema).coalesce(1)  # columns of partitions come last in what Spark reads

    def read_small(self, table: Table) -> DataFrame:
        """As :meth:`read`. In a folder a small table of figures is read into memory, without a query to find its files, and is
        one partition, so that groups and joins need no shuffle. A table of records is always read by Spark."""
        rows = self.in_memory(table)
        if rows is None:
            return self.read(table)
        fields, _ = local_tables.described(Path(self._path(table)))
        return self.spark.createDataFrame(rows, schema=StructType.fromJson(fields)).coalesce(1)

    def in_memory(self, table: Table) -> pa.Table | None:
        """All rows of a small table of figures in a folder, with the columns that it has. None for any other table."""
        if self._without_spark(table) and not table.patient_level:
            with contextlib.suppress(UnreadableTableError):
                self._note(table)
                if super().size(table)[1] <= IN_MEMORY_BYTES:
                    return super().arrow(table)
        return None

    def is_empty(self, table: Table) -> bool:
        """Whether the log of a table in a folder says that it has no rows. False if the log does not say."""
        if self._without_spark(table):
            with contextlib.suppress(UnreadableTableError):
                self._note(table)
                return not local_tables.may_have_rows(Path(self._path(table)), [{}])
        return False

    def _note(self, table: Table) -> None:
        if not self.exists(table):
            raise InputError(f"{self.location} has no table {table.full_name}", remedy="run the earlier stages first")
        if table.full_name not in self.versions_read:
            self.versions_read[table.full_name] = self.version(table)

    def _without_spark(self, table: Table) -> bool:
        """Whether the table is in a folder and its newest version is wanted."""
        return self.location.folder is not None and table.full_name not in self.as_of

    def version(self, table: Table) -> int:
        """The newest Delta version of the table, or the version in ``as_of``."""
        if table.full_name in self.as_of:
            return self.as_of[table.full_name]
        if self.location.place:  # asking Delta takes a Spark job; the file names of the log are enough
            newest = (
                newest_log_entry(self._objects, f"{table.layer}/{table.name}")
                if self._objects
                else local_tables.newest_version(Path(self._path(table)))
            )
            if newest is not None:
                return newest
        row = self.spark.sql(f"DESCRIBE HISTORY {self.identifier(table)} LIMIT 1").select("version").first()
        if row is None:
            raise BrokenRunError(f"{table.full_name} has no history", remedy="restore the table or remove its folder")
        return int(row["version"])

    def foreign_version(self, name: str) -> str | None:
        """The version and commit time of a table outside the lake, as text; None if it has no readable history.

        It is read once a run. The rows that the run reads are of that version or a later one, never of an earlier one.
        """
        if name not in self._foreign:
            commit = newest_commit(self.spark, table=name)
            self._foreign[name] = f"{commit.version} {commit.timestamp}" if commit else None
        return self._foreign[name]

    def commits(self, table: Table, after: int) -> list[CommitInfo]:
        """The table's commits after a version, as far as its history still has them."""
        if not self.exists(table) or self.version(table) <= after:
            return []
        if self.location.folder:
            return local_tables.commits_after(Path(self._path(table)), after)
        rows = self.spark.sql(f"DESCRIBE HISTORY {self.identifier(table)}").where(F.col("version") > after)
        return [CommitInfo(*row) for row in rows.select("version", "operation", "userMetadata").collect()]

    def years(self, table: Table) -> list[str]:
        """The financial years that have rows in the table, sorted. Cached for each version."""
        self._note(table)
        version = (table.full_name, self.version(table))
        if version not in self._years:
            self._years[version] = sorted(self._find_years(table))
        return list(self._years[version])

    def _find_years(self, table: Table) -> set[str]:
        if self._without_spark(table) and YEAR in table.partition_by:
            with contextlib.suppress(UnreadableTableError):
                return local_tables.partitions(Path(self._path(table)), YEAR)
        return {row[YEAR] for row in self.read(table).select(YEAR).distinct().collect()} - {None}

    def small_rows(
        self, table: Table, columns: Sequence[str], where: Where | Sequence[Where] = ()
    ) -> list[dict[str, Any]]:
        """As :meth:`LocalLake.small_rows`, also of a catalogue or an old version."""
        self._note(table)
        if self._without_spark(table):
            with contextlib.suppress(UnreadableTableError):
                return super().small_rows(table, columns, where)
        frame, kinds = self._selected(table, where), {name: kind for name, kind, _ in table.fields()}
        stored = set(frame.columns)
        selected = [
            F.lit(None).cast(kinds[name]).alias(name)
            if name not in stored
            else F.unix_micros(name).alias(name)
            if kinds[name] == "timestamp"
            else F.col(name)
            for name in columns
        ]
        return [row.asDict(recursive=True) for row in frame.select(*selected).collect()]

    def grouped(
        self, table: Table, by: Sequence[str], sums: Sequence[str] = (), where: Where | Sequence[Where] = ()
    ) -> list[dict[str, Any]]:
        """As :meth:`LocalLake.grouped`, also of a catalogue or an old version."""
        self._note(table)
        if self._without_spark(table):
            with contextlib.suppress(UnreadableTableError):
                return super().grouped(table, by, sums, where)
        rows = self._selected(table, where).groupBy(*by)
        counted = rows.agg(F.count("*").alias("rows"), *[F.sum(name).alias(name) for name in sums])
        return [row.asDict() for row in counted.collect()]

    def frame(self, table: Table, where: Where) -> "pd.DataFrame":
        """As :meth:`LocalLake.frame`, also of a catalogue or an old version."""
        self._note(table)
        if self._without_spark(table):
            with contextlib.suppress(UnreadableTableError):
                return super().frame(table, where)
        return self._selected(table, where).toPandas()

    def arrow(self, table: Table, where: Where | None = None) -> pa.Table:
        """As :meth:`LocalLake.arrow`, but also for a catalogue or an old version, and with exactly the columns that this version of
        the program declares."""
        schema = to_arrow_schema(table.schema)
        self._note(table)
        if self._without_spark(table):
            with contextlib.suppress(UnreadableTableError):
                return conform_table(super().arrow(table, where), schema)
        return conform_table(self._selected(table, where or {}).toArrow(), schema)

    def _selected(self, table: Table, where: Where | Sequence[Where]) -> DataFrame:
        condition = predicate_of(where) if where else ""
        return self.read(table).where(condition) if condition else self.read(table)

    # Writing

    def replace(self, table: Table, rows: Rows, where: Where | Sequence[Where], *, stage: str) -> None:
        """Replace some rows of a table in one commit.

        A row is replaced if every column in ``where`` has one of the given values; with several mappings, if this is so
        for any of them. ``rows`` must have only such rows. An empty ``where`` replaces the whole table.

        ``rows`` are a frame, which Spark writes, or they are on the driver already: an Arrow table, or rows in Python.
        """
        # Later runs see in the history which years and policies a commit can have changed.
        each = [where] if isinstance(where, Mapping) else list(where)
        metadata = self._metadata(stage, years=_named_by_all(each, YEAR), parts=_named_by_all(each, PART))
        self._commit(table, self._writer(table, rows, each if self._may_have_rows(table, each) else None, metadata))

    def collect(self, table: Table, frame: DataFrame) -> pa.Table:
        """The rows of an aggregate on the driver, with the columns of ``table``. Raises a :class:`ValueError` for a table of records
        or persons, because their rows must not come to the driver."""
        if table.patient_level:
            raise ValueError(f"{table.full_name} has rows of records")
        return conform(frame, table).toArrow()

    def _may_have_rows(self, table: Table, where: Sequence[Where]) -> bool:
        """Whether there may be rows to replace. Adding rows takes a third of the time of replacing some. A catalogue has
        no lock, so there another run may be adding the same rows now: then two replacements conflict, two additions do not.
        """
        if self.location.folder:
            with contextlib.suppress(UnreadableTableError):
                return local_tables.may_have_rows(Path(self._path(table)), where)
        return True

    def can_adopt(self, table: Table) -> bool:
        """Whether :meth:`adopt` can be used for a table: it is in a folder, and `deltalake` can write it."""
        return self.location.folder is not None and small_writes.can_write(Path(self._path(table)))

    def adopt(self, table: Table, folders: Sequence[Path], years: Sequence[str], rows: int, *, stage: str) -> None:
        """Replace the rows of some years in one commit. The new ``rows`` (so many) are in Parquet files that Spark has already written
        to other ``folders``, partitioned by year. Only if :meth:`can_adopt` is true. Raises a :class:`BrokenRunError` if the files have
        another number of rows."""
        where = {YEAR: years}
        replaces, metadata = self._may_have_rows(table, [where]), self._metadata(stage, years=sorted(years), parts=None)
        files = AdoptedFiles(folders, years, table.statistics, replaces=replaces, metadata=metadata, rows=rows)
        self._commit(table, files)

    def append(self, table: Table, rows: Rows, *, stage: str) -> None:
        """Add rows in one commit. For logs only, because a repeated run adds them again."""
        self._commit(table, self._writer(table, rows, None, self._metadata(stage, years=[])))

    def _writer(
        self, table: Table, rows: Rows, replaced: Sequence[Where] | None, metadata: str
    ) -> DataFrameWriter | SmallWriter | WrittenFiles:
        """The writer for these rows. ``replaced``: the rows that they replace; None if they are only added."""
        if not isinstance(rows, DataFrame):
            arrow = rows if isinstance(rows, pa.Table) else small_table(rows, table.schema)
            if self.location.folder and small_writes.can_write(Path(self._path(table))):
                condition = None if replaced is None else local_tables.condition_of(replaced)
                return SmallWriter(arrow, condition, metadata)
            rows = self.spark.createDataFrame(arrow, schema=table.schema).coalesce(1)
        rows = conform(rows, table)
        if self._takes_files(table, replaced or [{}]):
            years = [str(year) for year in replaced[0][YEAR]] if replaced and replaced[0] else None
            scratch = scratch_folder(Path(str(self.location.folder)))
            return WrittenFiles(rows, table, years, scratch, replaces=replaced is not None, metadata=metadata)
        writer = rows.write.format("delta").option("userMetadata", metadata)
        if replaced is None:
            return writer.mode("append")
        predicate, writer = predicate_of(replaced), writer.mode("overwrite")
        return writer.option("replaceWhere", predicate) if predicate else writer

    def _takes_files(self, table: Table, replaced: Sequence[Where]) -> bool:
        """Whether Spark can write a frame's files, and `deltalake` commit them. Rows of some years in a table without years, or of
        some policies, are removed from files by Delta alone; and Spark's own writer stores times in another form."""
        if not self.can_adopt(table) or len(replaced) > 1 or table.partition_by not in ((), (YEAR,)):
            return False
        stored = {field["name"] for field in local_tables.described(Path(self._path(table)))[0]["fields"]}
        return (
            set(replaced[0]) <= set(table.partition_by)
            and stored >= set(table.names())
            and not any("timestamp" in kind for _, kind, _ in table.fields())
        )

    def _commit(self, table: Table, writer: DataFrameWriter | SmallWriter | AdoptedFiles | WrittenFiles) -> None:
        """Commit rows. Every row of the lake is written here, by a run that still has the lock. If another run commits to the same
        rows at the same time, one of the two commits is refused as a whole."""
        self.check_lock()
        try:
            if self.location.place or isinstance(writer, SmallWriter | AdoptedFiles | WrittenFiles):
                writer.save(self._path(table))
            else:
                writer.saveAsTable(self.identifier(table))
        except Exception as error:
            if not isinstance(error, _conflicts()):
                raise
            raise BrokenRunError(
                f"{table.full_name}: another run committed to the same rows at the same time ({type(error).__name__}); "
                "its rows were kept, this run's were not written",
                remedy="run the same command again when the other run has ended",
            ) from None
        self._written(table)

    def _written(self, table: Table) -> None:
        self.versions_written[table.full_name] = self.version(table)
        self.versions_read.pop(table.full_name, None)
        if self.location.folder and table.layer == "published":
            _open_to_others(Path(self._path(table)), self.location.folder)

    def _metadata(self, stage: str, **facts: object) -> str:
        return json.dumps({"run_id": self.run_id, "code_version": __version__, "stage": stage, **facts})

    # Keeping

    def maintain(self, tables: Iterable[Table], keep_hours: int) -> dict[str, Maintained]:
        """Compact small files, and remove files that no version younger than ``keep_hours`` needs.

        The caller makes sure that ``keep_hours`` is at least a week.
        """

        def one(table: Table) -> Maintained:
            before, _ = self.size(table)
            if table.compact and before > 1:
                self.spark.sql(f"OPTIMIZE {self.identifier(table)}")
            self.spark.sql(f"VACUUM {self.identifier(table)} RETAIN {int(keep_hours)} HOURS")
            if self.location.folder and table.layer == "published":
                _open_to_others(Path(self._path(table)), self.location.folder)
            return Maintained(before, *self.size(table))

        there = [table for table in tables if self.exists(table)]
        with self._vacuuming():
            done = run_in_threads([partial(one, table) for table in there])
        return {table.full_name: result for table, result in zip(there, done, strict=True)}

    @contextlib.contextmanager
    def _vacuuming(self) -> Iterator[None]:
        for key, value in _MAINTAINING.items():
            with contextlib.suppress(Exception):  # a platform may not allow the setting
                self.spark.conf.set(key, value)
        try:
            yield
        finally:
            for key in _MAINTAINING:
                with contextlib.suppress(Exception):
                    self.spark.conf.unset(key)

    def size(self, table: Table) -> tuple[int, int]:
        """(number of files, bytes) of the newest version."""
        if self.location.folder:
            with contextlib.suppress(UnreadableTableError):
                return super().size(table)
        row = self.spark.sql(f"DESCRIBE DETAIL {self.identifier(table)}").select("numFiles", "sizeInBytes").first()
        return (int(row["numFiles"]), int(row["sizeInBytes"])) if row else (0, 0)


def _properties(table: Table) -> dict[str, str]:
    properties = {**_PROPERTIES, VERSION_PROPERTY: str(SCHEMA_VERSION)}
    if table.statistics:
        properties["delta.dataSkippingStatsColumns"] = ",".join(table.statistics)
    return properties


def _sql_properties(table: Table) -> str:
    properties = _PROTOCOL | _properties(table)
    return ", ".join(f"{sql_text(key)} = {sql_text(value)}" for key, value in properties.items())


def catalogue_name(location: LakeLocation, table: Table) -> str:
    """The name of a table in SQL, for a lake in a catalogue."""
    return sql_name(str(location.catalog), location.schemas[table.layer], table.name)


def _schema_version(properties: Mapping[str, str]) -> int:
    """The schema version that a table was written with; 0 if it has none."""
    version = properties.get(VERSION_PROPERTY, "0")
    return int(version) if version.isdigit() else 0


@cache
def _conflicts() -> tuple[type[Exception], ...]:
    """All errors that Delta raises if commits conflict, in classic Spark, in Spark Connect and in `deltalake`. They have no
    common base class, and the classic ones are raised only after their module has been imported."""
    from deltalake.exceptions import CommitFailedError

    found: list[type[Exception]] = [CommitFailedError]
    with contextlib.suppress(ImportError):  # a platform may lack one of the modules
        import delta.exceptions as classic

        found += [getattr(classic, name) for name in classic.__all__]
    with contextlib.suppress(ImportError):
        import delta.connect.exceptions as connect

        found += [getattr(connect, name) for name in classic.__all__ if hasattr(connect, name)]
    return tuple(found)


def _differences(declared: DataType, existing: DataType, prefix: str = "") -> tuple[dict[str, str], list[str]]:
    """(missing columns and fields: name in SQL → type; columns and fields that have another type) of ``existing``."""
    added: dict[str, str] = {}
    differing: list[str] = []
    if isinstance(declared, StructType) and isinstance(existing, StructType):
        there = {field.name: field.dataType for field in existing.fields}
        for field in declared.fields:
            name = f"{prefix}{sql_name(field.name)}"
            if field.name not in there:
                added[name] = field.dataType.simpleString()
                continue
            more, other = _differences(field.dataType, there[field.name], f"{name}.")
            added |= more
            differing += other
    elif isinstance(declared, ArrayType) and isinstance(existing, ArrayType):
        added, differing = _differences(declared.elementType, existing.elementType, f"{prefix}element.")
    elif declared.simpleString() != existing.simpleString():
        differing.append(prefix.replace("`", "").rstrip("."))
    return added, differing


def run_in_threads(tasks: Sequence[Callable[[], _Answer]]) -> list[_Answer]:
    """Call every task, a few at the same time, and return their results in order.

    It is faster because planning a query or committing a table uses one core at most. The first error is raised when
    all tasks have ended; an interrupt does not wait for them.
    """
    pool = ThreadPoolExecutor(max_workers=4)
    try:
        futures = [pool.submit(task) for task in tasks]
        wait(futures)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return [future.result() for future in futures]


def conform(frame: DataFrame, table: Table) -> DataFrame:
    """``frame`` with exactly the table's columns, in their order and types."""
    quoted = [(sql_name(name), kind) for name, kind, _ in table.fields()]
    return frame.selectExpr(*[f"CAST({name} AS {kind}) AS {name}" for name, kind in quoted])


def prepare_folders(folder: Path) -> None:
    """Create a lake's folders; only the owner can read silver and gold. Raises an :class:`InputError` if they cannot be
    written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for layer in LAYERS:
            (folder / layer).mkdir(exist_ok=True)
        for layer in ("silver", "gold"):
            (folder / layer).chmod(0o700)
        probe = folder / "silver" / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"the lake {folder} cannot be written ({error.strerror})",
            remedy="name a folder that this user may write to",
        ) from None


def scratch_folder(folder: Path) -> Path:
    """The folder for temporary files in a lake's folder. Only the owner can read it."""
    return folder / "silver" / "_scratch"


_OF_A_LAKE = {*LAYERS, "docs", "report.html"}


def _open_to_others(path: Path, folder: Path) -> None:
    """Give published files the permissions of the user's own umask; the job itself runs with the umask 077."""
    mask = published_mask()
    # The lake's folder keeps its permissions if it also has other things in it.
    whole = [folder] if all(entry.name in _OF_A_LAKE for entry in folder.iterdir()) else []
    for entry in (*whole, folder / "published", path, *path.rglob("*")):
        entry.chmod((0o777 if entry.is_dir() else 0o666) & ~mask)


_USER_MASK: list[int] = []


def restrict_new_files() -> None:
    """Set the process's umask to 077 before Spark starts, and remember the user's own for published files."""
    mask = os.umask(0o077)
    if not _USER_MASK:
        _USER_MASK.append(mask)


def published_mask() -> int:
    """The umask that the user had when the job began (022 if unknown)."""
    return _USER_MASK[0] if _USER_MASK else 0o022


def refuse_without_catalogue(spark: SparkSession, location: LakeLocation) -> None:
    """Raise an :class:`InputError` if the session does not have the lake's catalogue, or the catalogue ends with the
    session."""
    if not location.catalog:
        return
    if not outlasts_session(spark, location.catalog):
        raise InputError(
            f"the catalogue {location.catalog} exists only in this session and ends with it "
            "(spark.sql.catalogImplementation is in-memory); nothing was written",
            remedy="start Spark with a metastore or a catalogue of your platform, or name a folder as the lake",
        )
    try:
        spark.sql(f"SHOW SCHEMAS IN {sql_name(location.catalog)}").head(1)
    except Exception as error:  # each platform raises its own errors here
        condition = getattr(error, "getCondition", lambda: None)() or type(error).__name__
        raise InputError(
            f"the session has no catalogue {location.catalog!r} that this user may read ({condition}); nothing was written",
            remedy="correct its name in `lake`, ask for permission to use it, or name a folder as the lake",
        ) from None


def outlasts_session(spark: SparkSession, catalog: str) -> bool:
    """Whether tables of a catalogue still exist after the session."""
    kind = None
    with contextlib.suppress(Exception):  # no default is given: it would be returned if nothing is set
        kind = spark.conf.get("spark.sql.catalogImplementation")
    return catalog != "spark_catalog" or kind != "in-memory"


class Commit(NamedTuple):
    """A version of a Delta table and the time of its commit."""

    version: int
    timestamp: datetime


def newest_commit(spark: SparkSession, *, table: str = "", path: str = "") -> Commit | None:
    """The newest commit of a Delta table outside the lake, by name or path. None if it is not a Delta table, or the
    user may not read its history."""
    try:
        named = sql_name(*table_parts(table)) if table else sql_name("delta", path)
        row = spark.sql(f"DESCRIBE HISTORY {named} LIMIT 1").select("version", "timestamp").first()
    except Exception:  # each platform raises its own errors here
        return None
    return Commit(row["version"], row["timestamp"]) if row else None


def _named_by_all(each: Sequence[Where], column: str) -> list[str] | None:
    """All values of a column in the mappings; None if a mapping does not name the column, since it then allows any
    value."""
    if not all(column in one for one in each):
        return None
    return sorted({str(value) for one in each for value in one[column]})


def predicate_of(where: Where | Sequence[Where]) -> str:
    """``where`` of :meth:`Lake.replace` as an SQL condition."""
    either = [
        " AND ".join(
            f"{sql_name(column)} IN ({', '.join(_literal(value) for value in values) or 'NULL'})"
            for column, values in one.items()
        )
        for one in ([where] if isinstance(where, Mapping) else where)
    ]
    return either[0] if len(either) == 1 else " OR ".join(f"({one})" for one in either)


def _declared(column: str, kind: str, meaning: str) -> str:
    """A column as SQL declares it, with its meaning as comment."""
    return f"{column} {kind}" + (f" COMMENT {sql_text(meaning)}" if meaning else "")


def _literal(value: str | int) -> str:
    return str(value) if isinstance(value, int) else sql_text(value)
