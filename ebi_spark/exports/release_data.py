"""One release, read once: its manifest and its published tables as plain rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

from ebi_spark.config.shipped_files import disclosure_rules
from ebi_spark.geography.area_lists import AREA_TYPES, ENGLAND
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.release.current import local_time, no_such_release
from ebi_spark.release.published_limits import NOT_COMPARED, compared, limits_of
from ebi_spark.report.rows import Row, rows_of
from ebi_spark.tables.published import RELEASE
from ebi_spark.tables.schemas import TABLES

_ORDER = tuple(AREA_TYPES)


@dataclass(frozen=True)
class ReleaseData:
    """``manifest``: the row of ``published/release``. ``tables``: the rows of each published table by its name. A missing
    value is None."""

    manifest: Row
    tables: Mapping[str, list[Row]]

    @property
    def release_id(self) -> str:
        """The id of the release."""
        return str(self.manifest["release_id"])

    @cached_property
    def released_on(self) -> date:
        """The day of the release, in local time."""
        released: date = self.manifest["released_at"].date()
        return released

    @cached_property
    def rule(self) -> dict[str, Any]:
        """The disclosure rule of the release; empty if this version does not know it."""
        found: dict[str, Any] = disclosure_rules().get(str(self.manifest["disclosure"]), {})
        return found

    @cached_property
    def policies(self) -> dict[str, Row]:
        """By policy id, the row of the policy's default reading and newest revision."""
        found: dict[str, Row] = {}
        for row in sorted(self.tables["policy"], key=lambda row: str(row["revision"])):
            if row["is_default_reading"]:
                found[row["policy_id"]] = row
        return dict(sorted(found.items()))

    def of_default_readings(self, table: str) -> list[Row]:
        """The rows of a table that are in the default reading of their policy."""
        default = {policy_id: row["reading"] for policy_id, row in self.policies.items()}
        return [row for row in self.tables[table] if default.get(row["policy_id"]) == row["reading"]]

    @cached_property
    def rates(self) -> list[Row]:
        """The rows of ``rate`` that are meant to be read side by side: default readings, from England to providers."""
        return sorted(
            self.of_default_readings("rate"),
            key=lambda row: (
                row["policy_id"], _ORDER.index(row["area_type"]), str(row["area_code"]), row["period_years"],
                row["financial_year"],
            ),
        )  # fmt: skip

    @cached_property
    def _england(self) -> dict[tuple[str, str, str], Row]:
        return {_key(row): row for row in self.rates if row["area_type"] == ENGLAND}

    def compared_with_england(self, row: Row) -> str:
        """How a rate compares with England's of the same policy and period; see :func:`comparison`."""
        return comparison(row, self._england.get(_key(row)))


def _key(row: Row) -> tuple[str, str, str]:
    return row["policy_id"], row["revision"], row["period"]


def read_release_data(lake: LocalLake, release_id: str | None = None) -> ReleaseData:
    """The release with this id, or the current one. Raises an :class:`InputError` if the lake does not have it."""
    rows = lake.rows_if_there(RELEASE, RELEASE.names())
    chosen = [row for row in rows if (row["is_current"] if release_id is None else row["release_id"] == release_id)]
    if not chosen:
        raise no_such_release(lake.location, release_id, [row["release_id"] for row in rows])
    manifest = chosen[0] | {"released_at": local_time(chosen[0]["released_at"])}
    published = [table for table in TABLES.values() if table.layer == "published" and table is not RELEASE]
    return ReleaseData(
        manifest,
        {
            table.name: rows_of(lake.frame(table, {"release_id": [manifest["release_id"]]}))
            if lake.exists(table)
            else []
            for table in published
        },
    )


def comparison(row: Row, england: Row | None) -> str:
    """How an area's rate compares with England's by its 95% limits: ``lower``, ``similar``, ``higher`` or
    ``not_compared``."""
    if england is None or row["area_type"] == ENGLAND:
        return NOT_COMPARED
    return compared(limits_of(row), england["standardised_rate"])
