"""Which release is current. Of a lake in a folder this needs no Spark."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.errors import InputError
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.tables.published import RELEASE


def current_release_id(lake: LocalLake) -> str | None:
    """The id of the current release, or None before the first."""
    rows = lake.rows_if_there(RELEASE, ["release_id", "is_current"])
    return next((row["release_id"] for row in rows if row["is_current"]), None)


def current_release(lake: LocalLake) -> dict[str, Any] | None:
    """The manifest row of the current release, or None before the first. ``released_at`` is local time."""
    return next((row for row in kept_releases(lake) if row["is_current"]), None)


def kept_releases(lake: LocalLake) -> list[dict[str, Any]]:
    """The manifest rows of all releases that the lake has, newest first. ``released_at`` is local time."""
    rows = sorted(lake.rows_if_there(RELEASE, RELEASE.names()), key=lambda row: row["released_at"], reverse=True)
    return [row | {"released_at": local_time(row["released_at"])} for row in rows]


def no_such_release(location: LakeLocation, release_id: str | None, kept: Iterable[str]) -> InputError:
    """The error for a release that is not among those ``kept``; None is the current one."""
    known = ", ".join(sorted(kept))
    return InputError(
        f"{location} has no {'current release' if release_id is None else f'release {release_id!r}'}",
        remedy=f"choose from: {known}" if known else "publish one first",
    )


def local_time(microseconds: int | None) -> datetime | None:
    """A time of :meth:`LocalLake.small_rows` as local time, without a time zone."""
    if microseconds is None:
        return None
    seconds, rest = divmod(microseconds, 10**6)
    return datetime.fromtimestamp(seconds).replace(microsecond=rest)
