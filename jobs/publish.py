"""Publish a release: apply disclosure control, check and write the published tables, and draw the report."""

import sys
from collections.abc import Callable
from pathlib import Path

from rich.table import Table as RichTable

from ebi_spark.errors import BrokenRunError, InputError
from ebi_spark.geography.code_forms import refuse_invalid_codes
from ebi_spark.own_files import refuse_report
from ebi_spark.release.publish import (
    current_release,
    current_release_id,
    publish,
    remove_old_releases,
    report_tables,
    roll_back,
    write_text,
)
from ebi_spark.runs.history import refuse_unchecked
from ebi_spark.runs.output_paths import report_file
from ebi_spark.tables.schemas import ACTIVITY_RATE, POLICY_ATTRITION, RECORD_QUALITY
from jobs.harness import Context, run_with, stage_parser

# A release has all years of these tables.
TABLES_OF_YEARS = (POLICY_ATTRITION, ACTIVITY_RATE)


def stage(context: Context) -> None:
    """Publish the tables as they were validated. An error if a table has changed since then."""
    lake = context.lake
    with context.stage("publish") as report:
        years = {year for table in TABLES_OF_YEARS for year in (lake.years(table) if lake.exists(table) else [])}
        if not years:
            raise InputError(
                "nothing was published: the lake has no rates",
                remedy="run the earlier stages first, or `ebi-spark run`",
            )
        report.years = sorted(years)
        refuse_unchecked(context.history, report.years)
        lake.prepare()
        refuse_invalid_codes(lake.read(RECORD_QUALITY), context.config)
        previous = current_release_id(lake)
        release = publish(lake, context.config, context.progress)
        context.release = release.release_id
        report.rows = sum(release.rows.values())
        draw_report(context)
        removed = remove_old_releases(lake, context.config.keep_releases, previous=previous)
        if removed:
            context.progress(f"removed {len(removed)} old releases (keep_releases: {context.config.keep_releases})")
    shown = RichTable(title=f"Published as {release.release_id}", title_justify="left")
    shown.add_column("table")
    shown.add_column("rows", justify="right")
    for name, rows in release.rows.items():
        shown.add_row(name, f"{rows:,}")
    context.summary.append(shown)


def draw_report(context: Context) -> None:
    """Draw the report of the current release, in the folder of a local lake or where the configuration says."""
    lake = context.lake
    path = report_path(context)
    if path is None:
        return
    from ebi_spark.report import build_report

    context.progress("drawing the report")
    manifest = current_release(lake) or {}
    page = build_report(
        report_tables(lake, manifest["release_id"]),
        release=manifest,
        over_dispersion=context.config.over_dispersion,
        control_charts=context.config.control_charts,
    )
    try:
        refuse_report(path)
        write_text(path, page)
    except (OSError, InputError) as error:
        reason = error.message if isinstance(error, InputError) else f"{path} cannot be written ({error.strerror})"
        raise BrokenRunError(
            f"the release {manifest.get('release_id')} is current, but its report could not be drawn: {reason}",
            remedy="make room for the report or choose another place (`report: …`), then run the same command again",
        ) from None
    context.report = str(path)


def redraw_report(context: Context) -> None:
    """Draw the report of the current release again, if there is a report and a release."""
    path = report_path(context)
    if path is not None and path.exists() and current_release(context.lake):
        draw_report(context)


def report_path(context: Context) -> Path | None:
    """Where the report is written. None for a catalogue lake without a configured place."""
    return report_file(context.config)


def roll_back_stage(release_id: str) -> Callable[[Context], None]:
    """A stage that makes an earlier release the current one again."""

    def stage_of_roll_back(context: Context) -> None:
        with context.stage("roll_back"):
            roll_back(context.lake, release_id)
            context.release = release_id
            draw_report(context)

    return stage_of_roll_back


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark publish``."""
    parser = stage_parser("publish", __doc__ or "")
    parser.add_argument(
        "--release",
        metavar="ID",
        help="make this earlier release the current one again, instead of publishing a new one",
    )
    arguments = parser.parse_args(argv)
    return run_with(arguments, [roll_back_stage(arguments.release) if arguments.release else stage])


if __name__ == "__main__":
    sys.exit(main())
