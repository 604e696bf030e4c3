"""Publish a release of all years of the lake, which must have been validated: suppress small numbers, check and write the
tables, draw the report."""

import sys
from collections.abc import Callable

from rich.table import Table as RichTable

from ebi_spark.release.publish import Release, kept_release
from ebi_spark.stages.publish import Publish
from jobs.arguments import stage_parser
from jobs.harness import Context, run_with


def stage(context: Context) -> None:
    """Publish, and show the rows of each table."""
    show(context, Publish(context).run())


def show(context: Context, release: Release) -> None:
    """Add the published tables to the summary."""
    title = f"Published as {release.release_id}: {release.checks.in_words}"
    shown = RichTable(title=title, title_justify="left")
    shown.add_column("table")
    shown.add_column("rows", justify="right")
    for name, rows in release.rows.items():
        shown.add_row(name, f"{rows:,}")
    context.summary.append(shown)


def roll_back_stage(release_id: str) -> Callable[[Context], None]:
    """A stage that makes an earlier release the current one again."""
    return lambda context: Publish(context).roll_back(release_id)


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark publish``."""
    parser = stage_parser("publish", __doc__ or "")
    parser.add_argument(
        "--release",
        metavar="ID",
        help="make this earlier release the current one again, instead of publishing a new one",
    )
    arguments = parser.parse_args(argv)
    if arguments.release:
        return run_with(
            arguments, [roll_back_stage(arguments.release)], check=lambda lake: kept_release(lake, arguments.release)
        )
    return run_with(arguments, [stage])


if __name__ == "__main__":
    sys.exit(main())
