"""The release: disclosure control, the published tables, their own checks, the manifest, the report."""

import sys
from collections.abc import Callable

from pyspark.sql import functions as F
from rich.table import Table as RichTable

from ebi_spark.errors import InputError
from ebi_spark.release.publish import current_release, publish, report_tables, roll_back, write_text
from ebi_spark.schemas import (
    ACTIVITY_FLAG,
    ACTIVITY_MONTH,
    ACTIVITY_RATE,
    APC_SPELL,
    OP_ATTENDANCE,
    POLICY,
    POLICY_ATTRITION,
    POLICY_SENSITIVITY,
    PROVIDER_MONTH,
    QUARANTINE,
    RATE_VARIATION,
    RUN_LOG,
    UNMAPPED_AREA,
)
from jobs.harness import Context, run_with, stage_parser

READ_TO_PUBLISH = (
    APC_SPELL, OP_ATTENDANCE, QUARANTINE, ACTIVITY_FLAG, POLICY, POLICY_ATTRITION, POLICY_SENSITIVITY, ACTIVITY_RATE,
    RATE_VARIATION, ACTIVITY_MONTH, PROVIDER_MONTH, UNMAPPED_AREA,
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
        _draw_report(context)
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


def _draw_report(context: Context) -> None:
    """Draw the current release, in the folder of a local lake or where the configuration says."""
    lake = context.lake
    path = context.config.report or (lake.location.folder / "report.html" if lake.location.folder else None)
    if path is None:
        return
    from ebi_spark.report import build_report

    context.tell("drawing the report")
    manifest = current_release(lake) or {}
    page = build_report(
        report_tables(lake, manifest["release_id"]), release=manifest, over_dispersion=context.config.over_dispersion
    )
    write_text(path, page)
    context.report = str(path)


def back_to(release_id: str) -> Callable[[Context], None]:
    """The stage that makes an earlier release the current one again."""

    def stage_back(context: Context) -> None:
        with context.stage("roll_back"):
            roll_back(context.lake, release_id)
            context.release = release_id
            _draw_report(context)

    return stage_back


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark publish``."""
    parser = stage_parser("publish", __doc__ or "")
    parser.add_argument("--release", metavar="ID", help="go back to this earlier release instead of making a new one")
    arguments = parser.parse_args(argv)
    return run_with(arguments, [back_to(arguments.release) if arguments.release else stage])


if __name__ == "__main__":
    sys.exit(main())
