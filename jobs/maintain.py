"""Remove old releases, merge small files, delete files that no kept table version needs, and bring a lake of an older
version up to date. Safe while others read."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ebi_spark.config.settings import RunConfig
from ebi_spark.lake.staging_area import remove_left
from ebi_spark.release.retention import KEEP_HOURS, hours_to_keep, refuse_retention, remove_old_releases
from ebi_spark.stages.upgrade import bring_up_to_date
from ebi_spark.tables.schemas import TABLES
from jobs.arguments import JobParser, common_options, lake_option
from jobs.exit_status import guarded
from jobs.harness import opened_lake
from jobs.screen import output_console


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark maintain``."""
    parser = JobParser(prog="ebi-spark maintain", description=__doc__)
    lake_option(parser)
    parser.add_argument(
        "--keep-releases",
        type=int,
        metavar="N",
        help="keep this many releases (default: keep_releases of the last published configuration)",
    )
    parser.add_argument(
        "--keep-hours", type=int, default=KEEP_HOURS, metavar="N",
        help="keep table versions for at least this many hours (default %(default)s); versions that a kept release was "
        "made from are kept as long as the release",
    )  # fmt: skip
    common_options(parser)
    arguments = parser.parse_args(argv)

    def work(console: Console, outcome: dict[str, Any]) -> None:
        refuse_retention(arguments.keep_releases, arguments.keep_hours)
        with opened_lake(arguments.lake, console, to_write=True) as context:
            lake = context.lake
            outcome["migrated"] = bring_up_to_date(context)
            keep = arguments.keep_releases or context.history.keep_releases() or RunConfig.keep_releases
            outcome["removed_releases"] = remove_old_releases(lake, keep, leftovers=True)
            context.progress(f"removed {len(outcome['removed_releases'])} old releases")
            hours = outcome["kept_hours"] = hours_to_keep(lake, arguments.keep_hours)
            context.progress(
                f"merging small files and deleting files that are not needed: versions of the last {hours:,} hours are kept"
            )
            done = lake.maintain(TABLES.values(), hours)
            remove_left(lake)
            outcome["maintained"] = [{"table": name, **result._asdict()} for name, result in done.items()]
        if not arguments.json:
            _print(outcome["maintained"])

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _print(rows: list[dict[str, Any]]) -> None:
    shown = RichTable(title="Tables", title_justify="left")
    shown.add_column("table")
    for name in ("files before", "files", "bytes"):
        shown.add_column(name, justify="right")
    for row in rows:
        shown.add_row(row["table"], f"{row['files_before']:,}", f"{row['files']:,}", f"{row['bytes']:,}")
    output_console().print(shown)


if __name__ == "__main__":
    sys.exit(main())
