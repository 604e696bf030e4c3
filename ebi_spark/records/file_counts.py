"""Counts the rows of the source files before silver is replaced: by file, row status, year and reason.

The counts decide which years a run can replace, whether one of them shrank, and which years and files belong
together (:mod:`ebi_spark.records.years_to_replace`).
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import reduce
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from ebi_spark.config.fingerprint import fingerprint
from ebi_spark.records.checksums import Checksum, checksum_columns, record_checksum_columns
from ebi_spark.records.row_status import DUPLICATE, OUTSIDE, QUARANTINED, VALID
from ebi_spark.records.staging import NEVER_EMPTY, StagedRecords, StagedRows
from ebi_spark.sources.file_inventory import within
from ebi_spark.sources.reader import SourceTable, TableId
from ebi_spark.tables.table import YEAR


@dataclass(frozen=True)
class ClassifiedTable:
    """One source table with the status of its rows.

    ``rows``: one row for each source row. ``staged``: the staged rows that these are read from. ``records``: the staged records of
    its valid rows; None for a table that only completes another one, or only withdraws records. If a row makes a record by
    itself, ``staged`` and ``records`` are the same.
    """

    table: SourceTable
    rows: DataFrame
    staged: StagedRows | StagedRecords
    records: StagedRecords | None

    def having(self, status: str) -> DataFrame:
        """The rows of one status."""
        if isinstance(self.staged, StagedRecords):
            return self.staged.having(status)
        return self.rows.where(F.col("status") == status)

    def quarantined(self, number: int) -> DataFrame:
        """The quarantined rows, with their source rows as text in ``raw``. ``number``: how many they are."""
        if isinstance(self.staged, StagedRecords):
            return self.staged.having(QUARANTINED)
        return self.staged.quarantined(self.rows, number)

    @property
    def table_id(self) -> TableId:
        """(system, role)."""
        return self.table.table_id

    @property
    def dataset(self) -> str:
        """``apc`` or ``op``."""
        return self.table.dataset


@dataclass
class RecordCount:
    """The records of silver that rows of one file made. ``cleaned``: values that cleaning changed, by field and kind.
    ``filled``: records that have a value in a column, for :data:`NEVER_EMPTY`."""

    records: int = 0
    checksum: Checksum = field(default_factory=Checksum)
    cleaned: Counter[str] = field(default_factory=Counter)
    filled: Counter[str] = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        """Add a group of records with the same ``cleaned``, as counted by :meth:`columns`."""
        self.records += row["count"]
        self.checksum.add(row["checksum"])
        for change in row["cleaned"] or ():
            self.cleaned[change] += row["count"]
        self.filled.update({name: number for name, number in row["filled"].asDict().items() if number is not None})

    def merge(self, other: "RecordCount") -> None:
        """Add the records of other rows."""
        self.records += other.records
        self.checksum.merge(other.checksum)
        self.cleaned.update(other.cleaned)
        self.filled.update(other.filled)

    @staticmethod
    def columns(names: Collection[str]) -> list[Column]:
        """The aggregates over records, without their number (``count``). ``names``: the columns of the records; the aggregate of
        a column that they lack is NULL. No names: these are no records."""
        counted = [f"count({name})" if name in names else "CAST(NULL AS BIGINT)" for name in NEVER_EMPTY]
        named = [f"{column} AS {name}" for column, name in zip(counted, NEVER_EMPTY, strict=True)]
        filled = F.expr(f"struct({', '.join(named)})")
        nothing = F.expr("CAST(NULL AS STRUCT<checksum_xor: BIGINT, checksum_sum: BIGINT>)")
        checksum = F.struct(*record_checksum_columns()) if names else nothing
        return [checksum.alias("checksum"), filled.alias("filled")]


@dataclass
class FileCount:
    """The rows of one file, counted.

    ``rows``: by row status. ``years``: rows of the years asked for, and rows without a year under None, by year.
    ``due_from``: the first day on which one of its rows would be read differently. ``outcome_checksums``: the
    checksum of its keys by year and reasons, for all years, asked for or not.
    """

    bytes: int | None = None
    modified: datetime | None = None
    rows: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    years: Counter[str | None] = field(default_factory=Counter)
    year_disagrees: int = 0
    differing: int = 0  # duplicates that differ in columns that no record takes
    due_from: date | None = None
    outcome_checksums: dict[tuple[str | None, str], Checksum] = field(default_factory=lambda: defaultdict(Checksum))
    # By year: the records, and the number of records that violate a check.
    records: dict[str, RecordCount] = field(default_factory=lambda: defaultdict(RecordCount))
    violations: Counter[str] = field(default_factory=Counter)


class Batch(NamedTuple):
    """Years that are written in one commit, and the files that have rows of them: no other file does. ``rows``: the
    rows of these files."""

    years: list[str]
    files: frozenset[str]
    rows: int


@dataclass
class FileCounts:
    """Counts by (system, role) and file. ``years``: the years found in usable rows, by dataset, each with its valid
    rows (of the tables that records are made of). ``unchanged``: counts that earlier runs made of the files that
    this run did not have to read."""

    files: dict[TableId, dict[str, FileCount]]
    years: Mapping[str, Mapping[str, int]]
    unchanged: dict[TableId, dict[str, FileCount]] = field(default_factory=dict)

    def counts(self, table_id: TableId) -> dict[str, FileCount]:
        """The counts of all files of a table."""
        return self.unchanged.get(table_id, {}) | self.files[table_id]

    def total(self, kind: str) -> int:
        """Rows of one status over all files."""
        return sum(count.rows[kind] for table_id in self.files for count in self.counts(table_id).values())

    def usable_years(self) -> set[str]:
        """The years of which the files that were read have usable rows, asked for or not."""
        return {
            year
            for counts in self.files.values()
            for count in counts.values()
            for year, reasons in count.outcome_checksums
            if year and not reasons
        }

    def outcome_fingerprints(self, batch: Batch) -> dict[str, dict[str, str]]:
        """For each file of a batch, a fingerprint by year: its years that were asked for, and "" for rows without a
        year.

        A fingerprint stays the same only while the same rows are of that year, quarantined for the same reasons,
        and counted or duplicates as before. It changes with the file. It also changes with other files, when one of
        these gains or loses a key that is in both, or the spell of a row of APCS_Der.
        """
        listed: dict[str, dict[str, list[str]]] = {path: defaultdict(list) for path in batch.files}
        for table_id, counts in sorted(self.files.items()):
            for path in listed.keys() & counts.keys():
                for (year, reasons), found in sorted(counts[path].outcome_checksums.items(), key=str):
                    if year is None or year in counts[path].years:
                        listed[path][year or ""].append(f"{table_id} {reasons}: {found}")
        return {path: {year: fingerprint(found) for year, found in by_year.items()} for path, by_year in listed.items()}

    def due_from(self, batch: Batch) -> dict[str, date]:
        """The files of a batch that have rows of future days, each with the first day on which it has to be read
        again."""
        found: dict[str, date] = {}
        for counts in self.files.values():
            for path in batch.files & counts.keys():
                day = counts[path].due_from
                if day is not None:
                    found[path] = min(day, found.get(path, day))
        return found

    def records(self, table_id: TableId, batch: Batch) -> dict[str, RecordCount]:
        """The records that one source table has of a batch, by file."""
        found: dict[str, RecordCount] = {}
        for path, count in self.files[table_id].items():
            for year in count.records.keys() & set(batch.years):
                found.setdefault(path, RecordCount()).merge(count.records[year])
        return found

    def quarantined(self, table_id: TableId, files: frozenset[str]) -> int:
        """The number of quarantined rows of one table, in some of its files."""
        return sum(count.rows[QUARANTINED] for path, count in self.files[table_id].items() if path in files)


def count_files(classified: list[ClassifiedTable], checks: Mapping[str, Collection[str]]) -> FileCounts:
    """Count rows by file, row status, year and reason. Collects one row for each combination, never a record. ``checks``: by
    dataset, conditions that every record of silver has to meet; staged records that do not are counted.

    | source_file | status      | year    | reasons  | → count |
    |-------------|-------------|---------|----------|---------|
    | a.csv       | valid       | 2021-22 | []       | 9,120   |
    | a.csv       | quarantined | 2021-22 | [no_key] | 4       |
    | b.csv       | duplicate   | 2022-23 | []       | 12      |
    """
    years: dict[str, Counter[str]] = defaultdict(Counter)
    files: dict[TableId, dict[str, FileCount]] = {item.table_id: {} for item in classified}
    by_id = {item.table_id: item for item in classified}
    grouped = [part for item in classified for part in _grouped(item, checks[item.dataset])]
    found = reduce(DataFrame.unionByName, grouped).collect()
    for row in sorted(found, key=lambda row: not row["are_rows"]):
        item = by_id[row["source_system"], row["role"]]
        counts, path = files[item.table_id], row["source_file"]
        if row["are_rows"]:
            _add_rows(counts.setdefault(path, FileCount(row["file_bytes"], row["file_modified"])), row)
            if row[YEAR] is not None and row["status"] != QUARANTINED:
                makes_records = row["status"] == VALID and item.records is not None
                years[item.dataset][row[YEAR]] += row["count"] if makes_records else 0
        if row["checksum"] is not None and row["status"] == VALID:
            counts[path].records[row[YEAR]].add(row)
            counts[path].violations[row[YEAR]] += row["violations"]
    # A file without rows is in no group. A folder of many files is represented by its files.
    for item in classified:
        counts = files[item.table_id]
        for path in item.table.files:
            if path not in counts and not any(within(name, path) for name in counts):
                counts[path] = FileCount()
    return FileCounts(files, years)


def _grouped(item: ClassifiedTable, checks: Collection[str]) -> list[DataFrame]:
    """The counts of a table's rows, and of the records that they make."""
    if item.records is None:
        return [_counted(item, item.rows, are_rows=True)]
    if item.records is item.staged:
        return [_counted(item, item.rows, checks, are_rows=True)]
    return [_counted(item, item.rows, are_rows=True), _counted(item, item.records.rows, checks, are_rows=False)]


def _counted(
    item: ClassifiedTable, rows: DataFrame, checks: Collection[str] | None = None, *, are_rows: bool
) -> DataFrame:
    """Counts by file, status, year, reasons and cleaning. ``checks``: those of records; None if the rows make none by themselves.
    ``are_rows``: whether these are rows of source files."""
    # A condition that is NULL is not met. Conditions are counted six at a time: after one that is not met, Spark skips the rest.
    met = [f"coalesce(({rule}), false)" for rule in checks or ()]
    violated = [f"count_if(NOT ({' AND '.join(met[at : at + 6])}))" for at in range(0, len(met), 6)]
    return rows.groupBy(
        F.expr(f"'{item.table.system}' AS source_system"),
        F.expr(f"'{item.table.role}' AS role"),
        F.expr(f"{are_rows} AS are_rows"),
        *("source_file", "file_bytes", "file_modified", YEAR, "status", "reasons", "year_disagrees"),
        F.expr("CAST(NULL AS ARRAY<STRING>) AS cleaned" if checks is None else "cleaned"),
    ).agg(
        F.expr("count(*) AS count"),
        F.expr("count_if(differs_elsewhere) AS differing"),
        F.expr("min(due_from) AS due_from"),
        F.struct(*checksum_columns("xxhash64(record_id, is_duplicate)")).alias("outcome"),
        *RecordCount.columns(() if checks is None else rows.columns),
        F.expr(f"{' + '.join(violated) or '0L'} AS violations"),
    )


def _add_rows(count: FileCount, row: Row) -> None:
    status, year = row["status"], row[YEAR]
    count.rows[status] += row["count"]
    count.outcome_checksums[year, ",".join(sorted(row["reasons"]))].add(row["outcome"])
    count.year_disagrees += row["count"] if row["year_disagrees"] else 0
    if row["due_from"] and (count.due_from is None or row["due_from"] < count.due_from):
        count.due_from = row["due_from"]
    if status != OUTSIDE:
        count.years[year] += row["count"]
    if status == DUPLICATE:
        count.differing += row["differing"]
    if status == QUARANTINED:
        count.reasons.update(dict.fromkeys(row["reasons"], row["count"]))
