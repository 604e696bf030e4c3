"""What the lake holds before an ingest, counted once: to see whether a year would shrink, and whether anything would change.

Rows of a run that broke off before its account do not count as the same as any: they are written again.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.lake.storage import Lake, run_in_threads
from ebi_spark.records.checksums import Checksum, checksum_columns_of, told
from ebi_spark.tables.schemas import INGEST_AUDIT, QUARANTINE, YEAR, Table

File = tuple[str, str]  # system and path


class Made(NamedTuple):
    """What came of one file: its records, the source rows that made them, and their checksum."""

    records: int
    rows: int
    checksum: Checksum


@dataclass
class ExistingRecords:
    """Rows a year, file and run of the record tables, and of what is set aside; ``accounted``: runs that an audit tells
    of."""

    records: dict[str, list[Any]] = field(default_factory=dict)
    aside: list[Any] = field(default_factory=list)
    accounted: frozenset[str] = frozenset()

    def rows_by_year(self, dataset: str) -> dict[str, int]:
        """Source rows that the records of each year were made of."""
        found: dict[str, int] = {}
        for row in self.records.get(dataset, ()):
            found[row[YEAR]] = found.get(row[YEAR], 0) + row["rows"]
        return found

    def files(self, dataset: str, years: Collection[str]) -> dict[File, Made] | None:
        """What records of these years came of each file; None where a run wrote some that did not account for them."""
        found: dict[File, Made] = {}
        for row in self.records.get(dataset, ()):
            if row[YEAR] in years:
                if row["run_id"] not in self.accounted:
                    return None
                file = row["source_system"], row["source_file"]
                so_far = found.get(file, Made(0, 0, Checksum()))
                so_far.checksum.add(row)
                found[file] = so_far._replace(records=so_far.records + row["records"], rows=so_far.rows + row["rows"])
        return found

    def rows_aside(
        self, years: Collection[str], unknown_of: Collection[str], unknown: str, datasets: Collection[str]
    ) -> tuple[int, Checksum] | None:
        """What stands aside of these years, and of no year of the files ``unknown_of``: rows and their checksum; None as
        for :meth:`files`."""
        number, found = 0, Checksum()
        for row in self.aside:
            of_year = row[YEAR] in years or (row[YEAR] == unknown and row["source_file"] in unknown_of)
            if of_year and row["dataset"] in datasets:
                if row["run_id"] not in self.accounted:
                    return None
                number += row["rows"]
                found.add(row)
        return number, found

    def files_aside(self, year: str, datasets: Collection[str]) -> set[str]:
        """The files that rows of a year were set aside of."""
        return {row["source_file"] for row in self.aside if row[YEAR] == year and row["dataset"] in datasets}


def existing_records(lake: Lake, tables: dict[str, Table], years: Iterable[str]) -> ExistingRecords:
    """Look at what the lake holds of these years; ``tables`` are those of records, by dataset."""
    years = list(years)

    def of_records(dataset: str) -> list[Any]:
        if lake.version(tables[dataset]) == 0:
            return []
        rows = F.sum("episodes") if dataset == "apc" else F.count("*")
        held = lake.read(tables[dataset]).where(F.col(YEAR).isin(*years))
        grouped = held.groupBy(YEAR, "source_system", "source_file", "run_id")
        return grouped.agg(F.count("*").alias("records"), rows.alias("rows"), *told()).collect()

    def of_aside() -> list[Any]:
        if lake.version(QUARANTINE) == 0:
            return []
        return checksums_of_rows(lake.read(QUARANTINE), YEAR, "dataset", "source_file", "run_id")

    def accounted() -> list[Any]:
        return lake.read(INGEST_AUDIT).select("run_id").distinct().collect() if lake.version(INGEST_AUDIT) else []

    looks: list[Callable[[], list[Any]]] = [accounted, of_aside, *[partial(of_records, name) for name in tables]]
    runs, aside, *records = run_in_threads(looks)
    return ExistingRecords(dict(zip(tables, records, strict=True)), aside, frozenset(row["run_id"] for row in runs))


def checksums_of_rows(aside: DataFrame, *by: str) -> list[Any]:
    """Rows set aside by groups, as a :class:`Checksum` takes them in: by all that they say but the run that did so."""
    texts: list[Column] = [
        F.coalesce(F.col(name), F.lit("\0"))
        for name in ("source_system", "dataset", "role", "record_id", YEAR, "source_file", "raw")
    ]
    return (
        aside.groupBy(*by)
        .agg(F.count("*").alias("rows"), *checksum_columns_of(F.xxhash64(*texts, F.concat_ws(",", "reasons"))))
        .collect()
    )


def has_unrecorded_commits(lake: Lake, table: Table) -> list[str]:
    """The runs that wrote rows of a table which still stand, and that no audit tells of."""
    told_by = lake.read(INGEST_AUDIT).select("run_id").distinct()
    held = lake.read(table).select("run_id").distinct()
    return [row["run_id"] for row in held.join(told_by, "run_id", "left_anti").collect()]
