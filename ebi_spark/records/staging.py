"""Reads and cleans the rows of a source table once, and stages them.

One query for each source table reads, cleans and stages its rows (:mod:`ebi_spark.lake.staging_area` says where). Later steps use
the staged rows to count, to decide what is refused, and to commit records and quarantined rows. No other step reads a whole row of
the source again.

:class:`StagedRecords` are rows that each make a record by themselves (APCS, OPA, outpatients of HES), and spells built from episodes.
They are staged as silver has them, so that files can become silver's without being written again:

```
sus_plus_opa/financial_year=2021-22/   valid rows, with silver's columns
             financial_year=other/     all other rows: what is counted, with reasons and source text of quarantined rows
             financial_year=repeated/  rows whose key is in other rows too, until it is decided which of them count
```

:class:`StagedRows` are all other rows: episodes, and rows that complete or withdraw records. Their status depends on rows of other
tables or on other rows of their spell. It is computed from the staged rows each time that it is used.
"""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.financial_years import start_of_year
from ebi_spark.lake.staging_area import StagingArea
from ebi_spark.lake.storage import Lake
from ebi_spark.quoting import sql_text
from ebi_spark.records.checksums import content
from ebi_spark.records.cleaning import changed
from ebi_spark.records.duplicates import with_decision
from ebi_spark.records.row_status import CONFLICTING, CORRUPT_LINE, QUARANTINED, VALID, with_status
from ebi_spark.sources.reader import raw_json
from ebi_spark.spark.tuning import setting
from ebi_spark.tables.silver import RECORD_TABLES, REPEATED_ROW
from ebi_spark.tables.table import YEAR, Table

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
# Columns of a classified row, in SQL, from the staged columns `_COUNTED`.
_RESTORED = {
    "reasons": "coalesce(_reasons, CAST(array() AS ARRAY<STRING>))",
    **{name: f"coalesce(_{name}, false)" for name in _FLAGS},
    "due_from": "_due_from",
    "file_bytes": "_file_bytes",
    "file_modified": "timestamp_micros(_file_modified)",
}
# Whether a row is known to be a record, in SQL. This is decided later for rows of repeated keys.
_IS_VALID = f"(status = '{VALID}' AND NOT repeated)"
# The partition of a row, in SQL.
_PARTITION = f"CASE WHEN {_IS_VALID} THEN {YEAR} WHEN repeated THEN '{REPEATED}' ELSE '{OTHER}' END AS {YEAR}"
# The columns of silver that every staged row has, valid or not.
_OF_EVERY_ROW = ("record_id", "extract_date", "source_file")
# The source row under its own column names, as text. Only the quarantined rows need it, so no other query reads it.
_RAW = ("raw_names", "raw_values")
# Up to this many quarantined rows are sent to every task, to find their source rows.
_FEW_ROWS = 200_000
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


def sorted_for_writing(spark: SparkSession, records: DataFrame, dataset: str, partitions: int) -> DataFrame:
    """Records in the order in which a task writes them into this number of partitions."""
    at_once = partitions <= int(setting(spark, FILES_AT_ONCE) or 0)
    return records.sortWithinPartitions(*([] if at_once else [YEAR]), SORTED_BY[dataset])


class StagedRows:
    """Staged rows whose status is computed when it is used. Each has a ``row_number`` of its own.

    ``name``: under which they are staged. ``repeated``: those of them whose key is in several rows; None if there are none.
    """

    def __init__(self, area: StagingArea, name: str, stored: DataFrame, repeated: DataFrame | None) -> None:
        self._area, self._name, self._stored, self._repeated = area, name, stored, repeated
        self._quarantined: DataFrame | None = None

    @property
    def rows(self) -> DataFrame:
        """All rows, cleaned."""
        return self._stored.drop(*_RAW)

    def quarantined(self, classified: DataFrame, number: int) -> DataFrame:
        """The quarantined ones of the ``classified`` rows, with their source rows as text in ``raw``. They are staged when they are
        first asked for: to find them for each batch would need all rows each time. ``number``: how many they are."""
        if self._quarantined is None:
            columns = ("row_number", "status", "reasons", YEAR, *_OF_EVERY_ROW, "corrupt")
            rows = classified.where(F.col("status") == QUARANTINED).select(*columns)
            # The source rows are wide: without this they would all be moved to find the few.
            rows = F.broadcast(rows) if number <= _FEW_ROWS else rows
            cells = self._stored.select("row_number", *_RAW)
            found = cells.join(rows, "row_number").withColumn("raw", raw_json()).drop(*_RAW)
            self._area.write(f"{self._name}_quarantined", found)
            self._quarantined = self._area.read(f"{self._name}_quarantined", found.schema)
        return self._quarantined

    def repeated_rows(self, system: str, role: str) -> DataFrame:
        """The rows of repeated keys, with the columns of ``silver/repeated_row`` but without the run."""
        assert self._repeated is not None
        return _repeated_rows(self._repeated, system, role)


def stage_rows(
    area: StagingArea, name: str, rows: DataFrame, compared: Iterable[str], *, any_repeated: bool
) -> StagedRows:
    """Stage cleaned ``rows`` of :func:`ebi_spark.records.duplicates.with_repeated`, and resolve those of repeated keys.

    ``compared``: the columns in which two rows of one key have to be equal to be the same. ``any_repeated``: whether there are
    repeated keys at all.
    """
    numbered = rows.withColumn("row_number", F.monotonically_increasing_id())
    area.write(name, numbered, indexed=())
    stored = area.read(name, numbered.schema)
    if not any_repeated:
        return StagedRows(area, name, stored, None)
    decided = with_decision(stored.where("repeated"), "extract_date", "content", compared)
    area.write(f"{name}_repeated", decided.select(*numbered.columns))
    repeated = area.read(f"{name}_repeated", numbered.schema)
    return StagedRows(area, name, stored.where("NOT repeated").unionByName(repeated), repeated)


class StagedRecords:
    """Rows of one source table that each make a record if they are valid, or the spells that were built from its episodes.

    ``name``: under which they are staged. ``system`` and ``dataset``: of the records.
    """

    def __init__(self, lake: Lake, area: StagingArea, name: str, system: str, dataset: str, config: RunConfig) -> None:
        self._spark, self._run_id, self._area, self._name = lake.spark, lake.run_id, area, name
        self._system, self._dataset, self._config, self._any_repeated = system, dataset, config, False
        self.table: Table = RECORD_TABLES[dataset]

    @property
    def folder(self) -> Path | None:
        """The folder of the staged files, if they can become files of silver."""
        return self._area.folder(self._name) if self._area.adoptable else None

    def stage(self, rows: DataFrame, complete: Callable[[DataFrame], DataFrame], *, any_repeated: bool) -> None:
        """Stage the classified ``rows`` of a source table. ``complete`` adds columns of other tables. ``any_repeated``: whether
        there are repeated keys."""
        whole, extract = (F.when(F.col("repeated"), F.col(name)) for name in ("content", "extract_date"))
        noted = changed(rows, self._noted(raw_json(), whole, extract), without=_RAW)
        records, made = complete(noted), self._made()

        def stored(name: str, kind: str) -> str:
            value = f"CAST({made.get(name, name)} AS {kind})"
            if self._config.years is not None and name not in _OF_EVERY_ROW:
                # There may be many rows of years that were not asked for. Only what is counted is stored for them.
                value = f"CASE WHEN {_IS_VALID} OR repeated THEN {value} END"
            return f"{value} AS {name}"

        columns = [stored(name, kind) for name, kind in self._columns()]
        self._write_in_order(records.selectExpr(*columns, *(f"_{name}" for name in _COUNTED), _PARTITION), others=2)
        self._any_repeated = any_repeated
        if any_repeated:
            self._resolve()

    def stage_spells(self, spells: DataFrame) -> None:
        """Stage spells that were built from valid episodes."""
        made = self._made()
        columns = [f"CAST({made.get(name, name)} AS {kind}) AS {name}" for name, kind in self._columns()]
        nothing = [f"CAST(NULL AS {kind}) AS _{name}" for name, kind in _COUNTED.items()]
        self._write_in_order(spells.selectExpr(*columns, *nothing, YEAR), others=0)

    def _resolve(self) -> None:
        """Decide which of the rows of repeated keys count, and stage them with their status."""
        rows = self._stored().where(F.col(YEAR) == REPEATED).withColumn(YEAR, F.col(f"_{YEAR}"))
        compared = [name for name in self.table.names() if name not in _NOT_COMPARED]
        decided = with_decision(rows, "_extract", "_whole", compared)
        # What was just decided replaces what was staged: `is_duplicate` and `differs_elsewhere`.
        restored, conflict = {name: F.expr(value) for name, value in _RESTORED.items()}, F.array(F.lit(CONFLICTING))
        known = restored["reasons"]
        restored["reasons"] = F.when(F.col("conflict"), F.concat(known, conflict)).otherwise(known)
        undecided = {name: column for name, column in restored.items() if name not in decided.columns}
        classified = with_status(decided.withColumns({**undecided, "repeated": F.lit(False)}), self._config.years)
        own_extract = F.when(F.expr(_IS_VALID), F.col("extract_date")).otherwise(F.col("_extract"))
        made = self._noted(F.col("_raw"), F.col("_whole"), F.col("_extract")) | {"extract_date": own_extract}
        columns = [name for name, _ in self._columns() if name not in made]
        noted = [column.alias(name) for name, column in made.items()]
        final = classified.select(*columns, *noted, F.expr(_PARTITION))
        self._write(final.sortWithinPartitions(YEAR, SORTED_BY[self._dataset]), more=True)

    def _write_in_order(self, rows: DataFrame, others: int) -> None:
        """Stage rows of the years asked for, and of ``others`` partitions besides."""
        partitions = len(self._config.years) + others if self._config.years else FEW_FILES + 1
        self._write(sorted_for_writing(self._spark, rows, self._dataset, partitions))

    def _write(self, rows: DataFrame, *, more: bool = False) -> None:
        # Rules search by the column that rows are sorted by. Delta's log has the minimum and maximum of the others.
        indexed = (SORTED_BY[self._dataset], *self.table.statistics)
        self._area.write(self._name, rows, by_year=True, more=more, indexed=indexed)

    @property
    def rows(self) -> DataFrame:
        """All rows, as a classified frame (:mod:`ebi_spark.records.row_status`) with silver's columns."""
        return self._classified(self._stored().where(F.col(YEAR) != REPEATED))

    def having(self, status: str) -> DataFrame:
        """The classified rows of one status."""
        stored = self._stored()
        if status == VALID:
            return self._classified(stored.where((F.col(YEAR) != REPEATED) & F.col("_status").isNull()))
        return self._classified(stored.where((F.col(YEAR) == OTHER) & (F.col("_status") == status)))

    def records(self, years: Collection[str]) -> DataFrame:
        """The records of some years, as silver has them."""
        return self._stored().where(F.col(YEAR).isin(*years)).select(*self.table.names())

    def keys(self) -> DataFrame:
        """The keys of the rows, each once: ``_owner`` is the key, and ``_start`` (INT) the calendar year in which its financial year
        starts (NULL if it is not known); where rows of a key conflict, the earliest. Duplicates and corrupt lines are left out.

        | record_id | financial_year | reasons                 | is_duplicate | → _owner | _start |
        |-----------|----------------|-------------------------|--------------|----------|--------|
        | 1         | 2021-22        | []                      | false        | 1        | 2021   |
        | 1         | 2021-22        | []                      | true         |          |        |
        | 2         | 2020-21        | [conflicting_duplicate] | false        | 2        | 2020   |
        | 2         | 2021-22        | [conflicting_duplicate] | false        |          |        |
        """
        rows = self.rows.where(
            F.col("record_id").isNotNull() & ~F.array_contains("reasons", CORRUPT_LINE) & ~F.col("is_duplicate")
        )
        keys = [F.col("record_id").alias("_owner"), F.expr(start_of_year(YEAR)).alias("_start")]
        if not self._any_repeated:  # then no row conflicts, and each key is there once
            return rows.select(*keys)
        conflicting = F.array_contains("reasons", CONFLICTING)
        repeated = rows.where(conflicting).select(*keys).groupBy("_owner").agg(F.min("_start").alias("_start"))
        return rows.where(~conflicting).select(*keys).unionByName(repeated)

    def repeated_rows(self, system: str, role: str) -> DataFrame:
        """The rows of repeated keys, with the columns of ``silver/repeated_row`` but without the run."""
        rows = self._stored().where((F.col(YEAR) != REPEATED) & F.col("_whole").isNotNull())
        conflict, whole = F.array_contains(F.expr(_RESTORED["reasons"]), CONFLICTING), F.col("_whole")
        restored = {name: F.expr(value) for name, value in _RESTORED.items() if name in REPEATED_ROW.names()}
        return _repeated_rows(rows.withColumns({**restored, "conflict": conflict, "content": whole}), system, role)

    def _made(self) -> dict[str, str]:
        """The columns of silver that no source has, in SQL."""
        made = {"source_system": self._system, "dataset": self._dataset, "run_id": self._run_id}
        made = {name: sql_text(value) for name, value in made.items()}
        if self._dataset == "apc":
            made["dominant_procedure_4"] = "substring(dominant_procedure, 1, 4)"
        return made | {"content": content(self.table, made)}

    def _stored(self) -> DataFrame:
        columns = [*self._columns(), *((f"_{name}", kind) for name, kind in _COUNTED.items()), (YEAR, "string")]
        return self._area.read(self._name, ", ".join(f"{name} {kind}" for name, kind in columns))

    def _columns(self) -> list[tuple[str, str]]:
        """The columns of silver, with their types, without the year."""
        return [(name, kind) for name, kind, _ in self.table.fields() if name != YEAR]

    def _classified(self, stored: DataFrame) -> DataFrame:
        others = [name for name, _ in self._columns() if name not in (*_OF_EVERY_ROW, "cleaned")]
        return stored.selectExpr(
            *_OF_EVERY_ROW,
            f"coalesce(_status, '{VALID}') AS status",
            f"coalesce(_{YEAR}, nullif({YEAR}, '{OTHER}')) AS {YEAR}",
            *[f"{value} AS {name}" for name, value in _RESTORED.items()],
            "_raw AS raw",
            "CASE WHEN _status IS NULL THEN cleaned END AS cleaned",
            *others,
        )

    def _noted(self, raw: Column, whole: Column, extract: Column) -> dict[str, Column]:
        """The columns :data:`_COUNTED` of classified rows, by name. ``raw``: the source row as text."""
        # A row of a repeated key can still become quarantined, and in an upsert so can each row that the lake contradicts.
        may_be_quarantined = (F.col("status") == QUARANTINED) | F.col("repeated")
        values = {
            "status": F.expr(f"CASE WHEN NOT {_IS_VALID} THEN status END"),
            YEAR: F.expr(f"CASE WHEN NOT {_IS_VALID} THEN {YEAR} END"),
            "reasons": F.when(F.size("reasons") > 0, F.col("reasons")),
            **{name: F.when(F.col(name), F.lit(True)) for name in _FLAGS},
            "due_from": F.col("due_from"),
            "file_bytes": F.col("file_bytes"),
            "file_modified": F.unix_micros("file_modified"),
            "raw": raw if self._config.mode == "upsert" else F.when(may_be_quarantined, raw),
            "whole": whole,
            "extract": extract,
        }
        return {f"_{name}": values[name] for name in _COUNTED}


def _repeated_rows(rows: DataFrame, system: str, role: str) -> DataFrame:
    columns = [name for name in REPEATED_ROW.names() if name not in ("source_system", "role", "run_id")]
    return rows.select(F.lit(system).alias("source_system"), F.lit(role).alias("role"), *columns)
