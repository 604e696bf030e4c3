"""Compaction, vacuum and removal of old releases; safe while readers read."""

import sys
from typing import Any

from pyspark.sql import functions as F
from rich.console import Console

from ebi_spark.locking import locked
from ebi_spark.release.publish import PUBLISHED
from ebi_spark.schemas import RELEASE, TABLES
from ebi_spark.settings import RunConfig
from jobs.harness import JobParser, common_options, guarded, opened_lake

KEEP_HOURS = 30 * 24


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark maintain``."""
    parser = JobParser(prog="ebi-spark maintain", description=__doc__)
    parser.add_argument("--lake", required=True)
    parser.add_argument("--keep-releases", type=int, default=RunConfig.keep_releases, metavar="N")
    parser.add_argument("--keep-hours", type=int, default=KEEP_HOURS, help="of table versions (default %(default)s)")
    common_options(parser)
    arguments = parser.parse_args(argv)

    def work(console: Console, outcome: dict[str, Any]) -> None:
        with opened_lake(arguments.lake, console) as context, locked(context.config.lake.folder):
            lake = context.lake
            outcome["removed_releases"] = []
            if lake.exists(RELEASE):
                releases = lake.read(RELEASE).orderBy(F.col("released_at").desc()).collect()
                kept = [row for n, row in enumerate(releases) if n < arguments.keep_releases or row["is_current"]]
                old = [row["release_id"] for row in releases if row not in kept]
                if old:
                    # The manifest first: who joins to it never sees a release whose rows are going.
                    remaining = lake.read(RELEASE).where(~F.col("release_id").isin(old)).coalesce(1)
                    lake.replace(RELEASE, remaining, {}, stage="maintain")
                    for table in PUBLISHED:
                        lake.replace(table, lake.read(table).limit(0), {"release_id": old}, stage="maintain")
                outcome["removed_releases"] = old
                context.tell(f"removed {len(old)} old releases")
            for table in TABLES.values():
                if lake.exists(table):
                    context.tell(f"compacting and vacuuming {table.full_name}")
                    lake.maintain(table, arguments.keep_hours)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


if __name__ == "__main__":
    sys.exit(main())
