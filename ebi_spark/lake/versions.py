"""The versions of Delta tables: the newest one, the commits since another one, and those of tables outside the lake."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ebi_spark.errors import BrokenRunError
from ebi_spark.lake import local_tables
from ebi_spark.lake.local_tables import CommitInfo
from ebi_spark.lake.object_store import newest_log_entry
from ebi_spark.quoting import sql_name, table_parts
from ebi_spark.tables.table import Table

if TYPE_CHECKING:
    from ebi_spark.lake.storage import Lake


class Commit(NamedTuple):
    """A version of a Delta table and the time of its commit."""

    version: int
    timestamp: datetime


def newest_version(lake: "Lake", table: Table) -> int:
    """The newest version of a table of the lake."""
    if lake.location.place:  # asking Delta takes a Spark job; the file names of the log are enough
        newest = (
            newest_log_entry(lake.objects, f"{table.layer}/{table.name}")
            if lake.objects
            else local_tables.newest_version(Path(lake.path(table)))
        )
        if newest is not None:
            return newest
    row = lake.spark.sql(f"DESCRIBE HISTORY {lake.identifier(table)} LIMIT 1").select("version").first()
    if row is None:
        raise BrokenRunError(f"{table.full_name} has no history", remedy="restore the table or remove its folder")
    return int(row["version"])


def commits_after(lake: "Lake", table: Table, version: int) -> list[CommitInfo]:
    """The commits of a table of the lake after a version, as far as its history still has them."""
    if lake.location.folder:
        return local_tables.commits_after(Path(lake.path(table)), version)
    rows = lake.spark.sql(f"DESCRIBE HISTORY {lake.identifier(table)}").where(F.col("version") > version)
    return [CommitInfo(*row) for row in rows.select("version", "operation", "userMetadata").collect()]


def newest_commit(spark: SparkSession, *, table: str = "", path: str = "") -> Commit | None:
    """The newest commit of a Delta table outside the lake, by name or path. None if it is not a Delta table, or the
    user may not read its history."""
    try:
        named = sql_name(*table_parts(table)) if table else sql_name("delta", path)
        row = spark.sql(f"DESCRIBE HISTORY {named} LIMIT 1").select("version", "timestamp").first()
    except Exception:  # each platform raises its own errors here
        return None
    return Commit(row["version"], row["timestamp"]) if row else None
