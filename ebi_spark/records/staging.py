"""Reads and cleans the rows of a source table once, and stages them as Parquet files.

One query classifies a source table and writes all that later steps need: the valid rows as silver has them, the
quarantined rows with their reasons and their source text, and for all other rows only what is counted. Later steps use these
files to count the rows, to decide what is refused, and to commit records and quarantined rows. No other step reads the
source table again.

```
source files ──classify──▶ silver/_staging/RUN/sus_plus_opa/financial_year=2021-22/   valid rows, silver's columns
                                                           financial_year=other/     all other rows
                                                           financial_year=repeated/  rows whose key is in other rows too
```

Rows of repeated keys are staged apart at first. When all rows have been read, these are resolved and staged with the others.

The files are in the restricted part of the lake, and no table names them until they are accepted. Then
:meth:`ebi_spark.lake.storage.Lake.adopt` links those of the batch's years into the table's folder and commits them. The
folder is removed when the ingest ends, and one that a killed run left when the next begins.

Rows are staged only if the lake is a folder and the mode is refresh. At a URL and in a catalogue Spark itself has to write every row
of a table, and writing rows twice costs more than reading them twice. An upsert has to compare the rows with the lake before
it writes them.
"""

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterator
from functools import reduce
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.errors import InputError
from ebi_spark.financial_years import start_of_year
from ebi_spark.lake.storage import Lake
from ebi_spark.quoting import spark_path
from ebi_spark.records.checksums import content
from ebi_spark.records.duplicates import with_decision
from ebi_spark.records.row_status import CONFLICTING, CORRUPT_LINE, QUARANTINED, VALID, with_status
from ebi_spark.sources.reader import raw_json
from ebi_spark.spark.session import setting
from ebi_spark.tables.silver import APC_SPELL, RECORD_TABLES, REPEATED_ROW
from ebi_spark.tables.table import YEAR, Table

FOLDER = "_staging"
# Two partitions besides the years: all rows that are not valid; and rows whose key may be in other rows, until they are resolved.
OTHER, REPEATED = "other", "repeated"
# Rows are sorted inside each file by what rules ask for first, so that Parquet's page index can skip the rest.
SORTED_BY = {"apc": "dominant_procedure_4", "op": "procedure_codes"}
# A task that writes at most so many years keeps one file open for each. For more years that would need too much memory, so
# it sorts its rows by year first. This takes longer: Spark's fast comparison uses the first eight bytes of the first column,
# and these are nearly always the same in a year.
FILES_AT_ONCE, FEW_FILES = "spark.sql.maxConcurrentOutputFileWriters", 3
_FLAGS = ("is_duplicate", "differs_elsewhere", "year_disagrees")
# The columns that staged rows have besides silver's. Their names begin with ``_``. A value that nearly all rows share is stored
# as NULL. The files keep these columns when they become silver's. No table declares them, so nothing reads them there.
_COUNTED = {
    "status": "string",
    YEAR: "string",
    "reasons": "array<string>",
    **dict.fromkeys(_FLAGS, "boolean"),
    "due_from": "date",
    "file_bytes": "bigint",
    "file_modified": "bigint",
    "raw": "string",
    # Only for rows of repeated keys: the hash of the whole source row, and the date of its own extract.
    "whole": "bigint",
    "extract": "date",
}
# The columns of silver that every staged row has, valid or not.
_OF_EVERY_ROW = {"record_id": "string", "extract_date": "date", "source_file": "string"}
# The columns in which two rows of one key need not be equal: where and when they were read, and what other tables add.
_NOT_COMPARED = (
    "source_system", "dataset", "record_id", "cleaned", "extract_date", "content", "source_file", "run_id",
    "dominant_procedure", "dominant_procedure_4", "primary_diagnosis", "dominance_basis", "incomplete_spell", "episodes",
)  # fmt: skip
# Columns of silver that have a value in some rows of every delivery. If one is empty in all rows, the source probably has it
# under a name that was not recognised.
NEVER_EMPTY = (
    "person_id", "provider_code", "commissioner_code", "diagnosis_codes", "procedure_codes", "dominant_procedure",
    "primary_diagnosis",
)  # fmt: skip


def as_records(rows: DataFrame, table: Table, system: str, dataset: str, run_id: str) -> DataFrame:
    """``rows`` with all their columns, and with the columns of silver that no source has."""
    frame = rows.withColumns({"source_system": F.lit(system), "dataset": F.lit(dataset), "run_id": F.lit(run_id)})
    if dataset == "apc":
        frame = frame.withColumn("dominant_procedure_4", F.substring("dominant_procedure", 1, 4))
    return frame.withColumn("content", content(table))


def sorted_for_writing(spark: SparkSession, records: DataFrame, dataset: str, partitions: int) -> DataFrame:
    """Records in the order in which a task writes them into this number of partitions."""
    at_once = partitions <= int(setting(spark, FILES_AT_ONCE) or 0)
    return records.sortWithinPartitions(*([] if at_once else [YEAR]), SORTED_BY[dataset])


def staging_folder(lake: Lake) -> Path | None:
    """The folder in which this run stages rows. None if rows cannot be staged: the lake is not a folder, a table of records
    cannot take files (:meth:`~ebi_spark.lake.storage.Lake.can_adopt`), or Spark would misread the folder's path."""
    if lake.location.folder is None or not all(map(lake.can_adopt, RECORD_TABLES.values())):
        return None
    folder = Path(lake.location.folder) / "silver" / FOLDER / lake.run_id
    with contextlib.suppress(InputError):
        spark_path(str(folder))
        return folder
    return None


@contextlib.contextmanager
def staging_area(lake: Lake) -> Iterator[None]:
    """Remove what an earlier run left in the staging folder; at the end, remove what this run left."""

    def remove() -> None:
        if lake.location.folder is not None:
            shutil.rmtree(Path(lake.location.folder) / "silver" / FOLDER, ignore_errors=True)

    remove()
    try:
        yield
    finally:
        remove()


class StagedRows:
    """The rows of one source table, staged in a folder. ``table``: the table of silver that the valid rows belong to; None if a
    row is not a record by itself."""

    def __init__(self, spark: SparkSession, folder: Path, table: Table | None) -> None:
        self.spark, self.folder, self.table = spark, folder, table

    @property
    def rows(self) -> DataFrame:
        """All rows, as a classified frame (:mod:`ebi_spark.records.row_status`) with silver's columns, if ``table`` is given."""
        return self._classified(self._stored().where(F.col(YEAR) != REPEATED))

    def having(self, status: str) -> DataFrame:
        """The classified rows of one status."""
        stored = self._stored()
        if status == VALID:
            return self._classified(stored.where((F.col(YEAR) != REPEATED) & F.col("_status").isNull()))
        return self._classified(stored.where((F.col(YEAR) == OTHER) & (F.col("_status") == status)))

    def records(self, years: Collection[str] | None = None) -> DataFrame:
        """The records of some years, or of all (None)."""
        assert self.table is not None
        wanted = ~F.col(YEAR).isin(OTHER, REPEATED) if years is None else F.col(YEAR).isin(*years)
        return self._stored().where(wanted).select(*self.table.names())

    def keys(self) -> DataFrame:
        """The keys of the rows, each once, as :func:`ebi_spark.records.sus_plus.spell_years` has them."""
        rows = self.rows.where(
            F.col("record_id").isNotNull() & ~F.array_contains("reasons", CORRUPT_LINE) & ~F.col("is_duplicate")
        )
        keys = [F.col("record_id").alias("_owner"), start_of_year(F.col(YEAR)).alias("_start")]
        conflicting = F.array_contains("reasons", CONFLICTING)
        repeated = rows.where(conflicting).select(*keys).groupBy("_owner").agg(F.min("_start").alias("_start"))
        return rows.where(~conflicting).select(*keys).unionByName(repeated)

    def repeated_rows(self, system: str, role: str) -> DataFrame:
        """The resolved rows of repeated keys, with the columns of ``silver/repeated_row`` but without the run."""
        values = {
            "source_system": F.lit(system),
            "role": F.lit(role),
            "conflict": F.array_contains(_restored()["reasons"], CONFLICTING),
            "content": F.col("_whole"),
            **{name: column for name, column in _restored().items() if name in REPEATED_ROW.names()},
        }
        rows = self._stored().where((F.col(YEAR) != REPEATED) & F.col("_whole").isNotNull())
        return rows.select(
            *[
                (
                    values[name] if name in values else F.col(name) if name in _OF_EVERY_ROW else F.lit(None).cast(kind)
                ).alias(name)
                for name, kind, _ in REPEATED_ROW.fields()
                if name != "run_id"
            ]
        )

    def resolve(self, years: tuple[str, ...] | None) -> None:
        """Decide which of the rows of repeated keys count, and stage them with their status. ``years``: those asked for (None: all)."""
        assert self.table is not None
        rows = self._stored().where(F.col(YEAR) == REPEATED).withColumn(YEAR, F.col(f"_{YEAR}"))
        compared = [name for name in self.table.names() if name not in _NOT_COMPARED]
        decided = with_decision(rows, "record_id", "_extract", "_whole", compared)
        # What was just decided replaces what was staged: `is_duplicate` and `differs_elsewhere`.
        restored, conflict = _restored(), F.array(F.lit(CONFLICTING))
        known = restored["reasons"]
        restored["reasons"] = F.when(F.col("conflict"), F.concat(known, conflict)).otherwise(known)
        undecided = {name: column for name, column in restored.items() if name not in decided.columns}
        classified = with_status(decided.withColumns({**undecided, "repeated": F.lit(False)}), years)
        own_extract = F.when(_is_valid(), F.col("extract_date")).otherwise(F.col("_extract"))
        noted = _noted(F.col("_raw"), F.col("_whole"), F.col("_extract"))
        columns = [name for name, _ in _columns(self.table) if name != "extract_date"]
        final = classified.select(*columns, own_extract.alias("extract_date"), *noted, _partition())
        ordered = final.sortWithinPartitions(YEAR, SORTED_BY["apc" if self.table == APC_SPELL else "op"])
        ordered.write.mode("append").partitionBy(YEAR).parquet(str(self.folder))

    def _stored(self) -> DataFrame:
        columns = [*_columns(self.table), *((f"_{name}", kind) for name, kind in _COUNTED.items())]
        listed = ", ".join(f"{name} {kind}" for name, kind in (*columns, (YEAR, "string")))
        return self.spark.read.schema(listed).parquet(spark_path(str(self.folder)))

    def _classified(self, stored: DataFrame) -> DataFrame:
        of_records: list[Column] = []
        if self.table:
            own = [name for name, _ in _columns(self.table) if name not in (*_OF_EVERY_ROW, "cleaned")]
            of_records = [F.when(F.col("_status").isNull(), F.col("cleaned")).alias("cleaned"), *map(F.col, own)]
        return stored.select(
            "record_id",
            "extract_date",
            "source_file",
            F.coalesce("_status", F.lit(VALID)).alias("status"),
            F.coalesce(f"_{YEAR}", F.nullif(F.col(YEAR), F.lit(OTHER))).alias(YEAR),
            *[column.alias(name) for name, column in _restored().items()],
            F.col("_raw").alias("raw"),
            *of_records,
        )


def _columns(table: Table | None) -> list[tuple[str, str]]:
    """The columns of silver that are staged, with their types, without the year."""
    return [(name, kind) for name, kind, _ in table.fields() if name != YEAR] if table else [*_OF_EVERY_ROW.items()]


def _restored() -> dict[str, Column]:
    """Columns of a classified row, from the staged columns :data:`_COUNTED`."""
    return {
        "reasons": F.coalesce("_reasons", F.array().cast("array<string>")),
        **{name: F.coalesce(f"_{name}", F.lit(False)) for name in _FLAGS},
        "due_from": F.col("_due_from"),
        "file_bytes": F.col("_file_bytes"),
        "file_modified": F.timestamp_micros("_file_modified"),
    }


def stage(lake: Lake, folder: Path, rows: DataFrame) -> StagedRows:
    """Stage the classified ``rows`` of a source table in which a row is not a record by itself."""
    never = F.lit(None)
    rows = rows.withColumn("repeated", F.lit(False))
    noted = rows.select(
        *_OF_EVERY_ROW, YEAR, "status", "repeated", *_noted(raw_json(), never.cast("bigint"), never.cast("date"))
    )
    return _write(lake, folder, noted.select(*_OF_EVERY_ROW, *(f"_{name}" for name in _COUNTED), _partition()), None)


def stage_records(
    lake: Lake,
    folder: Path,
    rows: DataFrame,
    system: str,
    dataset: str,
    *,
    years: Collection[str] | None,
    complete: Callable[[DataFrame], DataFrame],
) -> StagedRows:
    """Stage the classified ``rows`` of a source table in which each valid row is a record. ``complete`` adds columns of
    other tables. ``years``: those asked for (None: all)."""
    table = RECORD_TABLES[dataset]
    # There may be many rows of years that were not asked for. Only what is counted is stored for them.
    light = years is not None
    partitions = len(years) + 2 if years else FEW_FILES + 1
    whole, extract = (F.when(F.col("repeated"), F.col(name)) for name in ("content", "extract_date"))
    noted = rows.select("*", *_noted(raw_json(), whole, extract)).drop("raw_names", "raw_values")
    records = as_records(complete(noted), table, system, dataset, lake.run_id)

    def stored(name: str, kind: str) -> Column:
        value = F.col(name).cast(kind)
        kept = _is_valid() | F.col("repeated")
        return (F.when(kept, value) if light and name not in _OF_EVERY_ROW else value).alias(name)

    frame = records.select(
        *[stored(name, kind) for name, kind in _columns(table)], *(f"_{name}" for name in _COUNTED), _partition()
    )
    return _write(lake, folder, sorted_for_writing(lake.spark, frame, dataset, partitions), table)


def stage_repeated_rows(lake: Lake, staging: Path, parts: list[DataFrame]) -> DataFrame:
    """Stage resolved rows of repeated keys, and return them as they were staged."""
    folder = str(staging / REPEATED)
    frame = reduce(DataFrame.unionByName, parts)
    frame.coalesce(1).write.parquet(folder)
    return lake.spark.read.schema(frame.schema).parquet(spark_path(folder))


def _is_valid() -> Column:
    """Whether a row is known to be a record. This is decided later for rows of repeated keys."""
    return (F.col("status") == VALID) & ~F.col("repeated")


def _partition() -> Column:
    """The partition of a row. A row of APCS_Der is valid without a year if its spell has none."""
    other = F.when(F.col("repeated"), F.lit(REPEATED)).otherwise(F.lit(OTHER))
    return F.when(_is_valid() & F.col(YEAR).isNotNull(), F.col(YEAR)).otherwise(other).alias(YEAR)


def _noted(raw: Column, whole: Column, extract: Column) -> list[Column]:
    """The columns :data:`_COUNTED` of classified rows. ``raw``: the source row as text."""
    values = {
        "status": F.when(~_is_valid(), F.col("status")),
        YEAR: F.when(~_is_valid(), F.col(YEAR)),
        "reasons": F.when(F.size("reasons") > 0, F.col("reasons")),
        **{name: F.when(F.col(name), F.lit(True)) for name in _FLAGS},
        "due_from": F.col("due_from"),
        "file_bytes": F.col("file_bytes"),
        "file_modified": F.unix_micros("file_modified"),
        # A row of a repeated key can still become quarantined.
        "raw": F.when((F.col("status") == QUARANTINED) | F.col("repeated"), raw),
        "whole": whole,
        "extract": extract,
    }
    return [values[name].alias(f"_{name}") for name in _COUNTED]


def _write(lake: Lake, folder: Path, frame: DataFrame, table: Table | None) -> StagedRows:
    frame.write.partitionBy(YEAR).parquet(str(folder))
    return StagedRows(lake.spark, folder, table)
