"""Source tables into silver: records by financial year, quarantine and the account of every file."""

import sys
from dataclasses import replace

from rich.table import Table as RichTable

from ebi_spark.acquire import drift
from ebi_spark.acquire.tables import read_sources
from ebi_spark.acquire.watch import watched
from ebi_spark.canonical.ingest import ingest
from ebi_spark.recompute import Due
from jobs.harness import Context, run_stages, table_of_lines


def stage(context: Context, due: Due | None = None) -> None:
    """Read the configured sources and replace the years asked for; of these, where given, only what is ``due``."""
    config = context.config
    if due and config.years:
        config = replace(config, years=tuple(due.years))
    with context.stage("ingest") as report, watched(config, context.lake.versions_written):
        report.years = list(config.years or [])
        tables = read_sources(context.spark, config)
        noted = drift.told(tables, drift.last_ingested(context.lake))
        for line in noted:
            context.tell_plainly(line)
        done = ingest(context.spark, context.lake, tables, config, context.tell)
        report.rows, report.years = done.rows_read, done.years
    shown = RichTable(title="Ingested", title_justify="left")
    for column in ("what", "rows"):
        shown.add_column(column, justify="right" if column == "rows" else "left")
    shown.add_row("years", ", ".join(done.years))
    shown.add_row("source rows read", f"{done.rows_read:,}")
    for dataset, number in done.records.items():
        shown.add_row({"apc": "spells", "op": "attendances"}[dataset], f"{number:,}")
    shown.add_row("rows set aside", f"{done.rows_quarantined:,}")
    for reason, number in done.reasons.items():
        shown.add_row(f"  {reason}", f"{number:,}")
    context.summary.append(shown)
    if noted:
        context.summary.append(table_of_lines("Columns of the source tables", noted))


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark ingest``."""
    return run_stages("ingest", __doc__ or "", [stage], argv)


if __name__ == "__main__":
    sys.exit(main())
