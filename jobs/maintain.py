"""Remove old releases, merge small files, delete files that no kept table version needs, and bring a lake of an older
version up to date. Safe while others read."""

import math
import sys
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import InputError
from ebi_spark.lake.locking import locked
from ebi_spark.lake.staging_area import remove_left
from ebi_spark.lake.storage import Lake
from ebi_spark.release.publish import remove_old_releases
from ebi_spark.tables.published import RELEASE
from ebi_spark.tables.schemas import TABLES
from jobs.arguments import JobParser, common_options, lake_option
from jobs.exit_status import guarded
from jobs.harness import bring_up_to_date, opened_lake
from jobs.screen import output_console

KEEP_HOURS = 30 * 24
LEAST_HOURS = 7 * 24
MOST_HOURS = 100 * 365 * 24


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
        if arguments.keep_hours < LEAST_HOURS:
            raise InputError(
                f"--keep-hours {arguments.keep_hours}: readers and runs that are under way could lose files that they still need",
                remedy=f"give at least {LEAST_HOURS} (a week)",
            )
        if arguments.keep_hours > MOST_HOURS:
            raise InputError(
                f"--keep-hours {arguments.keep_hours}: that is longer than a century",
                remedy=f"give at most {MOST_HOURS}",
            )
        if arguments.keep_releases is not None and arguments.keep_releases < 1:
            raise InputError("--keep-releases has to be at least 1", remedy="the current release is always kept")
        with opened_lake(arguments.lake, console) as context, locked(context.config.lake.place) as lock:
            lock.name_java()
            lake: Lake = context.lake
            lake.check_lock = lock.check
            outcome["migrated"] = bring_up_to_date(context)
            keep = arguments.keep_releases or context.history.keep_releases() or RunConfig.keep_releases
            outcome["removed_releases"] = remove_old_releases(lake, keep, leftovers=True)
            context.progress(f"removed {len(outcome['removed_releases'])} old releases")
            hours = outcome["kept_hours"] = max(arguments.keep_hours, _hours_of_oldest_release(lake))
            context.progress(f"compacting and vacuuming: versions of the last {hours:,} hours are kept")
            done = lake.maintain(TABLES.values(), hours)
            remove_left(lake)
            outcome["maintained"] = [{"table": name, **result._asdict()} for name, result in done.items()]
        if not arguments.json:
            _print(outcome["maintained"])

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _hours_of_oldest_release(lake: Lake) -> int:
    """For how many hours table versions have to be kept, to be able to replay the runs of all releases."""
    if not lake.exists(RELEASE):
        return 0
    released = [
        row["released_at"] for row in lake.small_rows(RELEASE, ["released_at"]) if row["released_at"] is not None
    ]
    if not released:
        return 0
    # The versions that a release was made from were the newest ones then, so their files were removed only later. A
    # day is added because a run takes time.
    seconds = datetime.now(UTC).timestamp() - float(min(released)) / 1e6
    return math.ceil(seconds / 3600) + 24


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
