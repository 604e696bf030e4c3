"""Writes the records of one batch to silver: replaces the batch's years, or inserts and updates records by key in
upsert mode."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.lake.storage import Lake
from ebi_spark.records import upsert
from ebi_spark.records.checksums import Checksum
from ebi_spark.records.existing_records import File, unaudited_runs
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
    another file of the same extract contradicts. ``built``: the records that were written, by file.
    """

    changed_years: list[str]
    not_written: dict[File, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    checksums: dict[File, Checksum] = field(default_factory=lambda: defaultdict(Checksum))
    contradicting: DataFrame | None = None
    built: dict[File, RecordCount] = field(default_factory=lambda: defaultdict(RecordCount))


def replace_records(lake: Lake, plan: Plan, batch: Batch, dataset: str) -> Outcome:
    """Replace the batch's years of a dataset in one commit, unless the lake already has the same records."""
    makers = plan.makers(dataset)
    built = {
        (item.table.system, path): count
        for item in makers
        for path, count in plan.file_counts.records(item.table_id, batch).items()
    }
    existing = plan.existing.files(dataset, batch.years)
    checksums = defaultdict(Checksum, {file: count.checksum for file, count in built.items()})
    if existing is not None and checksums == {file: records.checksum for file, records in existing.items()}:
        unchanged = Outcome([], checksums=checksums)
        for file, records in existing.items():
            unchanged.not_written[file][upsert.UNCHANGED] = records.records
        return unchanged
    folders = [item.records.folder for item in makers if item.records and item.records.folder]
    if folders:
        rows = sum(count.records for count in built.values())
        lake.adopt(RECORD_TABLES[dataset], folders, batch.years, rows, stage="ingest")
    else:
        _write_sorted(lake, _incoming(makers, batch.years), dataset, batch.years)
    return Outcome(batch.years, checksums=checksums, built=built)


def upsert_records(lake: Lake, plan: Plan, batch: Batch, dataset: str) -> Outcome:
    """Write the records that are new or newer, and remove those withdrawn, in one commit. Without any, nothing is
    written."""
    incoming = _incoming(plan.makers(dataset), batch.years)
    orphans = unaudited_runs(lake, RECORD_TABLES[dataset])
    compared = upsert.compared_with_lake(incoming, lake, dataset, orphans)
    outcome = Outcome([])
    changed_years: set[str] = set()
    grouped = compared.groupBy("source_system", "source_file", YEAR, upsert.OUTCOME, upsert.EXISTING_YEAR, "cleaned")
    for row in grouped.agg(F.count("*").alias("count"), *RecordCount.columns(compared.columns)).collect():
        file = row["source_system"], row["source_file"]
        outcome.checksums[file].add(row["checksum"])
        if row[upsert.OUTCOME] in upsert.WRITTEN:
            outcome.built[file].add(row)
            changed_years |= {row[YEAR], row[upsert.EXISTING_YEAR]} - {None}
        else:
            outcome.not_written[file][row[upsert.OUTCOME]] += row["count"]
    # A record that is replaced by a later extract in the same batch is not taken out.
    written = compared.where(F.col(upsert.OUTCOME).isin(*upsert.WRITTEN)).select(*upsert.KEY)
    withdrawn = upsert.withdrawn_now(lake, dataset).join(written, list(upsert.KEY), "left_anti")
    for row in withdrawn.groupBy(YEAR, "source_system", "file").count().collect():
        outcome.not_written[row["source_system"], row["file"]][upsert.TAKEN_OUT] += row["count"]
        changed_years.add(row[YEAR])
    if any(not_written[upsert.CONFLICT] for not_written in outcome.not_written.values()):
        outcome.contradicting = compared.where(F.col(upsert.OUTCOME) == upsert.CONFLICT).select(*upsert.KEY)
    outcome.changed_years = sorted(changed_years)
    if changed_years:
        _write_sorted(
            lake, upsert.merged(compared, lake, dataset, outcome.changed_years), dataset, outcome.changed_years
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
        upsert.note_withdrawn(lake, reduce(DataFrame.unionByName, parts))


def _incoming(makers: list[ClassifiedTable], years: list[str]) -> DataFrame:
    """The batch's records of a dataset, from all systems."""
    return reduce(DataFrame.unionByName, [item.records.records(years) for item in makers if item.records])


def _write_sorted(lake: Lake, records: DataFrame, dataset: str, years: list[str]) -> None:
    ordered = sorted_for_writing(lake.spark, records, dataset, len(years))
    lake.replace(RECORD_TABLES[dataset], ordered, {YEAR: years}, stage="ingest")
