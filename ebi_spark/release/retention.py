"""How long releases and versions of tables are kept, and the removal of old releases."""

import math
from datetime import UTC, datetime, timedelta
from functools import partial

from ebi_spark.errors import InputError
from ebi_spark.lake.storage import Lake
from ebi_spark.release.publish import PUBLISHED
from ebi_spark.tables.published import RELEASE
from ebi_spark.tables.table import Table
from ebi_spark.threads import run_in_threads

# For how many hours table versions are kept: by default, at least and at most.
KEEP_HOURS = 30 * 24
LEAST_HOURS = 7 * 24
MOST_HOURS = 100 * 365 * 24
# How long a replaced release is kept in any case, because readers may still use its id.
GRACE = timedelta(hours=1)
# Rows of a release without a manifest are left alone for so long in a catalogue, where another run may be writing them.
LONGEST_PUBLICATION = timedelta(days=1)


def refuse_retention(releases: int | None, hours: int) -> None:
    """Raise an :class:`InputError` if so many releases (None: as configured) or hours of table versions cannot be kept."""
    if hours < LEAST_HOURS:
        raise InputError(
            f"--keep-hours {hours}: readers and runs that are under way could lose files that they still need",
            remedy=f"give at least {LEAST_HOURS} (a week)",
        )
    if hours > MOST_HOURS:
        raise InputError(
            f"--keep-hours {hours}: that is longer than a century",
            remedy=f"give at most {MOST_HOURS}",
        )
    if releases is not None and releases < 1:
        raise InputError("--keep-releases has to be at least 1", remedy="the current release is always kept")


def hours_to_keep(lake: Lake, at_least: int) -> int:
    """For how many hours table versions have to be kept, to be able to replay the runs of all releases that the lake has. Never
    less than ``at_least``."""
    listed = lake.rows_if_there(RELEASE, ["released_at"])
    released = [row["released_at"] for row in listed if row["released_at"] is not None]
    if not released:
        return at_least
    # The versions that a release was made from were the newest ones then, so their files were removed only later. A
    # day is added because a run takes time.
    seconds = datetime.now(UTC).timestamp() - float(min(released)) / 1e6
    return max(at_least, math.ceil(seconds / 3600) + 24)


def remove_old_releases(
    lake: Lake, keep: int, now: datetime | None = None, *, leftovers: bool = False, previous: str | None = None
) -> list[str]:
    """Remove all releases but the newest ``keep`` and the current one. Returns the ids of the removed releases.

    The previous release is kept for an hour (:data:`GRACE`) after it was replaced, so that readers who had just looked up its
    id still find its rows. ``previous``: the release that was current until now, where it is known; after a roll-back it need
    not be the second newest. With ``leftovers``, rows of releases without a manifest are removed too; runs that were killed
    leave such rows.
    """
    if not lake.exists(RELEASE):
        return []
    listed = lake.small_rows(RELEASE, ["release_id", "is_current", "released_at"])
    releases = sorted(listed, key=lambda row: row["released_at"], reverse=True)
    at_least = ((now or datetime.now(UTC)) - GRACE).timestamp() * 1e6
    just_replaced = any(row["is_current"] and row["released_at"] > at_least for row in releases)
    kept = {row["release_id"] for row in releases[: max(keep, 2 if just_replaced else 1)]}
    kept |= {previous} if just_replaced and previous else set()
    old = [row["release_id"] for row in releases if row["release_id"] not in kept and not row["is_current"]]
    if old:
        # The manifest first, so that readers who join to it never see a release whose rows are being removed.
        lake.replace(RELEASE, [], {"release_id": old}, stage="maintain")
    remaining_ids = {row["release_id"] for row in releases} - set(old)

    def remove_rows(table: Table) -> None:
        unwanted = set(old)
        if leftovers:
            found = lake.grouped(table, ["release_id"])
            unwanted |= {
                row["release_id"] for row in found if not _may_be_written_now(lake, row["release_id"], now)
            } - remaining_ids
        if unwanted:
            lake.replace(table, [], {"release_id": sorted(unwanted)}, stage="maintain")

    run_in_threads([partial(remove_rows, table) for table in PUBLISHED if lake.exists(table)])
    return old


def _may_be_written_now(lake: Lake, release_id: str, now: datetime | None) -> bool:
    """Whether rows without a manifest may belong to a release that another run is writing. A lock lets only one run
    at a time write to a lake in a folder or at a URL; in a catalogue the time in the id decides."""
    started = (now or datetime.now(UTC)) - LONGEST_PUBLICATION
    return lake.location.place is None and release_id > f"{started:%Y%m%dT%H%M%SZ}"
