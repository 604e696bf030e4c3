"""The place where an ingest stages rows: in the restricted part of the lake, where no table of the lake names them.

| Lake | Where rows are staged | What becomes of staged records |
|---|---|---|
| in a folder | Parquet files in ``silver/_staging/RUN`` | :meth:`Lake.adopt` makes them files of silver |
| at a URL | Delta tables in ``silver/_staging/RUN`` | Spark writes them to silver |
| in a catalogue | Delta tables ``_staging_RUN_…`` in the schema of silver | Spark writes them to silver |

A folder whose path Spark or `deltalake` would misread is treated like a URL.

A lake in a folder or at a URL has one run at a time, so the next ingest, or `maintain`, removes what a killed run left. In a catalogue
another run may still need its tables: `maintain` drops those that are older than a week (:func:`remove_left`).
"""

import contextlib
import re
import shutil
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from ebi_spark.errors import InputError
from ebi_spark.lake.object_store import Objects
from ebi_spark.lake.storage import ONE_PARTITION_BYTES, Lake
from ebi_spark.quoting import spark_path, sql_name, sql_text
from ebi_spark.tables.silver import RECORD_TABLES
from ebi_spark.tables.table import YEAR

FOLDER = "_staging"
_STATISTICS = "parquet.column.statistics.enabled"
# No run takes that long. After that time, staged tables in a catalogue are left from a run that was killed.
LEFT_AFTER = timedelta(days=7)


class StagingArea:
    """Where one run stages rows, each frame under a name of its own."""

    def __init__(self, lake: Lake) -> None:
        self._lake, self._schema, self._names = lake, _schema_of_silver(lake), set[str]()
        self._prefix = f"{FOLDER}_{re.sub(r'[^a-z0-9]', '_', lake.run_id.lower())}_"
        self._place = f"{lake.location.place}/silver/{FOLDER}/{lake.run_id}" if lake.location.place else None

    @cached_property
    def adoptable(self) -> bool:
        """Whether staged records can become files of silver without being written again."""
        return all(map(self._lake.can_adopt, RECORD_TABLES.values())) and _is_understood(str(self._place))

    def write(
        self,
        name: str,
        rows: DataFrame,
        *,
        by_year: bool = False,
        more: bool = False,
        indexed: Collection[str] | None = None,
    ) -> None:
        """Stage rows. ``by_year``: the rows of each year in files of their own. ``more``: besides those that are staged already.
        ``indexed``: the columns whose minimum and maximum Parquet keeps (None: all). Comparing the values of all columns takes
        5% of the time of writing."""
        writer = rows.write.format("parquet" if self.adoptable else "delta").mode("append" if more else "error")
        if self.adoptable and indexed is not None:
            writer = writer.option(_STATISTICS, "false").options(
                **{f"{_STATISTICS}#{name}": "true" for name in indexed}
            )
        if not self.adoptable and not more:
            # By default, Delta would write the smallest and largest key and person of each file to the table's log.
            writer = writer.option("delta.dataSkippingNumIndexedCols", "0")
        writer = writer.partitionBy(YEAR) if by_year else writer
        self._names.add(name)
        if self._place:
            writer.save(f"{self._place}/{name}")
        else:
            writer.saveAsTable(self._table(name))

    def read(self, name: str, schema: StructType | str) -> DataFrame:
        """All rows that are staged under a name, with their columns."""
        reader = self._lake.spark.read
        if not self._place:
            return reader.table(self._table(name))
        if not self.adoptable:
            return reader.format("delta").load(f"{self._place}/{name}")
        rows = reader.schema(schema).parquet(spark_path(f"{self._place}/{name}"))
        # A few rows need no shuffle to be grouped or joined, if they are one partition.
        size = sum(file.stat().st_size for file in self.folder(name).rglob("*.parquet"))
        return rows.coalesce(1) if size <= ONE_PARTITION_BYTES else rows

    def folder(self, name: str) -> Path:
        """The folder of the files that are staged under a name, if they are ``adoptable``."""
        return Path(str(self._place)) / name

    def remove(self) -> None:
        """Remove what this run has staged. In a folder or at a URL, remove also what earlier runs left.

        Raises nothing: a run that fails has an error of its own. What cannot be removed now is removed later.
        """
        location = self._lake.location
        if location.folder:
            shutil.rmtree(Path(location.folder) / "silver" / FOLDER, ignore_errors=True)
        elif location.url:
            with contextlib.suppress(Exception):
                Objects(location.url).remove_folder(f"silver/{FOLDER}")
        else:
            for name in sorted(self._names):
                with contextlib.suppress(Exception):
                    self._lake.spark.sql(f"DROP TABLE IF EXISTS {self._table(name)}")
        self._names.clear()

    def _table(self, name: str) -> str:
        return sql_name(*self._schema, self._prefix + name)


def remove_left(lake: Lake) -> None:
    """Remove what killed runs have left staged. In a catalogue, only tables of runs that began more than a week ago; the tables'
    names say when it was. Elsewhere the caller has the lake's lock."""
    if not lake.location.catalog:
        StagingArea(lake).remove()
        return
    latest = (datetime.now(UTC) - LEFT_AFTER).strftime("%Y%m%dt%H%M%Sz")
    named = re.compile(rf"{FOLDER}_(\d{{8}}t\d{{6}}z)_[0-9a-f]{{6}}_")
    schema = _schema_of_silver(lake)
    tables = lake.spark.sql(f"SHOW TABLES IN {sql_name(*schema)} LIKE {sql_text(FOLDER + '*')}")
    for name in [row[0] for row in tables.select("tableName").collect()]:
        run = named.match(name)
        if run and run[1] < latest:
            lake.spark.sql(f"DROP TABLE IF EXISTS {sql_name(*schema, name)}")


def _is_understood(folder: str) -> bool:
    """Whether Spark reads files below a folder as they are named."""
    with contextlib.suppress(InputError):
        return bool(spark_path(folder))
    return False


def _schema_of_silver(lake: Lake) -> tuple[str, str]:
    return str(lake.location.catalog), lake.location.schemas.get("silver", "")
