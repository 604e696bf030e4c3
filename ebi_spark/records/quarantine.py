"""What is set aside of one step's files into ``silver/quarantine``, and what of it is made good."""

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.lake.storage import Lake
from ebi_spark.records import upsert
from ebi_spark.records.checksums import Checksum
from ebi_spark.records.existing_records import checksums_of_rows, has_unrecorded_commits
from ebi_spark.records.file_counts import ClassifiedTable, Step
from ebi_spark.records.plan import Plan
from ebi_spark.records.row_status import DUPLICATE, QUARANTINED, VALID, keep
from ebi_spark.records.write_records import Outcome
from ebi_spark.small_frames import small_frame
from ebi_spark.sources.reader import raw_json
from ebi_spark.tables.schemas import QUARANTINE, RECORD_TABLES, YEAR

UNKNOWN_YEAR = "unknown"
# The tables that a row of is a record, or for HES spells a part of one.
RECORD_ROLES = ("apcs", "opa", "apc", "op")


def write_quarantine(
    lake: Lake,
    whole: Plan,
    judged: list[ClassifiedTable],
    all_told: list[ClassifiedTable],
    step: Step,
    config: RunConfig,
    outcomes: dict[str, Outcome],
) -> bool:
    """Replace what earlier runs set aside of the step's years and files, and of rows without a year. Only tables in which
    the survey found something are read again; nothing is written, and False given, when the lake holds the very same
    rows."""
    # Rows of a year that is replaced by nothing are of no year that the lake has, as in a lake that never had it.
    years = [year for year in step.years if year not in whole.left]
    parts = [
        _quarantined(
            item,
            keep(rows, QUARANTINED, config.years).where(F.col("source_file").isin(*step.files)),
            years,
            lake.run_id,
        )
        for item in all_told
        for rows in item.parts
        if whole.found.quarantined(item.place, step.files)
    ]
    for item in judged:
        contradicting = outcomes[item.dataset].contradicting if item.dataset in outcomes else None
        if item.table.role in RECORD_ROLES and contradicting is not None:
            keys = contradicting.where(F.col("source_system") == item.table.system).select("record_id")
            rows = keep(item.rows, VALID, config.years).join(keys, ["record_id"], "left_semi")
            rows = rows.withColumn("reasons", F.array(F.lit("conflicting_duplicate")))
            parts.append(_quarantined(item, rows, step.years, lake.run_id))
    frame = reduce(DataFrame.unionByName, parts, small_frame(lake.spark, [], QUARANTINE.schema))
    if config.mode == "upsert":
        if any(whole.found.quarantined(item.place, step.files) for item in judged):
            frame = _without_superseded(lake, whole, frame)
        return _replace_aside_by_file(lake, judged, step, config, frame)
    known = {path for place in whole.found.files for path in whole.found.counts(place)}
    # Files that are no source any more go with the first step.
    gone = whole.held.files_aside(UNKNOWN_YEAR, whole.datasets) - known if step is whole.steps[0] else set()
    files = sorted(step.files | gone)
    held = whole.held.rows_aside(step.years, files, UNKNOWN_YEAR, whole.datasets)
    number = sum(whole.found.quarantined(item.place, step.files) for item in judged)
    # Only where there are as many is it worth reading them to see whether they are the same.
    if held and held[0] == number and (not number or _told(frame) == held[1]):
        return False
    stated = {YEAR: step.years, "dataset": whole.datasets}
    unknown = {YEAR: [UNKNOWN_YEAR], "dataset": whole.datasets, "source_file": files}
    lake.replace(QUARANTINE, frame, [stated, unknown], stage="ingest")
    return True


def _without_superseded(lake: Lake, whole: Plan, frame: DataFrame) -> DataFrame:
    """Of rows that an upsert would set aside, those that no record of the lake makes good: a row that comes late, of an extract
    that a later one has superseded, is a duplicate, as it is where both come together. It is counted so from here on."""
    key = ["source_system", "dataset", "record_id"]
    records = [
        lake.read(table).select(*key, upsert.extract("extract_date").alias("_usable"))
        for table in RECORD_TABLES.values()
    ]
    met = frame.join(reduce(DataFrame.unionByName, records), key, "left")
    superseded = F.coalesce(_made_good() & F.col("role").isin(*RECORD_ROLES), F.lit(False))
    marked = met.withColumn("_superseded", superseded)
    named = ("source_system", "role", "source_file", "reasons")
    for row in marked.where("_superseded").groupBy(*named).count().collect():
        count = whole.found.files[row["source_system"], row["role"]][row["source_file"]]
        count.rows[QUARANTINED] -= row["count"]
        count.rows[DUPLICATE] += row["count"]
        for reason in row["reasons"]:
            count.reasons[reason] -= row["count"]
            if not count.reasons[reason]:
                del count.reasons[reason]
    return marked.where("NOT _superseded").select(*QUARANTINE.names())


def _made_good() -> Column:
    """Whether a usable row of an extract (``_usable``) makes good what is set aside of its key: of the same extract or an
    earlier one. A contradiction takes a later one."""
    extract = upsert.extract("extract_date")
    contradiction = F.array_contains("reasons", "conflicting_duplicate")
    return (F.col("_usable") > extract) | ((F.col("_usable") == extract) & ~contradiction)


def _replace_aside_by_file(
    lake: Lake, judged: list[ClassifiedTable], step: Step, config: RunConfig, frame: DataFrame
) -> bool:
    """After an upsert: what is set aside of the step's files is ``frame``; of other files what stands, less the rows that a
    usable row of their key and extract, or of a later one, makes good. A contradiction takes a later one."""
    key = ["source_system", "role", "record_id"]
    usable = [
        keep(item.rows, VALID, config.years).select(
            F.lit(item.table.system).alias(key[0]), F.lit(item.table.role).alias(key[1]), key[2], "extract_date"
        )
        for item in judged
    ]
    latest = F.max(upsert.extract("extract_date")).alias("_usable")
    good = reduce(DataFrame.unionByName, usable).groupBy(*key).agg(latest)
    held = lake.read(QUARANTINE)
    others = held.where(~F.col("source_file").isin(*step.files)).join(good, key, "left")
    stands = others.where(~F.coalesce(_made_good(), F.lit(False)))
    after = stands.select(*QUARANTINE.names()).unionByName(frame)
    if _told(after) == _told(held) and not has_unrecorded_commits(lake, QUARANTINE):
        return False
    lake.replace(QUARANTINE, after, {}, stage="ingest")
    return True


def _told(aside: DataFrame) -> Checksum:
    found = Checksum()
    for row in checksums_of_rows(aside, "source_file"):
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
        raw_json().alias("raw"),
        "extract_date",
        F.lit(run_id).alias("run_id"),
    )
