"""Chooses how rows are written: by Delta's writer in Spark, by `deltalake`, or by both (Spark writes files, `deltalake` commits
them). :meth:`ebi_spark.lake.storage.Lake.replace` and ``append`` commit what this module makes ready."""

import contextlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
from pyspark.sql import DataFrame, DataFrameWriter

from ebi_spark.lake import local_tables, small_writes
from ebi_spark.lake.adopted_files import AdoptedFiles, WrittenFiles
from ebi_spark.lake.conditions import Where, condition_of, predicate_of
from ebi_spark.lake.local_tables import UnreadableTableError
from ebi_spark.lake.permissions import scratch_folder
from ebi_spark.lake.small_writes import SmallWriter
from ebi_spark.quoting import sql_name
from ebi_spark.small_frames import Row, small_table
from ebi_spark.spark.tuning import DELTA_TIMES, TIMES_AS, setting
from ebi_spark.tables.table import YEAR, Table

if TYPE_CHECKING:
    from ebi_spark.lake.storage import Lake

# What can be written: a Spark DataFrame, which may be large, or rows that are on the driver already.
Rows: TypeAlias = DataFrame | pa.Table | Sequence[Row]
# What writes them.
Writer: TypeAlias = DataFrameWriter | SmallWriter | AdoptedFiles | WrittenFiles


def writer_for(lake: "Lake", table: Table, rows: Rows, replaced: Sequence[Where] | None, metadata: str) -> Writer:
    """The writer for these rows. ``replaced``: the rows that they replace; None if they are only added."""
    if not isinstance(rows, DataFrame):
        arrow = rows if isinstance(rows, pa.Table) else small_table(rows, table.schema)
        if lake.location.folder and small_writes.can_write(Path(lake.path(table))):
            condition = None if replaced is None else condition_of(replaced)
            return SmallWriter(arrow, condition, metadata)
        rows = lake.spark.createDataFrame(arrow, schema=table.schema).coalesce(1)
    rows = conform(rows, table)
    if _takes_files(lake, table, replaced or [{}]):
        years = [str(year) for year in replaced[0][YEAR]] if replaced and replaced[0] else None
        scratch = scratch_folder(Path(str(lake.location.folder)))
        return WrittenFiles(rows, table, years, scratch, replaces=replaced is not None, metadata=metadata)
    writer = rows.write.format("delta").option("userMetadata", metadata)
    if replaced is None:
        return writer.mode("append")
    predicate, writer = predicate_of(replaced), writer.mode("overwrite")
    return writer.option("replaceWhere", predicate) if predicate else writer


def may_have_rows(lake: "Lake", table: Table, where: Sequence[Where]) -> bool:
    """Whether there may be rows to replace. Adding rows takes a third of the time of replacing some. A catalogue has
    no lock, so there another run may be adding the same rows now: then two replacements conflict, two additions do not.
    """
    if lake.location.folder:
        with contextlib.suppress(UnreadableTableError):
            return local_tables.may_have_rows(Path(lake.path(table)), where)
    return True


def _takes_files(lake: "Lake", table: Table, replaced: Sequence[Where]) -> bool:
    """Whether Spark can write a frame's files, and `deltalake` commit them. Rows of some years in a table without years, or of
    some policies, are removed from files by Delta alone. Spark may store times in a form of its own that Delta does not use."""
    if not lake.can_adopt(table) or len(replaced) > 1 or table.partition_by not in ((), (YEAR,)):
        return False
    stored = {field["name"] for field in local_tables.described(Path(lake.path(table)))[0]["fields"]}
    return (
        set(replaced[0]) <= set(table.partition_by)
        and stored >= set(table.names())
        and (
            setting(lake.spark, TIMES_AS) == DELTA_TIMES
            or not any("timestamp" in kind for _, kind, _ in table.fields())
        )
    )


def conform(frame: DataFrame, table: Table) -> DataFrame:
    """``frame`` with exactly the table's columns, in their order and types."""
    quoted = [(sql_name(name), kind) for name, kind, _ in table.fields()]
    return frame.selectExpr(*[f"CAST({name} AS {kind}) AS {name}" for name, kind in quoted])


@cache
def conflicts() -> tuple[type[Exception], ...]:
    """All errors that Delta raises if commits conflict, in classic Spark, in Spark Connect and in `deltalake`. They have no
    common base class, and the classic ones are raised only after their module has been imported."""
    from deltalake.exceptions import CommitFailedError

    found: list[type[Exception]] = [CommitFailedError]
    names: list[str] = []
    with contextlib.suppress(ImportError):  # a platform may lack one of the modules
        import delta.exceptions as classic

        names = classic.__all__
        found += [getattr(classic, name) for name in names]
    with contextlib.suppress(ImportError):
        import delta.connect.exceptions as connect

        found += [getattr(connect, name) for name in names if hasattr(connect, name)]
    return tuple(found)
