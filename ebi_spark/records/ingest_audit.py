"""Writes the audit of one batch to ``silver/ingest_audit``: what became of the rows of each of its files."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ebi_spark.lake.storage import Lake
from ebi_spark.records import upsert
from ebi_spark.records.existing_records import File
from ebi_spark.records.file_counts import Batch, ClassifiedTable, FileCount, RecordCount
from ebi_spark.records.plan import Plan
from ebi_spark.records.row_status import CONFLICTING, DUPLICATE, OUTSIDE, QUARANTINED, VALID
from ebi_spark.records.write_records import Outcome
from ebi_spark.tables.silver import INGEST_AUDIT


@dataclass
class IngestSummary:
    """What an ingest did, for the summary that the job prints."""

    years: list[str] = field(default_factory=list)
    records: Counter[str] = field(default_factory=Counter)
    rows_read: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    # Records that were not written, by outcome: unchanged, older, contradicting, withdrawn since, taken out.
    not_written: Counter[str] = field(default_factory=Counter)
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
        self.records.update(other.records)
        self.reasons.update(other.reasons)
        self.not_written.update(other.not_written)


def write_audit(
    lake: Lake, plan: Plan, batch: Batch, outcomes: dict[str, Outcome], quarantine_written: bool
) -> IngestSummary:
    """Write the audit of the batch's files: the counts of their rows, and what silver now has of this run."""
    done = IngestSummary(batch.years)
    records: dict[File, RecordCount] = defaultdict(RecordCount)
    for dataset, outcome in outcomes.items():
        done.records[dataset] = 0
        done.changed_years |= set(outcome.changed_years)
        for file, made in outcome.built.items():
            if file[1] in batch.files:
                records[file].merge(made)
                done.records[dataset] += made.records
        for by_reason in outcome.not_written.values():
            done.not_written.update(by_reason)
    rows = []
    for item in plan.classified:
        for path, count in sorted(plan.file_counts.files[item.table_id].items()):
            if path in batch.files:
                built = records.get((item.table.system, path), RecordCount())
                row = _audited(item, path, count, outcomes[item.dataset], built)
                quarantined_before = 0 if quarantine_written else row["rows_quarantined"]
                rows.append(row | {"run_id": lake.run_id, "rows_aside_before": quarantined_before})
                done.rows_read += row["rows_read"]
                done.differing += count.differing
                done.reasons.update(row["reasons"])
    done.empty = [
        f"{system} {Path(path).name}: {name} is empty in all {made.records:,} records"
        for (system, path), made in sorted(records.items(), key=lambda item: item[0])
        for name, number in made.filled.items()
        if not number
    ]
    lake.append(INGEST_AUDIT, rows, stage="ingest")
    return done


def _audited(
    item: ClassifiedTable, path: str, count: FileCount, outcome: Outcome, built: RecordCount
) -> dict[str, Any]:
    """The audit row of one file, which has the row ``count`` and of which the records ``built`` were written."""
    file, group = (item.table.system, path), item.table.group_of(path)
    makes_records = item.records is not None
    has_outcomes = makes_records or item.table.role.endswith("_withdrawn")
    not_written = outcome.not_written[file] if has_outcomes else Counter[str]()
    contradicting = not_written[upsert.CONFLICT]
    reasons = dict(count.reasons)
    if contradicting:
        reasons[CONFLICTING] = reasons.get(CONFLICTING, 0) + contradicting
    return {
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
        "records_unchanged": not_written[upsert.UNCHANGED],
        "records_older": not_written[upsert.OLDER] + not_written[upsert.WITHDRAWN],
        "records_withdrawn": not_written[upsert.TAKEN_OUT],
        "rows_checksum": str(outcome.checksums[file]) if makes_records and file in outcome.checksums else None,
        "year_disagrees": count.year_disagrees,
        "reasons": reasons,
        "cleaned": dict(built.cleaned) if makes_records else {},
        "columns_missing": list(group.missing),
        "columns_extra": list(group.extra),
        "column_notes": list(group.notes),
        "written_at": datetime.now(UTC),
    }
