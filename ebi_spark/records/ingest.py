"""From source tables to silver: what :mod:`ebi_spark.records.plan` found, step by step written, set aside and accounted
for: years together that files tie together."""

from collections.abc import Callable
from functools import partial

from ebi_spark.config.settings import RunConfig
from ebi_spark.lake.storage import Lake, run_in_threads
from ebi_spark.records.file_counts import Step, refuse_too_many_quarantined
from ebi_spark.records.ingest_audit import IngestSummary, account
from ebi_spark.records.plan import Plan, of_step, plan
from ebi_spark.records.quarantine import write_quarantine
from ebi_spark.records.write_records import FEW_FILES, FILES_AT_ONCE, Outcome, note_withdrawn, refreshed, upserted
from ebi_spark.sources.file_watch import refuse_changed
from ebi_spark.sources.reader import SourceTable
from ebi_spark.spark.session import with_settings
from ebi_spark.tables.schemas import QUARANTINE, RECORD_TABLES


def ingest(lake: Lake, tables: list[SourceTable], config: RunConfig, tell: Callable[[str], None]) -> IngestSummary:
    """Read, judge and write silver, all steps; raises :class:`DataError` when too large a share of rows was set aside."""
    whole = plan(lake, tables, config, tell)
    done = IngestSummary()
    for step in whole.steps:
        done.add(write(lake, whole, step, config, tell))
    refuse_too_many_quarantined(whole.found, config)
    return done


def write(lake: Lake, whole: Plan, step: Step, config: RunConfig, tell: Callable[[str], None]) -> IngestSummary:
    """One step: its years of silver, what is set aside of its files, and the account of these files."""
    for table in whole.tables:
        refuse_changed({path: state for path, state in table.state.items() if path in step.files})
    judged, all_told = of_step(lake, whole, step, config)
    if config.mode == "upsert":
        note_withdrawn(lake, whole, step)
    named = [*(RECORD_TABLES[dataset].full_name for dataset in whole.datasets), QUARANTINE.full_name]
    tell(f"{', '.join(step.years)}: writing {', '.join(named)}")
    written = upserted if config.mode == "upsert" else refreshed
    tasks = [partial(written, lake, whole, judged, step, dataset) for dataset in whole.datasets]
    outcomes: dict[str, Outcome] = {}

    aside_written: list[bool] = []

    def put_aside() -> None:
        aside_written.append(write_quarantine(lake, whole, judged, all_told, step, config, outcomes))

    def put_records() -> None:
        with with_settings(lake.spark, {FILES_AT_ONCE: str(FEW_FILES)}):
            outcomes.update(zip(whole.datasets, run_in_threads(tasks), strict=True))

    if config.mode == "refresh":
        run_in_threads([put_records, put_aside])
    else:  # which rows contradict the lake is known only then
        put_records()
        put_aside()
    return account(lake, whole, step, outcomes, aside_written[0])
