"""Show what is in a lake: years and rows, policies, the last runs, quarantined rows, the current release."""

import sys
from typing import Any

from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table as RichTable

from ebi_spark.geography.code_forms import UNKNOWN_CODE, code_of
from ebi_spark.lake.storage import Lake
from ebi_spark.records.quarantine_summary import REFUSED_ROWS, quarantine_summary, refused_rows
from ebi_spark.release.publish import current_release
from ebi_spark.sources import column_drift
from ebi_spark.tables.schemas import ACTIVITY_FLAG, APC_SPELL, OP_ATTENDANCE, POLICY, QUARANTINE, RUN_LOG, UNMAPPED_AREA
from jobs.harness import Context, JobParser, common_options, guarded, headed, opened_lake, output_console

QUARANTINE_TITLE = "quarantine"
REFUSED = "rows that the last ingest could not use (it was refused and wrote nothing)"
LOST_CODES = "area codes that count in England only"
SHOWN_CODES = 20


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark status``."""
    parser = JobParser(prog="ebi-spark status", description=__doc__)
    parser.add_argument("--lake", required=True, metavar="LAKE", help="the lake's folder or catalog.prefix")
    common_options(parser)
    arguments = parser.parse_args(argv)

    def work(console: Console, outcome: dict[str, Any]) -> None:
        with opened_lake(arguments.lake, console) as context:
            outcome["status"] = collected = _collect(context)
        if not arguments.json:
            _print(collected)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _collect(context: Context) -> dict[str, list[dict[str, Any]]]:
    """Counts and names only."""
    lake = context.lake
    rows: dict[tuple[str, str], int] = {}
    for table in (APC_SPELL, OP_ATTENDANCE, QUARANTINE, ACTIVITY_FLAG):
        if lake.exists(table):
            for row in lake.read(table).groupBy("financial_year").count().collect():
                rows[(table.full_name, row["financial_year"])] = row["count"]
    found: dict[str, list[dict[str, Any]]] = {
        "rows": [{"table": t, "year": y, "rows": n} for (t, y), n in sorted(rows.items())]
    }
    if lake.exists(QUARANTINE):
        found[QUARANTINE_TITLE] = quarantine_summary(lake.read(QUARANTINE))
    if refused := _refused(lake):
        found[REFUSED] = refused
    found["columns"] = column_drift.columns_in_lake(lake)
    if lake.exists(UNMAPPED_AREA):
        codes = (
            lake.read(UNMAPPED_AREA)
            # An earlier version listed any text in the column, not only codes.
            .withColumn("code", F.coalesce(code_of(F.col("code"), "commissioner"), F.lit(UNKNOWN_CODE)))
            .groupBy("code", "reason")
            .agg(F.array_sort(F.collect_set("financial_year")).alias("years"), F.sum("records").alias("records"))
        )
        found[LOST_CODES] = [row.asDict() for row in codes.orderBy(F.col("records").desc(), "code", "reason").collect()]
    if lake.exists(POLICY):
        columns = ["policy_id", "revision", "reading", "policy_fingerprint", "title"]
        found["policies"] = [r.asDict() for r in lake.read(POLICY).select(*columns).orderBy(*columns[:3]).collect()]
    if lake.exists(RUN_LOG):
        columns = ["run_id", "stage", "started_at", "ended_at", "outcome", "rows"]
        recent = lake.read(RUN_LOG).select(*columns).orderBy(F.col("started_at").desc()).limit(10)
        found["last stages"] = [row.asDict() for row in recent.collect()]
    release = current_release(lake)
    names = ("release_id", "released_at", "disclosure", "coverage", "years")
    found["release"] = [{name: release[name] for name in names}] if release else []
    return found


def _refused(lake: Lake) -> list[dict[str, Any]]:
    """The unusable rows of the last ingest where it was refused because of them; else nothing."""
    if not lake.exists(RUN_LOG):
        return []
    ingests = lake.read(RUN_LOG).where("stage = 'ingest'").orderBy(F.col("started_at").desc(), F.col("run_id").desc())
    last = ingests.select("details").first()
    return refused_rows(last["details"][REFUSED_ROWS]) if last and REFUSED_ROWS in (last["details"] or {}) else []


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _print(collected: dict[str, list[dict[str, Any]]]) -> None:
    console = output_console()
    for title, rows in collected.items():
        if not rows:
            console.print(headed(title, ": none"))
            continue
        table = RichTable(title=title, title_justify="left")
        for name in rows[0]:
            table.add_column(name, justify="right" if isinstance(rows[0][name], int) else "left")
        shown = rows[:SHOWN_CODES] if title == LOST_CODES else rows
        for row in shown:
            table.add_row(*map(_cell, row.values()))
        console.print(table)
        if len(shown) < len(rows):
            console.print(f"and {len(rows) - len(shown):,} more: gold/unmapped_area lists them all, as does --json")


if __name__ == "__main__":
    sys.exit(main())
