"""Writes the quarantined rows of one batch to ``silver/quarantine``, and removes those that a usable row has
superseded."""

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.lake.storage import Lake
from ebi_spark.records import upsert
from ebi_spark.records.checksums import Checksum
from ebi_spark.records.existing_records import quarantine_checksums, unaudited_runs
from ebi_spark.records.file_counts import Batch, ClassifiedTable
from ebi_spark.records.plan import Plan
from ebi_spark.records.row_status import CONFLICTING, DUPLICATE, QUARANTINED, VALID
from ebi_spark.records.write_records import Outcome
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.silver import QUARANTINE, RECORD_TABLES
from ebi_spark.tables.table import UNKNOWN_YEAR, YEAR


def write_quarantine(lake: Lake, plan: Plan, batch: Batch, outcomes: Mapping[str, Outcome]) -> bool:
    """Replace the quarantined rows of the batch's years and files, and those without a year. Returns whether anything
    was written.

    Nothing is written when the lake already has the same rows. ``outcomes``: what an upsert made of the records of each dataset,
    whose contradicting rows are quarantined too. Empty for a refresh.
    """
    # Rows of a year that loses all its rows are stored without a year, as in a lake that never had that year.
    years = [year for year in batch.years if year not in plan.emptied]
    in_batch = {item.table_id: plan.file_counts.quarantined(item.table_id, batch.files) for item in plan.classified}
    parts = []
    for item in plan.classified:
        if in_batch[item.table_id]:
            number = plan.file_counts.quarantined(item.table_id, frozenset(plan.file_counts.files[item.table_id]))
            rows = item.quarantined(number).where(F.col("source_file").isin(*batch.files))
            parts.append(_quarantined(item, rows, years, lake.run_id))
    for item in plan.classified:
        contradicting = outcomes[item.dataset].contradicting if item.dataset in outcomes else None
        if item.records is not None and contradicting is not None:
            keys = contradicting.where(F.col("source_system") == item.table.system).select("record_id")
            rows = item.having(VALID).join(keys, ["record_id"], "left_semi")
            rows = rows.withColumn("reasons", F.array(F.lit(CONFLICTING)))
            parts.append(_quarantined(item, rows, batch.years, lake.run_id))
    frame = reduce(DataFrame.unionByName, parts, small_frame(lake.spark, [], QUARANTINE.schema))
    if plan.mode == "upsert":
        if any(in_batch.values()):
            frame = _without_superseded(lake, plan, frame)
        return _replace_by_file(lake, plan.classified, batch, frame)
    return _replace_by_year(lake, plan, batch, frame, sum(in_batch.values()))


def _replace_by_year(lake: Lake, plan: Plan, batch: Batch, frame: DataFrame, number: int) -> bool:
    """After a refresh, replace the quarantined rows of the batch's years and files by ``frame``, which has this ``number`` of rows.
    Returns whether anything was written."""
    known = {path for table_id in plan.file_counts.files for path in plan.file_counts.counts(table_id)}
    # Files that are no longer a source go with the first batch.
    gone = plan.existing.files_without_year(plan.datasets) - known if batch is plan.batches[0] else set()
    files = sorted(batch.files | gone)
    existing = plan.existing.quarantined_rows(batch.years, files, plan.datasets)
    # Only where the numbers agree is it worth reading the rows to see whether they are the same.
    if existing and existing[0] == number and (not number or _checksum(frame) == existing[1]):
        return False
    batch_years = {YEAR: batch.years, "dataset": plan.datasets}
    unknown = {YEAR: [UNKNOWN_YEAR], "dataset": plan.datasets, "source_file": files}
    lake.replace(QUARANTINE, frame, [batch_years, unknown], stage="ingest")
    return True


def _without_superseded(lake: Lake, plan: Plan, frame: DataFrame) -> DataFrame:
    """The rows that an upsert would quarantine, without those that a record of the lake supersedes.

    A row that comes late, from an extract that a later one has superseded, is a duplicate, just as where both come
    together. From here on it is counted as one.
    """
    key = ["source_system", "dataset", "record_id"]
    records = [
        lake.read(table).select(*key, upsert.extract("extract_date").alias("_usable"))
        for table in RECORD_TABLES.values()
    ]
    met = frame.join(reduce(DataFrame.unionByName, records), key, "left")
    of_records = F.col("role").isin(*(item.table.role for item in plan.classified if item.records is not None))
    superseded = F.coalesce(_is_superseded() & of_records, F.lit(False))
    marked = met.withColumn("_superseded", superseded)
    named = ("source_system", "role", "source_file", "reasons")
    for row in marked.where("_superseded").groupBy(*named).count().collect():
        count = plan.file_counts.files[row["source_system"], row["role"]][row["source_file"]]
        count.rows[QUARANTINED] -= row["count"]
        count.rows[DUPLICATE] += row["count"]
        for reason in row["reasons"]:
            count.reasons[reason] -= row["count"]
            if not count.reasons[reason]:
                del count.reasons[reason]
    return marked.where("NOT _superseded").select(*QUARANTINE.names())


def _is_superseded() -> Column:
    """Whether a usable row from the extract ``_usable`` supersedes the quarantined row of its key: its extract is the
    same or a later one. A conflict is superseded only by a later extract."""
    extract = upsert.extract("extract_date")
    contradiction = F.array_contains("reasons", CONFLICTING)
    return (F.col("_usable") > extract) | ((F.col("_usable") == extract) & ~contradiction)


def _replace_by_file(lake: Lake, classified: list[ClassifiedTable], batch: Batch, frame: DataFrame) -> bool:
    """After an upsert, replace the quarantined rows of the batch's files by ``frame``. Returns whether anything was
    written.

    Rows of other files stay, except those that a usable row of their key supersedes: a row of the same extract or a
    later one, for a conflict only of a later one.
    """
    key = ["source_system", "role", "record_id"]
    usable = [
        item.having(VALID).select(
            F.lit(item.table.system).alias(key[0]), F.lit(item.table.role).alias(key[1]), key[2], "extract_date"
        )
        for item in classified
    ]
    latest = F.max(upsert.extract("extract_date")).alias("_usable")
    latest_usable = reduce(DataFrame.unionByName, usable).groupBy(*key).agg(latest)
    existing = lake.read(QUARANTINE)
    others = existing.where(~F.col("source_file").isin(*batch.files)).join(latest_usable, key, "left")
    kept = others.where(~F.coalesce(_is_superseded(), F.lit(False)))
    after = kept.select(*QUARANTINE.names()).unionByName(frame)
    if _checksum(after) == _checksum(existing) and not unaudited_runs(lake, QUARANTINE):
        return False
    lake.replace(QUARANTINE, after, {}, stage="ingest")
    return True


def _checksum(quarantine: DataFrame) -> Checksum:
    found = Checksum()
    for row in quarantine_checksums(quarantine, "source_file"):
        found.add(row)
    return found


def _quarantined(item: ClassifiedTable, rows: DataFrame, years: list[str], run_id: str) -> DataFrame:
    return rows.select(
        F.lit(item.table.system).alias("source_system"),
        F.lit(item.dataset).alias("dataset"),
        F.lit(item.table.role).alias("role"),
        "record_id",
        F.when(F.col(YEAR).isin(*years), F.col(YEAR)).otherwise(F.lit(UNKNOWN_YEAR)).alias(YEAR),
        "reasons",
        "source_file",
        "raw",
        "extract_date",
        F.lit(run_id).alias("run_id"),
    )
