"""Writes the records of one batch to silver: replaces the batch's years, or inserts and updates records by key in
upsert mode."""

from collections import defaultdict
from dataclasses import dataclass, field
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.lake.storage import Lake, conform
from ebi_spark.records import upsert
from ebi_spark.records.checksums import Checksum, record_checksum_columns
from ebi_spark.records.existing_records import File, FileRecords, unaudited_runs
from ebi_spark.records.file_counts import Batch, ClassifiedTable, RecordCount
from ebi_spark.records.plan import Plan
from ebi_spark.records.row_status import VALID
from ebi_spark.records.staging import sorted_for_writing
from ebi_spark.tables.silver import RECORD_TABLES
from ebi_spark.tables.table import YEAR


@dataclass
class Outcome:
    """What became of one dataset's records in a batch.

    ``changed_years``: the years that were written. ``not_written``: the records that were not written, by file and
    reason. ``checksums``: the checksum of everything that came of each file. ``contradicting``: the keys that
    another file of the same extract contradicts. ``built``: the records that were written, by file; None if they have
    to be counted in the table.
    """

    changed_years: list[str]
    not_written: dict[File, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    checksums: dict[File, Checksum] = field(default_factory=lambda: defaultdict(Checksum))
    contradicting: DataFrame | None = None
    built: dict[File, RecordCount] | None = None


def replace_records(lake: Lake, plan: Plan, classified: list[ClassifiedTable], batch: Batch, dataset: str) -> Outcome:
    """Replace the batch's years of a dataset in one commit, unless the lake already has the same records."""
    makers = _makers(classified, dataset)
    staged = [item.staged_records.folder for item in makers if item.staged_records]
    built = _staged_records(plan, makers, batch) if len(staged) == len(makers) else None
    existing = plan.existing.files(dataset, batch.years)
    if existing is not None and _same_numbers(plan, batch, dataset, existing):
        if not existing:  # neither the lake nor a file has records of these years
            return Outcome([])
        now = _count(_incoming(makers, dataset, batch.years)) if built is None else built
        checksums = {file: count.checksum for file, count in now.items()}
        if checksums == {file: records.checksum for file, records in existing.items()}:
            unchanged = Outcome([], checksums=checksums)
            for file, records in existing.items():
                unchanged.not_written[file][upsert.UNCHANGED] = records.records
            return unchanged
    if built is None:
        _write_sorted(lake, _incoming(makers, dataset, batch.years), dataset, batch.years)
    else:
        lake.adopt(RECORD_TABLES[dataset], staged, batch.years, stage="ingest")
    return Outcome(batch.years, built=built)


def _staged_records(plan: Plan, makers: list[ClassifiedTable], batch: Batch) -> dict[File, RecordCount]:
    """The batch's staged records, counted by file."""
    return {
        (item.table.system, path): count
        for item in makers
        for path, count in plan.file_counts.records(item.table_id, batch).items()
    }


def _count(records: DataFrame) -> dict[File, RecordCount]:
    """The checksum of records, by file."""
    found: dict[File, RecordCount] = {}
    for row in records.groupBy("source_system", "source_file").agg(*record_checksum_columns()).collect():
        found[row["source_system"], row["source_file"]] = count = RecordCount()
        count.checksum.add(row)
    return found


def _same_numbers(plan: Plan, batch: Batch, dataset: str, existing: dict[File, FileRecords]) -> bool:
    """Whether every file would make as many records as the lake has of it. Where not, the records differ, and the
    files need not be read to find out. A HES spell counts at the file of its last episode, so there only the sum
    can be compared."""
    now = {
        (item.table.system, path): count.rows[VALID]
        for item in plan.classified
        if item.dataset == dataset and item.records is not None
        for path, count in plan.file_counts.files[item.table_id].items()
        if path in batch.files and count.rows[VALID]
    }
    before = {file: records.rows for file, records in existing.items()}
    return sum(now.values()) == sum(before.values()) if ("hes", "apc") in plan.file_counts.files else now == before


def upsert_records(lake: Lake, plan: Plan, classified: list[ClassifiedTable], batch: Batch, dataset: str) -> Outcome:
    """Write the records that are new or newer, and remove those withdrawn, in one commit. Without any, nothing is
    written."""
    table = RECORD_TABLES[dataset]
    incoming = _incoming(_makers(classified, dataset), dataset, batch.years)
    orphans = unaudited_runs(lake, table)
    compared = upsert.compared_with_lake(incoming, lake, table, dataset, orphans)
    outcome = Outcome([])
    changed_years: set[str] = set()
    named = ("source_system", "source_file", YEAR, upsert.OUTCOME, upsert.EXISTING_YEAR)
    for row in compared.groupBy(*named).agg(F.count("*").alias("records"), *record_checksum_columns()).collect():
        file = row["source_system"], row["source_file"]
        outcome.checksums[file].add(row)
        if row[upsert.OUTCOME] in upsert.WRITTEN:
            changed_years |= {row[YEAR], row[upsert.EXISTING_YEAR]} - {None}
        else:
            outcome.not_written[file][row[upsert.OUTCOME]] += row["records"]
    # A record that is replaced by a later extract in the same batch is not taken out.
    written = compared.where(F.col(upsert.OUTCOME).isin(*upsert.WRITTEN)).select(*upsert.KEY)
    withdrawn = upsert.withdrawn_now(lake, table, dataset).join(written, list(upsert.KEY), "left_anti")
    for row in withdrawn.groupBy(YEAR, "source_system", "file").count().collect():
        outcome.not_written[row["source_system"], row["file"]][upsert.TAKEN_OUT] += row["count"]
        changed_years.add(row[YEAR])
    if any(not_written[upsert.CONFLICT] for not_written in outcome.not_written.values()):
        outcome.contradicting = compared.where(F.col(upsert.OUTCOME) == upsert.CONFLICT).select(*upsert.KEY)
    outcome.changed_years = sorted(changed_years)
    if changed_years:
        _write_sorted(
            lake, upsert.merged(compared, lake, table, dataset, outcome.changed_years), dataset, outcome.changed_years
        )
    return outcome


def note_withdrawn(lake: Lake, plan: Plan, batch: Batch) -> None:
    """Write the keys of withdrawal lists to ``silver/withdrawn_record``. Lists belong to the first batch."""
    lists = [item for item in plan.classified if item.table.role.endswith("_withdrawn")]
    # By the files that rows name: files of a folder differ from the configured path, and a table of a catalogue has no
    # path.
    if any(path in batch.files for item in lists for path in plan.file_counts.files[item.table_id]):
        parts = [
            item.having(VALID).select(
                F.lit(item.table.system).alias("source_system"),
                F.lit(item.dataset).alias("dataset"),
                "record_id", "extract_date", "source_file",
            )
            for item in lists
        ]  # fmt: skip
        upsert.note_withdrawn(lake, reduce(DataFrame.unionByName, parts), stage="ingest")


def _incoming(makers: list[ClassifiedTable], dataset: str, years: list[str]) -> DataFrame:
    """The batch's records of a dataset, from all systems."""
    parts = [
        item.staged_records.records(years) if item.staged_records else conform(item.records, RECORD_TABLES[dataset])
        for item in makers
        if item.records is not None
    ]
    return reduce(DataFrame.unionByName, parts)


def _makers(classified: list[ClassifiedTable], dataset: str) -> list[ClassifiedTable]:
    """The tables from which the records of a dataset are made."""
    return [item for item in classified if item.dataset == dataset and item.records is not None]


def _write_sorted(lake: Lake, records: DataFrame, dataset: str, years: list[str]) -> None:
    ordered = sorted_for_writing(lake.spark, records, dataset, len(years))
    lake.replace(RECORD_TABLES[dataset], ordered, {YEAR: years}, stage="ingest")
