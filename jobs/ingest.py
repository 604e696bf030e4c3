"""Read the source tables into the lake. Rows that cannot be used go to quarantine, with the reason."""

import sys

from rich.table import Table as RichTable

from ebi_spark.stages.ingest import Ingest, IngestResult
from jobs.arguments import stage_parser
from jobs.harness import Context, run_with
from jobs.screen import table_of_lines

DATASETS = {"apc": "spells", "op": "attendances"}


def stage(context: Context) -> None:
    """Ingest, and show what was done."""
    show(context, Ingest(context).run())


def retry_quarantine(context: Context) -> None:
    """Read the files that have quarantined rows again, and show how many there were and are."""
    found = Ingest(context).retry_quarantine()
    if found is None:
        return
    show(context, found.ingest)
    shown = RichTable(title="Quarantined rows", title_justify="left")
    for column in ("reason", "before", "now"):
        shown.add_column(column, justify="left" if column == "reason" else "right")
    for reason in sorted({reason for _, reason in (*found.before, *found.after)}):
        numbers = [sum(n for (_, of), n in rows.items() if of == reason) for rows in (found.before, found.after)]
        shown.add_row(reason, *(f"{number:,}" for number in numbers))
    context.summary.append(shown)


def show(context: Context, result: IngestResult) -> None:
    """Add the tables of an ingest to the summary."""
    done = result.written
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
    shown.add_row("rows quarantined", f"{result.quarantined:,}")
    for reason, number in sorted(done.reasons.items()):
        shown.add_row(f"  {reason}", f"{number:,}")
    context.summary.append(shown)
    if result.column_warnings or done.empty:
        context.summary.append(table_of_lines("Columns of the source tables", result.column_warnings + done.empty))


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
