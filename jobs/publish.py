"""The release: disclosure control, the published tables, their own checks, the manifest, the report."""

import sys

from pyspark.sql import functions as F
from rich.table import Table as RichTable

from ebi_spark.errors import InputError
from ebi_spark.release.publish import current_release, publish, report_tables, write_text
from ebi_spark.schemas import (
    ACTIVITY_FLAG,
    ACTIVITY_RATE,
    APC_SPELL,
    OP_ATTENDANCE,
    POLICY,
    POLICY_ATTRITION,
    QUARANTINE,
    RATE_VARIATION,
    RUN_LOG,
)
from jobs.harness import Context, run_stages

READ_TO_PUBLISH = (
    APC_SPELL, OP_ATTENDANCE, QUARANTINE, ACTIVITY_FLAG, POLICY, POLICY_ATTRITION, ACTIVITY_RATE, RATE_VARIATION,
)  # fmt: skip


def stage(context: Context) -> None:
    """Publish what was validated; refuse when any table has changed since."""
    lake = context.lake
    with context.stage("publish") as report:
        _refuse_unvalidated(context)
        lake.prepare()
        done = publish(lake, context.config, context.tell)
        context.release = done.release_id
        report.rows = sum(done.rows.values())
        if lake.location.folder:
            from ebi_spark.report import build_report

            context.tell("drawing the report")
            manifest = current_release(lake) or {}
            page = build_report(report_tables(lake, done.release_id), release=manifest)
            path = context.config.report or lake.location.folder / "report.html"
            write_text(path, page)
            context.report = str(path)
    shown = RichTable(title=f"Published as {done.release_id}", title_justify="left")
    shown.add_column("table")
    shown.add_column("rows", justify="right")
    for name, rows in done.rows.items():
        shown.add_row(name, f"{rows:,}")
    context.summary.append(shown)


def _refuse_unvalidated(context: Context) -> None:
    lake = context.lake
    validated = (
        lake.read(RUN_LOG)
        .where("stage = 'validate'")
        .orderBy(F.col("started_at").desc())
        .select("outcome", "versions_read")
        .first()
    )
    if validated is None or validated["outcome"] != "done":
        raise InputError(
            "nothing was published: the lake was not validated, or its last validation failed",
            remedy="run `ebi-spark validate` with the same configuration first",
        )
    changed = [
        table.full_name
        for table in READ_TO_PUBLISH
        if validated["versions_read"].get(table.full_name) != lake.version(table)
    ]
    if changed:
        raise InputError(
            f"nothing was published: {', '.join(changed)} changed since the last validation",
            remedy="run `ebi-spark validate` again",
        )


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark publish``."""
    return run_stages("publish", __doc__ or "", [stage], argv)


if __name__ == "__main__":
    sys.exit(main())
