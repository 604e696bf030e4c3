"""Writes one batch of an ingest to silver: its records, quarantine and audit. :mod:`ebi_spark.stages.ingest` works through
the batches of a plan."""

from collections.abc import Callable
from functools import partial
from typing import Any

from ebi_spark.lake.storage import Lake
from ebi_spark.records.file_counts import Batch
from ebi_spark.records.ingest_audit import IngestSummary, write_audit
from ebi_spark.records.plan import Plan
from ebi_spark.records.quarantine import write_quarantine
from ebi_spark.records.staging import FEW_FILES, FILES_AT_ONCE
from ebi_spark.records.write_records import Outcome, note_withdrawn, replace_records, upsert_records
from ebi_spark.sources.file_watch import refuse_changed
from ebi_spark.spark.tuning import with_settings
from ebi_spark.tables.silver import QUARANTINE, RECORD_TABLES
from ebi_spark.threads import run_in_threads


def write_batch(lake: Lake, plan: Plan, batch: Batch, progress: Callable[[str], None]) -> IngestSummary:
    """Write one batch: its years of silver, the quarantined rows of its files, and the audit of these files."""
    for item in plan.classified:
        refuse_changed({path: state for path, state in item.table.state.items() if path in batch.files})
    if plan.mode == "upsert":
        note_withdrawn(lake, plan, batch)
    named = [*(RECORD_TABLES[dataset].full_name for dataset in plan.datasets), QUARANTINE.full_name]
    progress(f"{', '.join(batch.years)}: writing {', '.join(named)}")
    write_records = upsert_records if plan.mode == "upsert" else replace_records

    def put_records() -> dict[str, Outcome]:
        tasks = [partial(write_records, lake, plan, batch, dataset) for dataset in plan.datasets]
        with with_settings(lake.spark, {FILES_AT_ONCE: str(FEW_FILES)}):
            return dict(zip(plan.datasets, run_in_threads(tasks), strict=True))

    if plan.mode == "refresh":
        # The lake contradicts no row of a refresh, so its quarantine does not depend on the outcomes.
        tasks: list[Callable[[], Any]] = [put_records, partial(write_quarantine, lake, plan, batch, {})]
        outcomes, quarantine_written = run_in_threads(tasks)
    else:  # only once the records are written is it known which rows conflict with the lake
        outcomes = put_records()
        quarantine_written = write_quarantine(lake, plan, batch, outcomes)
    return write_audit(lake, plan, batch, outcomes, quarantine_written)
