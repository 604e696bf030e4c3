"""The account of one step: what became of the rows of each of its files, into ``silver/ingest_audit``."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from ebi_spark.lake.storage import Lake, run_in_threads
from ebi_spark.records import upsert
from ebi_spark.records.checksums import told
from ebi_spark.records.existing_records import File
from ebi_spark.records.file_counts import ClassifiedTable, FileCount, Step
from ebi_spark.records.plan import Plan
from ebi_spark.records.row_status import DUPLICATE, OUTSIDE, QUARANTINED, VALID
from ebi_spark.records.write_records import Outcome
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.schemas import INGEST_AUDIT, RECORD_TABLES, YEAR

# Columns of silver that no delivery leaves empty throughout: where one does, the source's column is another, or was not found.
_NEVER_EMPTY = (
    "person_id", "provider_code", "commissioner_code", "diagnosis_codes", "procedure_codes", "dominant_procedure",
    "primary_diagnosis",
)  # fmt: skip


@dataclass
class IngestSummary:
    """What an ingest did, for the summary."""

    years: list[str] = field(default_factory=list)
    records: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    rows_read: int = 0
    reasons: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    # Records that were not written, by why: unchanged, older, conflict, withdrawn.
    kept_back: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    # Copies that differ in columns that no record takes.
    differing: int = 0
    touched: set[str] = field(default_factory=set)
    empty: list[str] = field(default_factory=list)  # a line for each column that is empty in all records of a file

    def add(self, other: "IngestSummary") -> None:
        """Take in what a further step did."""
        self.years = sorted({*self.years, *other.years})
        self.rows_read += other.rows_read
        self.differing += other.differing
        self.touched |= other.touched
        self.empty += other.empty
        for mine, more in (
            (self.records, other.records), (self.reasons, other.reasons), (self.kept_back, other.kept_back),
        ):  # fmt: skip
            for name, number in more.items():
                mine[name] += number


def account(lake: Lake, whole: Plan, step: Step, outcomes: dict[str, Outcome], aside_written: bool) -> IngestSummary:
    """Write the audit of the step's files: what the survey counted, and what silver now holds of this run."""
    built: dict[File, int] = defaultdict(int)
    cleaned: dict[File, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    filled: dict[File, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    done = IngestSummary(step.years)

    def counted(dataset: str) -> list[Any]:
        frame = lake.read(RECORD_TABLES[dataset]).where(F.col(YEAR).isin(*outcomes[dataset].touched))
        mine = frame.where(F.col("run_id") == lake.run_id)
        filled = [F.count(name).alias(f"filled_{name}") for name in _NEVER_EMPTY if name in frame.columns]
        grouped = mine.groupBy("source_system", "source_file", "cleaned")
        return grouped.agg(F.count("*").alias("count"), *told(), *filled).collect()

    wrote = [dataset for dataset, outcome in outcomes.items() if outcome.touched]
    answers = dict(zip(wrote, run_in_threads([partial(counted, dataset) for dataset in wrote]), strict=True))
    for dataset, outcome in outcomes.items():
        done.records[dataset] = 0
        weighed_up = bool(outcome.checksums)
        done.touched |= set(outcome.touched)
        for row in answers.get(dataset, []):
            file = row["source_system"], row["source_file"]
            if file[1] not in step.files:
                continue
            built[file] += row["count"]
            for name in _NEVER_EMPTY:
                if f"filled_{name}" in row:
                    filled[file][name] += row[f"filled_{name}"]
            done.records[dataset] += row["count"]
            if not weighed_up:
                outcome.checksums[file].add(row)
            for change in row["cleaned"] or []:
                cleaned[file][change] += row["count"]
        for fates in outcome.fates.values():
            for fate, number in fates.items():
                done.kept_back[fate] += number
    rows = []
    for item in whole.judged:
        outcome = outcomes[item.dataset]
        for path, count in sorted(whole.found.files[item.place].items()):
            if path in step.files:
                row = _audited(item, path, count, outcome, built, cleaned, lake.run_id)
                rows.append(row | {"rows_aside_before": 0 if aside_written else row["rows_quarantined"]})
                done.rows_read += rows[-1]["rows_read"]
                done.differing += count.differing
                for reason, number in rows[-1]["reasons"].items():
                    done.reasons[reason] += number
    done.empty = [
        f"{system} {Path(path).name}: {name} is empty in all {built[system, path]:,} records"
        for (system, path), counts in sorted(filled.items())
        for name, number in counts.items()
        if not number
    ]
    lake.append(INGEST_AUDIT, small_frame(lake.spark, rows, INGEST_AUDIT.schema), stage="ingest")
    return done


def _audited(
    item: ClassifiedTable,
    path: str,
    count: FileCount,
    outcome: Outcome,
    built: dict[File, int],
    cleaned: dict[File, dict[str, int]],
    run_id: str,
) -> dict[str, Any]:
    file = item.table.system, path
    makes = item.records is not None
    fates = outcome.fates.get(file, {}) if makes or item.table.role.endswith("_withdrawn") else {}
    contradicting = fates.get(upsert.CONFLICT, 0)
    reasons = dict(count.reasons)
    if contradicting:
        reasons["conflicting_duplicate"] = reasons.get("conflicting_duplicate", 0) + contradicting
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
        "records_built": built.get(file, 0) if makes else 0,
        "records_unchanged": fates.get(upsert.UNCHANGED, 0),
        "records_older": fates.get(upsert.OLDER, 0) + fates.get(upsert.WITHDRAWN, 0),
        "records_withdrawn": fates.get(upsert.TAKEN_OUT, 0),
        "rows_checksum": str(outcome.checksums[file]) if makes and file in outcome.checksums else None,
        "year_disagrees": count.year_disagrees,
        "reasons": reasons,
        "cleaned": dict(cleaned.get(file, {})) if makes else {},
        "columns_missing": list(item.table.group_of(path).missing),
        "columns_extra": list(item.table.group_of(path).extra),
        "column_notes": list(item.table.group_of(path).notes),
        "written_at": datetime.now(UTC),
    }
