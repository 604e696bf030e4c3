"""The records of one step into silver: its years replaced, or put by key where a run upserts."""

from collections import defaultdict
from dataclasses import dataclass, field
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.lake.storage import Lake, conform
from ebi_spark.records import upsert
from ebi_spark.records.checksums import Checksum, content, told
from ebi_spark.records.existing_records import File, Made, has_unrecorded_commits
from ebi_spark.records.file_counts import ClassifiedTable, Step
from ebi_spark.records.plan import Plan
from ebi_spark.records.row_status import VALID, keep
from ebi_spark.spark.session import setting
from ebi_spark.tables.schemas import RECORD_TABLES, YEAR, Table

# Rows lie sorted inside each file by what rules ask for first, so that Parquet's page index can skip the rest.
SORTED_BY = {"apc": "dominant_procedure_4", "op": "procedure_codes"}
# A task that writes so few years keeps a file open for each. Of more it would need too much memory, and sorts its rows by
# year first, which takes longer: Spark compares the first eight bytes of the first column at once, and a year is all alike.
FILES_AT_ONCE, FEW_FILES = "spark.sql.maxConcurrentOutputFileWriters", 3


@dataclass
class Outcome:
    """What became of one dataset's records in a step: those that were not written by fate and file, with the checksums
    of all that came of each file; the years ``touched``; ``contradicting``: keys that another file of the same extract
    contradicts."""

    touched: list[str]
    fates: dict[File, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    checksums: dict[File, Checksum] = field(default_factory=lambda: defaultdict(Checksum))
    contradicting: DataFrame | None = None


def refreshed(lake: Lake, whole: Plan, judged: list[ClassifiedTable], step: Step, dataset: str) -> Outcome:
    """Replace the step's years of a dataset in one commit, unless the lake holds the very same records."""
    incoming = _incoming(lake, judged, dataset)
    held = whole.held.files(dataset, step.years)
    if held and _as_many(whole, step, dataset, held):
        now: dict[File, Checksum] = defaultdict(Checksum)
        for row in incoming.groupBy("source_system", "source_file").agg(*told()).collect():
            now[row["source_system"], row["source_file"]].add(row)
        if now == {file: made.checksum for file, made in held.items()}:
            same = Outcome([], checksums=now)
            for file, made in held.items():
                same.fates[file][upsert.UNCHANGED] = made.records
            return same
    _write_sorted(lake, incoming, dataset, step.years)
    return Outcome(step.years)


def _as_many(whole: Plan, step: Step, dataset: str, held: dict[File, Made]) -> bool:
    """Whether every file would make as many records as the lake holds of it; where not, they differ, and nobody needs to
    read the files for it. A HES spell counts at the file of its last episode: there only the sum can be compared."""
    now = {
        (item.table.system, path): count.rows[VALID]
        for item in whole.judged
        if item.dataset == dataset and item.records is not None
        for path, count in whole.found.files[item.place].items()
        if path in step.files and count.rows[VALID]
    }
    before = {file: made.rows for file, made in held.items()}
    return sum(now.values()) == sum(before.values()) if ("hes", "apc") in whole.found.files else now == before


def upserted(lake: Lake, whole: Plan, judged: list[ClassifiedTable], step: Step, dataset: str) -> Outcome:
    """Put the records that are new or newer, take out those withdrawn, in one commit; without any nothing is written."""
    table = RECORD_TABLES[dataset]
    incoming = _incoming(lake, judged, dataset)
    orphans = has_unrecorded_commits(lake, table)
    weighed = upsert.weighed(incoming, lake, table, dataset, orphans)
    outcome = Outcome([])
    touched: set[str] = set()
    named = ("source_system", "source_file", YEAR, upsert.FATE, upsert.HELD_YEAR)
    for row in weighed.groupBy(*named).agg(F.count("*").alias("records"), *told()).collect():
        file = row["source_system"], row["source_file"]
        outcome.checksums[file].add(row)
        if row[upsert.FATE] in upsert.PUT:
            touched |= {row[YEAR], row[upsert.HELD_YEAR]} - {None}
        else:
            outcome.fates[file][row[upsert.FATE]] += row["records"]
    gone = upsert.withdrawn_now(lake, table, dataset).groupBy(YEAR, "source_system", "file").count()
    for row in gone.collect():
        outcome.fates[row["source_system"], row["file"]][upsert.TAKEN_OUT] += row["count"]
        touched.add(row[YEAR])
    if any(fates[upsert.CONFLICT] for fates in outcome.fates.values()):
        outcome.contradicting = weighed.where(F.col(upsert.FATE) == upsert.CONFLICT).select(*upsert.KEY)
    outcome.touched = sorted(touched)
    if touched:
        _write_sorted(lake, upsert.merged(weighed, lake, table, dataset, outcome.touched), dataset, outcome.touched)
    return outcome


def note_withdrawn(lake: Lake, whole: Plan, step: Step) -> None:
    """The keys of withdrawal lists into ``silver/withdrawn_record``; lists go with the first step."""
    lists = [item for item in whole.judged if item.table.role.endswith("_withdrawn")]
    # By the files that rows name: those of a folder are not the path that was configured, a table of a catalogue has none.
    if any(path in step.files for item in lists for path in whole.found.files[item.place]):
        parts = [
            keep(item.rows, VALID, None).select(
                F.lit(item.table.system).alias("source_system"),
                F.lit(item.dataset).alias("dataset"),
                "record_id", "extract_date", "source_file",
            )
            for item in lists
        ]  # fmt: skip
        upsert.note_withdrawn(lake, reduce(DataFrame.unionByName, parts), stage="ingest")


def _incoming(lake: Lake, judged: list[ClassifiedTable], dataset: str) -> DataFrame:
    """Canonical records of a dataset, of all systems."""
    parts = [
        _canonical(item.records, RECORD_TABLES[dataset], item.table.system, dataset, lake.run_id)
        for item in judged
        if item.dataset == dataset and item.records is not None
    ]
    return reduce(DataFrame.unionByName, parts)


def _canonical(records: DataFrame, table: Table, system: str, dataset: str, run_id: str) -> DataFrame:
    frame = records.withColumns({"source_system": F.lit(system), "dataset": F.lit(dataset), "run_id": F.lit(run_id)})
    if dataset == "apc":
        frame = frame.withColumn("dominant_procedure_4", F.substring("dominant_procedure", 1, 4))
    return conform(frame.withColumn("content", content(table)), table)


def _write_sorted(lake: Lake, records: DataFrame, dataset: str, years: list[str]) -> None:
    at_once = len(years) <= int(setting(lake.spark, FILES_AT_ONCE) or 0)
    order = [*([] if at_once else [YEAR]), SORTED_BY[dataset]]
    lake.replace(RECORD_TABLES[dataset], records.sortWithinPartitions(*order), {YEAR: years}, stage="ingest")
