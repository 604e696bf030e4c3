"""Compacts small files, and removes files that no kept version of a table needs."""

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pyspark.sql import SparkSession

from ebi_spark.lake.local_tables import open_table
from ebi_spark.lake.permissions import open_to_others
from ebi_spark.lake.small_writes import can_write
from ebi_spark.tables.table import Table
from ebi_spark.threads import run_in_threads

if TYPE_CHECKING:
    from ebi_spark.lake.storage import Lake

# Only small files are compacted: large ones are already sorted the way policies need them. By default, Delta 4.4
# ignores the retention given to VACUUM and uses the table's property instead, and it refuses a shorter one; the last two
# settings change that. If a platform does not allow these settings, files stay as long as the property says.
_MAINTAINING = {
    "spark.databricks.delta.optimize.minFileSize": str(64 << 20),
    "spark.databricks.delta.optimize.maxFileSize": str(256 << 20),
    "spark.databricks.delta.vacuum.retentionWindowIgnore.enabled": "false",
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
}


class Maintained(NamedTuple):
    """The result of maintaining a table: its number of files before and after, and their bytes after."""

    files_before: int
    files: int
    bytes: int


def maintain(lake: "Lake", tables: Iterable[Table], keep_hours: int) -> dict[str, Maintained]:
    """Compact and vacuum the tables that exist; :meth:`ebi_spark.lake.storage.Lake.maintain` says how."""

    def one(table: Table) -> Maintained:
        before, _ = lake.size(table)
        if table.compact and before > 1:
            lake.spark.sql(f"OPTIMIZE {lake.identifier(table)}")
        remove_unneeded(lake, table, keep_hours)
        if lake.location.folder and table.layer == "published":
            open_to_others(Path(lake.path(table)), lake.location.folder)
        return Maintained(before, *lake.size(table))

    there = [table for table in tables if lake.exists(table)]
    with vacuuming(lake.spark):
        done = run_in_threads([partial(one, table) for table in there])
    return {table.full_name: result for table, result in zip(there, done, strict=True)}


def remove_unneeded(lake: "Lake", table: Table, keep_hours: int) -> None:
    """Remove the files of a table that no version of the last hours needs, and those that no version names. In a folder this is done
    without Spark, whose VACUUM removes the same files but takes a second or two for each table."""
    if not lake.location.folder or not can_write(Path(lake.path(table))):
        lake.spark.sql(f"VACUUM {lake.identifier(table)} RETAIN {int(keep_hours)} HOURS")
        return
    folder = Path(lake.path(table))
    for name in open_table(folder).vacuum(keep_hours, dry_run=True, enforce_retention_duration=False, full=True):
        file = folder / name
        for unneeded in (file, file.with_name(f".{file.name}.crc")):
            unneeded.unlink(missing_ok=True)


@contextlib.contextmanager
def vacuuming(spark: SparkSession) -> Iterator[None]:
    """The session's settings while files are compacted and removed."""
    for key, value in _MAINTAINING.items():
        with contextlib.suppress(Exception):  # a platform may not allow the setting
            spark.conf.set(key, value)
    try:
        yield
    finally:
        for key in _MAINTAINING:
            with contextlib.suppress(Exception):
                spark.conf.unset(key)
