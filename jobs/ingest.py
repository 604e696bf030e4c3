"""Read the source tables into silver: records by financial year, quarantine, and the audit of every file."""

import json
import sys
from collections import ChainMap, defaultdict

from rich.table import Table as RichTable

from ebi_spark.records.file_counts import Batch, refuse_too_many_quarantined
from ebi_spark.records.ingest import write_batch
from ebi_spark.records.ingest_audit import IngestSummary
from ebi_spark.records.plan import Plan, plan_ingest
from ebi_spark.runs.due import Due
from ebi_spark.runs.history import DUE_FROM, OUTCOME_FINGERPRINTS, UNCHANGED_YEARS
from ebi_spark.sources import column_drift
from ebi_spark.sources.file_watch import watched
from ebi_spark.sources.reader import read_sources
from ebi_spark.tables.schemas import QUARANTINE
from jobs.harness import Context, StageReport, run_with, stage_parser, table_of_lines
from jobs.progress import in_words, seconds_left

DATASETS = {"apc": "spells", "op": "attendances"}


def stage(context: Context, due: Due | None = None, only: frozenset[str] | None = None) -> Plan:
    """Read the configured sources and write the years asked for, in batches that share no file.

    With ``due``, only the batches that the last runs do not cover. With ``only``, only the batches that read one of
    these files.
    """
    done = IngestSummary()
    with (
        context.stage("ingest") as report,
        watched(context.config, ChainMap(context.lake.versions_written, context.tables)),
    ):
        report.years = list(context.config.years or [])
        tables = read_sources(context.spark, context.config)
        column_warnings = column_drift.column_warnings(tables, column_drift.last_ingested(context.lake, tables))
        for line in column_warnings:
            context.progress(line)
        previous = context.history.previous_ingest() if due is not None else None
        plan = plan_ingest(context.lake, tables, context.config, context.progress, previous)
        to_write, unchanged = _batches_to_write(context, plan, due, only)
        report.years = to_write[0][0].years if to_write else []
        report.details[UNCHANGED_YEARS] = json.dumps(unchanged)
        _write(context, report, plan, to_write, 0, done)
    for number in range(1, len(to_write)):
        _show_progress(context, to_write, number)
        context.why = to_write[number][1]
        with (
            context.stage("ingest") as report,
            watched(context.config, ChainMap(context.lake.versions_written, context.tables)),
        ):
            report.years = to_write[number][0].years
            _write(context, report, plan, to_write, number, done)
    _summary(context, plan, done, column_warnings)
    return plan


def _batches_to_write(
    context: Context, plan: Plan, due: Due | None, only: frozenset[str] | None
) -> tuple[list[tuple[Batch, list[str]]], list[str]]:
    """The batches to write, each with the reasons for it; and the years that have not changed."""
    chosen: list[tuple[Batch, list[str]]] = []
    unchanged = plan.unchanged_years
    for batch in plan.batches:
        # A year that one of these files had rows of before is replaced too: a record may have moved out of it.
        if only is not None and not (batch.files | context.history.files_of(batch.years)) & only:
            continue
        batch_due = (
            context.history.batch_due(batch.years, batch.files, plan.file_counts.outcome_fingerprints(batch))
            if due
            else None
        )
        emptied = [year for year in batch.years if year in plan.emptied]
        if batch_due is None or batch_due or emptied:
            reasons = batch_due.reasons if batch_due else []
            reasons += [f"no source file has rows of {', '.join(emptied)} any more"] if emptied else []
            chosen.append((batch, reasons))
        else:
            unchanged += batch.years
            context.progress(f"{', '.join(batch.years)}: the source files have not changed")
    if len(chosen) > 1:
        context.progress(f"{sum(len(batch.years) for batch, _ in chosen)} years in {len(chosen)} batches")
    return chosen, unchanged


def _write(
    context: Context,
    report: StageReport,
    plan: Plan,
    to_write: list[tuple[Batch, list[str]]],
    number: int,
    done: IngestSummary,
) -> None:
    """Write one batch, if there is any. After the last one, check whether too many rows of the files were quarantined
    overall."""
    report.details["found"] = json.dumps(plan.years)
    if to_write:
        batch = to_write[number][0]
        made = write_batch(context.lake, plan, batch, context.config, context.progress)
        report.details[OUTCOME_FINGERPRINTS] = json.dumps(plan.file_counts.outcome_fingerprints(batch))
        report.details[DUE_FROM] = json.dumps(plan.file_counts.due_from(batch), default=str)
        report.rows = made.rows_read
        done.add(made)
        if not made.changed_years:
            context.progress(f"{', '.join(made.years)}: the lake already has the same records, nothing was written")
    if number >= len(to_write) - 1:
        refuse_too_many_quarantined(plan.file_counts, context.config)


def _show_progress(context: Context, to_write: list[tuple[Batch, list[str]]], number: int) -> None:
    stages = [stage for stage in context.stages if stage.name == "ingest" and not stage.skipped][-number:]
    # Speeds are by the rows of each batch's own years, though the first batch also reads those of all other files.
    paces = [(stage.seconds, batch.rows) for stage, (batch, _) in zip(stages, to_write, strict=False)]
    rest = [batch for batch, _ in to_write[number:]]
    remaining = seconds_left(paces, sum(batch.rows for batch in rest))
    about = f", about {in_words(remaining)} left in this stage" if remaining is not None else ""
    years = sum(len(batch.years) for batch, _ in to_write)
    context.progress(f"ingest: {years - sum(len(batch.years) for batch in rest)} of {years} years done{about}")


def _summary(context: Context, plan: Plan, done: IngestSummary, column_warnings: list[str]) -> None:
    shown = RichTable(title="Ingested", title_justify="left")
    for column in ("what", "rows"):
        shown.add_column(column, justify="right" if column == "rows" else "left")
    shown.add_row("years", ", ".join(done.years))
    shown.add_row("source rows read", f"{done.rows_read:,}")
    for dataset, number in done.records.items():
        shown.add_row(f"{DATASETS[dataset]} written", f"{number:,}")
    for outcome, number in sorted(done.not_written.items()):
        shown.add_row(f"records {outcome}", f"{number:,}")
    if done.differing:
        shown.add_row("duplicates that differ in columns that are not used", f"{done.differing:,}")
    shown.add_row("rows quarantined", f"{plan.file_counts.total('quarantined'):,}")
    for reason, number in sorted(done.reasons.items()):
        shown.add_row(f"  {reason}", f"{number:,}")
    context.summary.append(shown)
    for line in done.empty:
        context.progress(line)
    if column_warnings or done.empty:
        context.summary.append(table_of_lines("Columns of the source tables", column_warnings + done.empty))


def retry_quarantine(context: Context) -> None:
    """Read the files that have quarantined rows again, under the present configuration."""
    before = _quarantine_counts(context)
    if not before:
        context.skip("ingest", "no row is in quarantine")
        return
    files = frozenset(path for path, _ in before)
    plan = stage(context, only=files)
    after = _quarantine_counts(context)
    shown = RichTable(title="Quarantined rows", title_justify="left")
    for column in ("reason", "before", "now"):
        shown.add_column(column, justify="left" if column == "reason" else "right")
    for reason in sorted({reason for _, reason in (*before, *after)}):
        numbers = [sum(n for (_, of), n in rows.items() if of == reason) for rows in (before, after)]
        shown.add_row(reason, *(f"{number:,}" for number in numbers))
    context.summary.append(shown)
    gone = sorted(files - {path for counts in plan.file_counts.files.values() for path in counts})
    if gone:
        context.progress(
            f"not read, because they are no longer a source: {', '.join(gone[:5])}{' …' if len(gone) > 5 else ''}"
        )


def _quarantine_counts(context: Context) -> dict[tuple[str, str], int]:
    """The number of quarantined rows by (file, reason)."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    if context.lake.exists(QUARANTINE):
        for group in context.lake.grouped(QUARANTINE, ["source_file", "reasons"]):
            for reason in group["reasons"] or ():
                found[group["source_file"], reason] += group["rows"]
    return found


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark ingest``."""
    parser = stage_parser("ingest", __doc__ or "")
    parser.add_argument(
        "--retry-quarantine", action="store_true",
        help="read again only the files that have quarantined rows, after you have corrected them or the configuration",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    return run_with(arguments, [retry_quarantine if arguments.retry_quarantine else stage])


if __name__ == "__main__":
    sys.exit(main())
