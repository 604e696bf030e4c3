"""Figures that releases of earlier versions disclosed. They are removed from every kept release when a lake is migrated.

Releases of schema 1 had figures from which suppressed counts could be calculated: how many cells were truly small, exact
expected events and the rates calculated from them, the days between records, and national measures that can be about one
area or provider. They also published whatever was mapped to the provider column. Counts, their status and England's
counts are kept, because people may have read them; suppression in the next release takes them into account.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ebi_spark.lake import local_tables
from ebi_spark.lake.conditions import predicate_of, spark_literal
from ebi_spark.lake.maintenance import remove_unneeded, vacuuming
from ebi_spark.lake.permissions import open_to_others
from ebi_spark.tables.published import COMPLETENESS, DAYS_BETWEEN, QUALITY, RATE, RELEASE, VARIATION
from ebi_spark.tables.table import Table
from ebi_spark.threads import run_in_threads

if TYPE_CHECKING:
    from ebi_spark.lake.storage import Lake

# The first schema whose releases do not have these figures.
CORRECTED_IN = 2
EMPTIED = "emptied figures from which suppressed counts could be calculated, and removed old files"


@dataclass(frozen=True)
class Correction:
    """Changes to a published table: new values of columns (SQL by column), and a SQL condition for the rows to remove."""

    table: Table
    values: Mapping[str, str] = field(default_factory=dict)
    remove: str = ""


_NO_PROVIDER = "area_type = 'provider' AND NOT area_code RLIKE '^([A-Z0-9]{3}|[A-Z0-9]{5}|[A-Z][0-9]{5})$'"
_BELOW_ENGLAND = ("share_lower", "share_upper")
_STANDARDISED = (
    "expected", "standardised_rate", "lower", "upper", "lower_adjusted", "upper_adjusted", "standard_error",
)  # fmt: skip
_PERCENTILES = tuple(f"{prefix}p{share}" for prefix in ("", "all_areas_") for share in (10, 25, 50, 75, 90))

CORRECTIONS = (
    Correction(
        RATE,
        dict.fromkeys(_STANDARDISED, "NULL")
        | {name: f"CASE WHEN area_type = 'england' THEN {name} END" for name in _BELOW_ENGLAND},
        remove=_NO_PROVIDER,
    ),
    Correction(VARIATION, dict.fromkeys((*_PERCENTILES, "n_fold", "opportunity", "opportunity_share"), "NULL")),
    Correction(DAYS_BETWEEN, remove="true"),
    Correction(QUALITY, {"records": "CASE WHEN measure = 'records' THEN records END"}),
    Correction(
        COMPLETENESS,
        dict.fromkeys(("providers", "providers_low"), "NULL"),
        remove=f"status = 'withheld_small' OR ({_NO_PROVIDER})",
    ),
    Correction(RELEASE, {"disclosure_loss": "NULL"}),
)


def empty_earlier_releases(lake: "Lake", tables: Sequence[Table]) -> list[str]:
    """Remove figures that earlier versions should not have disclosed from published ``tables``, and the files and
    log entries that still have them. (In a catalogue the log stays, with the minimum and maximum of each column of
    each file, because it belongs to the platform. A lake at a URL has no such releases.)"""
    corrections = [correction for correction in CORRECTIONS if correction.table in tables]
    for correction in corrections:
        name = lake.identifier(correction.table)
        if correction.remove:
            lake.spark.sql(f"DELETE FROM {name} WHERE {correction.remove}")  # noqa: S608 (the product's own SQL)
        if correction.values:
            values = ", ".join(f"{column} = {value}" for column, value in correction.values.items())
            lake.spark.sql(f"UPDATE {name} SET {values}")  # noqa: S608 (the same)
    if RELEASE in tables:
        _count_again(lake, [correction.table for correction in corrections if correction.remove])
    if tables:
        with vacuuming(lake.spark):
            run_in_threads([partial(_forget_history, lake, table) for table in tables])
    return [f"{table.full_name}: {EMPTIED}" for table in tables]


def _count_again(lake: "Lake", tables: Sequence[Table]) -> None:
    """Correct the row counts in the manifests of all releases, for tables from which rows were removed."""
    releases = {row["release_id"]: row["tables"] or {} for row in lake.small_rows(RELEASE, ["release_id", "tables"])}
    for table in tables:
        counted = {row["release_id"]: row["rows"] for row in lake.grouped(table, ["release_id"])}
        for release_id, stated in releases.items():
            if table.full_name in stated:
                stated[table.full_name] = counted.get(release_id, 0)
    for release_id, stated in ((release_id, stated) for release_id, stated in releases.items() if stated):
        pairs = ", ".join(f"{spark_literal(name)}, {int(count)}L" for name, count in stated.items())
        where = predicate_of({"release_id": [release_id]})
        # The values are quoted.
        lake.spark.sql(f"UPDATE {lake.identifier(RELEASE)} SET tables = map({pairs}) WHERE {where}")  # noqa: S608


def _forget_history(lake: "Lake", table: Table) -> None:
    """Remove every file that is not in the newest version and, for a local table, the log before it: a log entry
    has the minimum and maximum of each column of the files that it added."""
    name, path = lake.identifier(table), lake.path(table)
    remove_unneeded(lake, table, 0)
    if lake.location.folder:
        for _ in range(2):  # the second commit also writes a checkpoint, which replaces all entries before it
            lake.spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('delta.checkpointInterval' = '1')")
        # Makes the session read the log again, so that it uses the checkpoint and not the entries that are removed
        # next.
        _ = lake.spark.read.format("delta").load(path).schema
        local_tables.forget_before_checkpoint(Path(path))
        lake.spark.sql(f"ALTER TABLE {name} UNSET TBLPROPERTIES ('delta.checkpointInterval')")
        open_to_others(Path(path), lake.location.folder)
