"""The lake: reads and writes its Delta tables. Outside this folder, no module knows their paths and names in SQL.

Every write is one commit, and repeating it does no harm. :class:`Lake` is what callers use. What it does besides reading and
committing is in other modules of this folder:

| Module | What it does |
|---|---|
| ``new_tables`` | creates tables and sets their properties |
| ``migration`` | brings tables of older versions of the product up to date |
| ``maintenance`` | compacts and vacuums |
| ``versions`` | finds the newest version, and the commits since another one |
| ``writers`` | chooses how rows are written: by Spark, by `deltalake` or by both |
| ``local_tables`` | reads tables in a folder without Spark |
| ``permissions`` | makes the folders, and decides who may read them |
| ``catalogue`` | names tables in a catalogue, and checks that the session has it |
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from ebi_spark import __version__
from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.errors import BrokenRunError
from ebi_spark.lake import local_tables, small_writes
from ebi_spark.lake.adopted_files import AdoptedFiles, WrittenFiles
from ebi_spark.lake.catalogue import catalogue_name, create_schemas
from ebi_spark.lake.conditions import Where, named_by_all, predicate_of
from ebi_spark.lake.local_tables import CommitInfo, LocalLake, UnreadableTableError
from ebi_spark.lake.maintenance import Maintained, maintain
from ebi_spark.lake.migration import migrate
from ebi_spark.lake.new_tables import create_table
from ebi_spark.lake.object_store import Objects, newest_log_entry
from ebi_spark.lake.permissions import open_to_others, prepare_folders
from ebi_spark.lake.small_writes import SmallWriter
from ebi_spark.lake.versions import commits_after, newest_commit, newest_version
from ebi_spark.lake.writers import Rows, Writer, conflicts, conform, may_have_rows, writer_for
from ebi_spark.quoting import sql_name
from ebi_spark.small_frames import conform_table, small_frame
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.table import YEAR, Table
from ebi_spark.threads import run_in_threads

if TYPE_CHECKING:
    import pandas as pd

# Apart from the year, the column by which a stage may replace a part of a table.
PART = "policy_id"
# The most bytes of files that `Lake.read_small` reads into memory.
IN_MEMORY_BYTES = 1 << 20
# The most bytes of files that `Lake.read` reads as one partition.
ONE_PARTITION_BYTES = 4 << 20


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
        self.objects = Objects(location.url) if location.url else None
        self._spark, self._starting, self.run_id = spark, threading.Lock(), run_id
        # Tables (by full name) that are read at an old version, to replay a run.
        self.as_of = dict(as_of or {})
        self.versions_read: dict[str, int] = {}
        self.versions_written: dict[str, int] = {}
        self._years: dict[tuple[str, int], list[str]] = {}
        self._foreign: dict[str, str | None] = {}
        # Tables (by full name) that need no migration, with the version at which that was found.
        self._migrated: dict[str, int] = {}

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
            return sql_name("delta", self.path(table))
        return catalogue_name(self.location, table)

    def exists(self, table: Table) -> bool:
        """Whether the table has a first version."""
        if self.objects:
            return newest_log_entry(self.objects, f"{table.layer}/{table.name}") is not None
        if self.location.folder:
            return super().exists(table)
        return self.spark.catalog.tableExists(self.identifier(table))

    # Making

    def prepare(self) -> None:
        """Create missing folders (or schemas) and tables, and migrate tables of an older version."""
        if self.location.folder:
            prepare_folders(self.location.folder)
        elif self.location.catalog:
            create_schemas(self.spark, self.location)
        there = {table.full_name: self.exists(table) for table in TABLES.values()}
        self.migrate([table for table in TABLES.values() if there[table.full_name]])
        run_in_threads([partial(create_table, self, table) for table in TABLES.values() if not there[table.full_name]])

    def migrate(self, tables: Iterable[Table] | None = None) -> list[str]:
        """Migrate tables that an older version of the product wrote. Returns what was done, a line for each table.

        New columns are added; they are NULL until their stage runs again. Figures that releases of schema 1 should not
        have disclosed are removed. Nothing else changes a row.

        Raises an :class:`InputError` if a table was written by a newer version, or a column has another type. All
        tables are checked before any is changed.
        """
        chosen = [table for table in (TABLES.values() if tables is None else tables) if self.exists(table)]
        if self.location.folder:  # elsewhere it takes a query to find a version
            chosen = [table for table in chosen if self._migrated.get(table.full_name) != self.version(table)]
        done = migrate(self, chosen)
        if self.location.folder:
            self._migrated |= {table.full_name: self.version(table) for table in chosen}
        return done

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
                files = local_tables.data_files(Path(self.path(table)))
                if files is not None and sum(files.sizes) <= ONE_PARTITION_BYTES:
                    return self._read_files(Path(self.path(table)), files)
        if self.location.place:
            return reader.format("delta").load(self.path(table))
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
        fields, _ = local_tables.described(Path(self.path(table)))
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
                return not local_tables.may_have_rows(Path(self.path(table)), [{}])
        return False

    def _note(self, table: Table) -> None:
        self.refuse_missing(table)
        if table.full_name not in self.versions_read:
            self.versions_read[table.full_name] = self.version(table)

    def _without_spark(self, table: Table) -> bool:
        """Whether the table is in a folder and its newest version is wanted."""
        return self.location.folder is not None and table.full_name not in self.as_of

    def version(self, table: Table) -> int:
        """The newest Delta version of the table, or the version in ``as_of``."""
        if table.full_name in self.as_of:
            return self.as_of[table.full_name]
        return newest_version(self, table)

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
        return commits_after(self, table, after)

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
                return local_tables.partitions(Path(self.path(table)), YEAR)
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
        metadata = self._metadata(stage, years=named_by_all(each, YEAR), parts=named_by_all(each, PART))
        self._commit(table, writer_for(self, table, rows, each if may_have_rows(self, table, each) else None, metadata))

    def collect(self, table: Table, frame: DataFrame) -> pa.Table:
        """The rows of an aggregate on the driver, with the columns of ``table``. Raises a :class:`ValueError` for a table of records
        or persons, because their rows must not come to the driver."""
        if table.patient_level:
            raise ValueError(f"{table.full_name} has rows of records")
        return conform(frame, table).toArrow()

    def can_adopt(self, table: Table) -> bool:
        """Whether :meth:`adopt` can be used for a table: it is in a folder, and `deltalake` can write it."""
        return self.location.folder is not None and small_writes.can_write(Path(self.path(table)))

    def adopt(self, table: Table, folders: Sequence[Path], years: Sequence[str], rows: int, *, stage: str) -> None:
        """Replace the rows of some years in one commit. The new ``rows`` (so many) are in Parquet files that Spark has already written
        to other ``folders``, partitioned by year. Only if :meth:`can_adopt` is true. Raises a :class:`BrokenRunError` if the files have
        another number of rows."""
        where = {YEAR: years}
        replaces, metadata = may_have_rows(self, table, [where]), self._metadata(stage, years=sorted(years), parts=None)
        files = AdoptedFiles(folders, years, table.statistics, replaces=replaces, metadata=metadata, rows=rows)
        self._commit(table, files)

    def append(self, table: Table, rows: Rows, *, stage: str) -> None:
        """Add rows in one commit. For logs only, because a repeated run adds them again."""
        self._commit(table, writer_for(self, table, rows, None, self._metadata(stage, years=[])))

    def _commit(self, table: Table, writer: Writer) -> None:
        """Commit rows. Every row of the lake is written here, by a run that still has the lock. If another run commits to the same
        rows at the same time, one of the two commits is refused as a whole."""
        self.check_lock()
        try:
            if self.location.place or isinstance(writer, SmallWriter | AdoptedFiles | WrittenFiles):
                writer.save(self.path(table))
            else:
                writer.saveAsTable(self.identifier(table))
        except Exception as error:
            if not isinstance(error, conflicts()):
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
            open_to_others(Path(self.path(table)), self.location.folder)

    def _metadata(self, stage: str, **facts: object) -> str:
        return json.dumps({"run_id": self.run_id, "code_version": __version__, "stage": stage, **facts})

    # Keeping

    def maintain(self, tables: Iterable[Table], keep_hours: int) -> dict[str, Maintained]:
        """Compact small files, and remove files that no version younger than ``keep_hours`` needs.

        The caller makes sure that ``keep_hours`` is at least a week.
        """
        return maintain(self, tables, keep_hours)

    def size(self, table: Table) -> tuple[int, int]:
        """(number of files, bytes) of the newest version."""
        if self.location.folder:
            with contextlib.suppress(UnreadableTableError):
                return super().size(table)
        row = self.spark.sql(f"DESCRIBE DETAIL {self.identifier(table)}").select("numFiles", "sizeInBytes").first()
        return (int(row["numFiles"]), int(row["sizeInBytes"])) if row else (0, 0)
