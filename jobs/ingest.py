"""Source tables into silver: records by financial year, quarantine and the account of every file."""

import json
import sys

from pyspark.sql import functions as F
from rich.table import Table as RichTable

from ebi_spark.records.file_counts import Step, refuse_too_many_quarantined
from ebi_spark.records.ingest import write
from ebi_spark.records.ingest_audit import IngestSummary
from ebi_spark.records.plan import Plan, plan
from ebi_spark.runs.due import Due
from ebi_spark.runs.history import DUE_FROM, STANDING, VERDICTS
from ebi_spark.sources import column_drift
from ebi_spark.sources.file_watch import watched
from ebi_spark.sources.reader import read_sources
from ebi_spark.tables.schemas import QUARANTINE
from jobs.harness import Context, StageReport, run_with, stage_parser, table_of_lines
from jobs.progress import in_words, seconds_left

DATASETS = {"apc": "spells", "op": "attendances"}


def stage(context: Context, due: Due | None = None, only: frozenset[str] | None = None) -> Plan:
    """Read the configured sources and write the years asked for, in steps that share no file. Of these steps, where
    ``due`` is given, those that the last runs do not cover; where ``only`` is, those that read one of these files."""
    done = IngestSummary()
    with context.stage("ingest") as report, watched(context.config, context.lake.versions_written):
        report.years = list(context.config.years or [])
        tables = read_sources(context.spark, context.config)
        noted = column_drift.column_warnings(tables, column_drift.last_ingested(context.lake, tables))
        for line in noted:
            context.tell_plainly(line)
        before = context.books.previous_ingest() if due is not None else None
        whole = plan(context.lake, tables, context.config, context.tell, before)
        ahead, standing = _ahead(context, whole, due, only)
        report.years = ahead[0][0].years if ahead else []
        report.details[STANDING] = json.dumps(standing)
        _write(context, report, whole, ahead, 0, done)
    for number in range(1, len(ahead)):
        _tell_left(context, ahead, number)
        context.why = ahead[number][1]
        with context.stage("ingest") as report, watched(context.config, context.lake.versions_written):
            report.years = ahead[number][0].years
            _write(context, report, whole, ahead, number, done)
    _summary(context, whole, done, noted)
    return whole


def _ahead(
    context: Context, whole: Plan, due: Due | None, only: frozenset[str] | None
) -> tuple[list[tuple[Step, list[str]]], list[str]]:
    """The steps to do, each with what made it necessary; and the years that are as they were."""
    chosen: list[tuple[Step, list[str]]] = []
    standing = whole.standing
    for step in whole.steps:
        # A year that one of these files held before is replaced too: a record may have moved out of it.
        if only is not None and not (step.files | context.books.files_of(step.years)) & only:
            continue
        why = context.books.step_due(step.years, step.files, whole.found.verdicts(step)) if due else None
        left = [year for year in step.years if year in whole.left]
        if why is None or why or left:
            because = why.reasons if why else []
            because += [f"no source file has rows of {', '.join(left)} any more"] if left else []
            chosen.append((step, because))
        else:
            standing += step.years
            context.tell(f"{', '.join(step.years)}: its source files are as they were")
    if len(chosen) > 1:
        context.tell(f"{sum(len(step.years) for step, _ in chosen)} years in {len(chosen)} steps")
    return chosen, standing


def _write(
    context: Context,
    report: StageReport,
    whole: Plan,
    ahead: list[tuple[Step, list[str]]],
    number: int,
    done: IngestSummary,
) -> None:
    """One step, if there is any; behind the last one, whether too much was set aside of the files altogether."""
    report.details["found"] = json.dumps(whole.years)
    if ahead:
        step = ahead[number][0]
        made = write(context.lake, whole, step, context.config, context.tell)
        report.details[VERDICTS] = json.dumps(whole.found.verdicts(step))
        report.details[DUE_FROM] = json.dumps(whole.found.due_from(step), default=str)
        report.rows = made.rows_read
        done.add(made)
        if not made.touched:
            context.tell(f"{', '.join(made.years)}: the lake holds the very same records, nothing was written")
    if number >= len(ahead) - 1:
        refuse_too_many_quarantined(whole.found, context.config)


def _tell_left(context: Context, ahead: list[tuple[Step, list[str]]], number: int) -> None:
    stages = [stage for stage in context.stages if stage.name == "ingest" and not stage.skipped][-number:]
    # By the rows of each step's own years: the first one also looks at those of all other files.
    paces = [(stage.seconds, step.rows) for stage, (step, _) in zip(stages, ahead, strict=False)]
    rest = [step for step, _ in ahead[number:]]
    left = seconds_left(paces, sum(step.rows for step in rest))
    about = f", about {in_words(left)} left of this stage" if left is not None else ""
    years = sum(len(step.years) for step, _ in ahead)
    context.tell(f"ingest: {years - sum(len(step.years) for step in rest)} of {years} years done{about}")


def _summary(context: Context, whole: Plan, done: IngestSummary, noted: list[str]) -> None:
    shown = RichTable(title="IngestSummary", title_justify="left")
    for column in ("what", "rows"):
        shown.add_column(column, justify="right" if column == "rows" else "left")
    shown.add_row("years", ", ".join(done.years))
    shown.add_row("source rows read", f"{done.rows_read:,}")
    for dataset, number in done.records.items():
        shown.add_row(f"{DATASETS[dataset]} written", f"{number:,}")
    for fate, number in sorted(done.kept_back.items()):
        shown.add_row(f"records {fate}", f"{number:,}")
    if done.differing:
        shown.add_row("copies that differ in columns that nothing reads", f"{done.differing:,}")
    shown.add_row("rows set aside", f"{whole.found.total('quarantined'):,}")
    for reason, number in sorted(done.reasons.items()):
        shown.add_row(f"  {reason}", f"{number:,}")
    context.summary.append(shown)
    for line in done.empty:
        context.tell_plainly(line)
    if noted or done.empty:
        context.summary.append(table_of_lines("Columns of the source tables", noted + done.empty))


def retry(context: Context) -> None:
    """Read the files again of which rows are set aside, under the configuration as it is now."""
    before = _set_aside(context)
    if not before:
        context.skip("ingest", "no row is set aside")
        return
    files = frozenset(path for path, _ in before)
    whole = stage(context, only=files)
    after = _set_aside(context)
    shown = RichTable(title="Rows set aside", title_justify="left")
    for column in ("reason", "before", "now"):
        shown.add_column(column, justify="left" if column == "reason" else "right")
    for reason in sorted({reason for _, reason in (*before, *after)}):
        numbers = [sum(n for (_, of), n in rows.items() if of == reason) for rows in (before, after)]
        shown.add_row(reason, *(f"{number:,}" for number in numbers))
    context.summary.append(shown)
    gone = sorted(files - {path for counts in whole.found.files.values() for path in counts})
    if gone:
        context.tell(f"no source any more, so not read: {', '.join(gone[:5])}{' …' if len(gone) > 5 else ''}")


def _set_aside(context: Context) -> dict[tuple[str, str], int]:
    """Rows in quarantine by (file, reason)."""
    if not context.lake.exists(QUARANTINE):
        return {}
    reasons = context.lake.read(QUARANTINE).select("source_file", F.explode("reasons").alias("reason"))
    return {(row[0], row[1]): row["count"] for row in reasons.groupBy("source_file", "reason").count().collect()}


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark ingest``."""
    parser = stage_parser("ingest", __doc__ or "")
    parser.add_argument(
        "--retry-quarantine", action="store_true",
        help="read again only the files of which rows are set aside, after they or the configuration were put right",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    return run_with(arguments, [retry if arguments.retry_quarantine else stage])


if __name__ == "__main__":
    sys.exit(main())
