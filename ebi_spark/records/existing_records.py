"""Counts the records that the lake has before an ingest, to see whether a year would shrink and whether anything would
change.

Records of a batch that stopped before it wrote its audit are never treated as unchanged: they are written again. Such a batch has
no audit row of its run and files, though the run may have audited other batches before.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from ebi_spark.lake.storage import Lake
from ebi_spark.records.checksums import ABSENT, Checksum, checksum_columns, record_checksum_columns
from ebi_spark.records.file_counts import RecordCount
from ebi_spark.tables.silver import INGEST_AUDIT, QUARANTINE, RECORD_TABLES
from ebi_spark.tables.table import UNKNOWN_YEAR, YEAR, Table
from ebi_spark.threads import run_in_threads

File = tuple[str, str]  # system and path


@dataclass
class ExistingRecords:
    """Counts of the record tables and of quarantine by year, file and run. ``audited``: (run, file) of each audit row."""

    records: dict[str, list[Any]] = field(default_factory=dict)
    quarantine: list[Any] = field(default_factory=list)
    audited: frozenset[tuple[str, str]] = frozenset()

    def rows_by_year(self, dataset: str) -> dict[str, int]:
        """The number of source rows that made the records of each year."""
        found: Counter[str] = Counter()
        for row in self.records.get(dataset, ()):
            found[row[YEAR]] += row["rows"]
        return found

    def files(self, dataset: str, years: Collection[str]) -> dict[File, RecordCount] | None:
        """The records of these years, counted and with their checksum, by the file they came from; None if some of them were not
        audited."""
        found: dict[File, RecordCount] = {}
        for row in self.records.get(dataset, ()):
            if row[YEAR] in years:
                if not self._is_audited(row):
                    return None
                file = row["source_system"], row["source_file"]
                so_far = found.setdefault(file, RecordCount())
                so_far.records += row["records"]
                so_far.checksum.add(row)
        return found

    def quarantined_rows(
        self, years: Collection[str], files_without_year: Collection[str], datasets: Collection[str]
    ) -> tuple[int, Checksum] | None:
        """The quarantined rows of these years, and those without a year of the files ``files_without_year``: their
        number and their checksum. None if some of them were not audited."""
        number, found = 0, Checksum()
        for row in self.quarantine:
            counts = row[YEAR] in years or (row[YEAR] == UNKNOWN_YEAR and row["source_file"] in files_without_year)
            if counts and row["dataset"] in datasets:
                if not self._is_audited(row):
                    return None
                number += row["rows"]
                found.add(row)
        return number, found

    def _is_audited(self, row: Row) -> bool:
        return (row["run_id"], row["source_file"]) in self.audited

    def files_without_year(self, datasets: Collection[str]) -> set[str]:
        """The files that have quarantined rows without a year."""
        return {
            row["source_file"] for row in self.quarantine if row[YEAR] == UNKNOWN_YEAR and row["dataset"] in datasets
        }


def existing_records(lake: Lake, datasets: list[str], years: list[str]) -> ExistingRecords:
    """Count what the lake has of these datasets and years."""

    def count_records(dataset: str) -> list[Any]:
        table = RECORD_TABLES[dataset]
        if lake.version(table) == 0:
            return []
        rows = F.sum("episodes") if dataset == "apc" else F.count("*")
        existing = lake.read(table).where(F.col(YEAR).isin(*years))
        grouped = existing.groupBy(YEAR, "source_system", "source_file", "run_id")
        return grouped.agg(F.count("*").alias("records"), rows.alias("rows"), *record_checksum_columns()).collect()

    def count_quarantine() -> list[Any]:
        if lake.version(QUARANTINE) == 0:
            return []
        return quarantine_checksums(lake.read(QUARANTINE), YEAR, "dataset", "source_file", "run_id")

    def audited() -> list[Any]:
        return lake.grouped(INGEST_AUDIT, ["run_id", "source_file"]) if lake.version(INGEST_AUDIT) else []

    counts: list[Callable[[], list[Any]]] = [partial(count_records, dataset) for dataset in datasets]
    audits, quarantine, *records = run_in_threads([audited, count_quarantine, *counts])
    return ExistingRecords(
        dict(zip(datasets, records, strict=True)),
        quarantine,
        frozenset((row["run_id"], row["source_file"]) for row in audits),
    )


def quarantine_checksums(quarantine: DataFrame, *by: str) -> list[Any]:
    """Quarantined rows counted by the columns ``by``: ``rows``, with the aggregates that :class:`Checksum` adds up. The hash is of
    what the rows say; the run that wrote them is not part of it. Collects one row for each group.

    | source_file | record_id | → source_file | rows |
    |-------------|-----------|---------------|------|
    | a.csv       | 1         | a.csv         | 2    |
    | a.csv       | NULL      | b.csv         | 1    |
    | b.csv       | 1         |               |      |
    """
    names = ("source_system", "dataset", "role", "record_id", YEAR, "source_file", "raw")
    texts = [f"coalesce({name}, {ABSENT['string']})" for name in names]
    hashed = f"xxhash64({', '.join(texts)}, concat_ws(',', reasons))"
    return quarantine.groupBy(*by).agg(F.count("*").alias("rows"), *checksum_columns(hashed)).collect()


def unaudited_runs(lake: Lake, table: Table) -> list[str]:
    """The runs that wrote rows still in the table, and that have no audit row of the file of these rows."""
    by = ["run_id", "source_file"]
    audited = lake.read(INGEST_AUDIT).select(*by).distinct()
    existing = lake.read(table).select(*by).distinct()
    return [row["run_id"] for row in existing.join(audited, by, "left_anti").select("run_id").distinct().collect()]
