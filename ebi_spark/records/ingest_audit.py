"""Writes the audit of one batch to ``silver/ingest_audit``: what became of the rows of each of its files."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from ebi_spark.lake.storage import Lake, run_in_threads
from ebi_spark.records import upsert
from ebi_spark.records.existing_records import File
from ebi_spark.records.file_counts import Batch, ClassifiedTable, FileCount, RecordCount
from ebi_spark.records.plan import Plan
from ebi_spark.records.row_status import CONFLICTING, DUPLICATE, OUTSIDE, QUARANTINED, VALID
from ebi_spark.records.write_records import Outcome
from ebi_spark.tables.silver import INGEST_AUDIT, RECORD_TABLES
from ebi_spark.tables.table import YEAR


@dataclass
class IngestSummary:
    """What an ingest did, for the summary that the job prints."""

    years: list[str] = field(default_factory=list)
    records: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    rows_read: int = 0
    reasons: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    # Records that were not written, by outcome: unchanged, older, contradicting, withdrawn since, taken out.
    not_written: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    # Duplicates that differ in columns that no record takes.
    differing: int = 0
    changed_years: set[str] = field(default_factory=set)
    empty: list[str] = field(default_factory=list)  # a line for each column that is empty in all records of a file

    def add(self, other: "IngestSummary") -> None:
        """Add what another batch did."""
        self.years = sorted({*self.years, *other.years})
        self.rows_read += other.rows_read
        self.differing += other.differing
        self.changed_years |= other.changed_years
        self.empty += other.empty
        for mine, more in (
            (self.records, other.records), (self.reasons, other.reasons), (self.not_written, other.not_written),
        ):  # fmt: skip
            for name, number in more.items():
                mine[name] += number


def write_audit(
    lake: Lake, plan: Plan, batch: Batch, outcomes: dict[str, Outcome], quarantine_written: bool
) -> IngestSummary:
    """Write the audit of the batch's files: the counts of their rows, and what silver now has of this run."""
    built = {dataset: outcome.built for dataset, outcome in outcomes.items()}
    unknown = [dataset for dataset, outcome in outcomes.items() if outcome.built is None and outcome.changed_years]
    queries = [partial(_count_built, lake, dataset, outcomes[dataset].changed_years) for dataset in unknown]
    built |= dict(zip(unknown, run_in_threads(queries), strict=True))
    done = IngestSummary(batch.years)
    records: dict[File, RecordCount] = defaultdict(RecordCount)
    for dataset, outcome in outcomes.items():
        compared = bool(outcome.checksums)
        done.records[dataset] = 0
        done.changed_years |= set(outcome.changed_years)
        for file, made in (built[dataset] or {}).items():
            if file[1] in batch.files:
                records[file].merge(made)
                done.records[dataset] += made.records
                if not compared:
                    outcome.checksums[file].merge(made.checksum)
        for by_reason in outcome.not_written.values():
            for why, number in by_reason.items():
                done.not_written[why] += number
    rows = []
    for item in plan.classified:
        outcome = outcomes[item.dataset]
        for path, count in sorted(plan.file_counts.files[item.table_id].items()):
            if path in batch.files:
                row = _audited(item, path, count, outcome, records, lake.run_id)
                rows.append(row | {"rows_aside_before": 0 if quarantine_written else row["rows_quarantined"]})
                done.rows_read += rows[-1]["rows_read"]
                done.differing += count.differing
                for reason, number in rows[-1]["reasons"].items():
                    done.reasons[reason] += number
    done.empty = [
        f"{system} {Path(path).name}: {name} is empty in all {made.records:,} records"
        for (system, path), made in sorted(records.items(), key=lambda item: item[0])
        for name, number in made.filled.items()
        if not number
    ]
    lake.append(INGEST_AUDIT, rows, stage="ingest")
    return done


def _count_built(lake: Lake, dataset: str, years: list[str]) -> dict[File, RecordCount]:
    """This run's records in silver, counted by file."""
    frame = lake.read(RECORD_TABLES[dataset]).where(F.col(YEAR).isin(*years) & (F.col("run_id") == lake.run_id))
    grouped = frame.groupBy("source_system", "source_file", "cleaned")
    found: dict[File, RecordCount] = defaultdict(RecordCount)
    for row in grouped.agg(F.count("*").alias("count"), *RecordCount.columns(frame.columns)).collect():
        found[row["source_system"], row["source_file"]].add(row)
    return found


def _audited(
    item: ClassifiedTable,
    path: str,
    count: FileCount,
    outcome: Outcome,
    records: dict[File, RecordCount],
    run_id: str,
) -> dict[str, Any]:
    file = item.table.system, path
    built = records.get(file, RecordCount())
    makes_records = item.records is not None
    not_written = outcome.not_written.get(file, {}) if makes_records or item.table.role.endswith("_withdrawn") else {}
    contradicting = not_written.get(upsert.CONFLICT, 0)
    reasons = dict(count.reasons)
    if contradicting:
        reasons[CONFLICTING] = reasons.get(CONFLICTING, 0) + contradicting
    return {
        "run_id": run_id,
        "source_system": item.table.system,
        "dataset": item.dataset,
        "role": item.table.role,
        "source_file": path,
        "file_bytes": count.bytes,
        "file_modified": count.modified,
        "rows_read": sum(count.rows.values()),
        "rows_valid": count.rows[VALID] - contradicting,
        "rows_quarantined": count.rows[QUARANTINED] + contradicting,
        "rows_duplicate": count.rows[DUPLICATE],
        "rows_differing_elsewhere": count.differing,
        "rows_outside_years": count.rows[OUTSIDE],
        "records_built": built.records if makes_records else 0,
        "records_unchanged": not_written.get(upsert.UNCHANGED, 0),
        "records_older": not_written.get(upsert.OLDER, 0) + not_written.get(upsert.WITHDRAWN, 0),
        "records_withdrawn": not_written.get(upsert.TAKEN_OUT, 0),
        "rows_checksum": str(outcome.checksums[file]) if makes_records and file in outcome.checksums else None,
        "year_disagrees": count.year_disagrees,
        "reasons": reasons,
        "cleaned": dict(built.cleaned) if makes_records else {},
        "columns_missing": list(item.table.group_of(path).missing),
        "columns_extra": list(item.table.group_of(path).extra),
        "column_notes": list(item.table.group_of(path).notes),
        "written_at": datetime.now(UTC),
    }
