"""Writes the records of one batch to silver: replaces the batch's years, or inserts and updates records by key in
upsert mode."""

from collections import defaultdict
from dataclasses import dataclass, field
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.lake.storage import Lake, conform
from ebi_spark.records import upsert
from ebi_spark.records.checksums import Checksum, content, record_checksum_columns
from ebi_spark.records.existing_records import File, FileRecords, unaudited_runs
from ebi_spark.records.file_counts import Batch, ClassifiedTable
from ebi_spark.records.plan import Plan
from ebi_spark.records.row_status import VALID, keep
from ebi_spark.spark.session import setting
from ebi_spark.tables.schemas import RECORD_TABLES, YEAR, Table

# Rows are sorted inside each file by what rules ask for first, so that Parquet's page index can skip the rest.
SORTED_BY = {"apc": "dominant_procedure_4", "op": "procedure_codes"}
# A task that writes this few years keeps one file open for each. For more years it would need too much memory, so it
# sorts its rows by year first. That takes longer: Spark compares the first eight bytes of the first column in one
# step, and in a year these are nearly all the same.
FILES_AT_ONCE, FEW_FILES = "spark.sql.maxConcurrentOutputFileWriters", 3


@dataclass
class Outcome:
    """What became of one dataset's records in a batch.

    ``changed_years``: the years that were written. ``not_written``: the records that were not written, by file and
    reason. ``checksums``: the checksum of everything that came of each file. ``contradicting``: the keys that
    another file of the same extract contradicts.
    """

    changed_years: list[str]
    not_written: dict[File, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    checksums: dict[File, Checksum] = field(default_factory=lambda: defaultdict(Checksum))
    contradicting: DataFrame | None = None


def replace_records(lake: Lake, plan: Plan, classified: list[ClassifiedTable], batch: Batch, dataset: str) -> Outcome:
    """Replace the batch's years of a dataset in one commit, unless the lake already has the same records."""
    incoming = _incoming(lake, classified, dataset)
    existing = plan.existing.files(dataset, batch.years)
    if existing is not None and _same_numbers(plan, batch, dataset, existing):
        if not existing:  # neither the lake nor a file has records of these years
            return Outcome([])
        now: dict[File, Checksum] = defaultdict(Checksum)
        for row in incoming.groupBy("source_system", "source_file").agg(*record_checksum_columns()).collect():
            now[row["source_system"], row["source_file"]].add(row)
        if now == {file: records.checksum for file, records in existing.items()}:
            unchanged = Outcome([], checksums=now)
            for file, records in existing.items():
                unchanged.not_written[file][upsert.UNCHANGED] = records.records
            return unchanged
    _write_sorted(lake, incoming, dataset, batch.years)
    return Outcome(batch.years)


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
    incoming = _incoming(lake, classified, dataset)
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
            keep(item.rows, VALID, None).select(
                F.lit(item.table.system).alias("source_system"),
                F.lit(item.dataset).alias("dataset"),
                "record_id", "extract_date", "source_file",
            )
            for item in lists
        ]  # fmt: skip
        upsert.note_withdrawn(lake, reduce(DataFrame.unionByName, parts), stage="ingest")


def _incoming(lake: Lake, classified: list[ClassifiedTable], dataset: str) -> DataFrame:
    """The canonical records of a dataset, from all systems."""
    parts = [
        _as_canonical(item.records, RECORD_TABLES[dataset], item.table.system, dataset, lake.run_id)
        for item in classified
        if item.dataset == dataset and item.records is not None
    ]
    return reduce(DataFrame.unionByName, parts)


def _as_canonical(records: DataFrame, table: Table, system: str, dataset: str, run_id: str) -> DataFrame:
    frame = records.withColumns({"source_system": F.lit(system), "dataset": F.lit(dataset), "run_id": F.lit(run_id)})
    if dataset == "apc":
        frame = frame.withColumn("dominant_procedure_4", F.substring("dominant_procedure", 1, 4))
    return conform(frame.withColumn("content", content(table)), table)


def _write_sorted(lake: Lake, records: DataFrame, dataset: str, years: list[str]) -> None:
    at_once = len(years) <= int(setting(lake.spark, FILES_AT_ONCE) or 0)
    order = [*([] if at_once else [YEAR]), SORTED_BY[dataset]]
    lake.replace(RECORD_TABLES[dataset], records.sortWithinPartitions(*order), {YEAR: years}, stage="ingest")
