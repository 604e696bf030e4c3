"""How far a change of some source files reaches: the files that an ingest has to look at again, and why no other.

What becomes of a row rests on its own file and on rows with its key: copies and contradictions of its table, for APCS_Der
its spell. A file that did not change is looked at again where it holds rows of a year that a changed file holds or held
(such years are replaced together), or a key that stands there now, or stood there in more than one row or set aside. Of
all others only their keys are read, and counts are taken from their account. Where that does not suffice, or would spare
little, there is no answer, and all files are looked at.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.lake.storage import Lake
from ebi_spark.records.duplicates import FEW_KEYS, keyed
from ebi_spark.records.file_counts import FileCount, years_named
from ebi_spark.records.row_status import DUPLICATE, OUTSIDE, QUARANTINED, VALID
from ebi_spark.sources.file_inventory import stated_for
from ebi_spark.sources.reader import SourceTable
from ebi_spark.tables.previous_ingest import PreviousIngest
from ebi_spark.tables.schemas import INGEST_AUDIT, QUARANTINE, REPEATED_ROW, Table

# Of more than this share of the bytes, looking at all of them costs no more.
_MOST_OF_ALL = 0.5

Place = tuple[str, str]  # system and role


@dataclass(frozen=True)
class AffectedFiles:
    """``tables``: the source tables over the files to look at alone; ``standing``: years of the last look that these neither
    hold nor held; ``elsewhere``: years that other files hold rows of; ``accounts`` of these files."""

    tables: list[SourceTable]
    standing: frozenset[str]
    elsewhere: frozenset[str]
    accounts: dict[Place, dict[str, FileCount]]

    def covers(self, years: Iterable[str]) -> bool:
        """Whether no other file holds rows of the years that were found in these."""
        return not self.elsewhere & set(years)


def find_affected_files(
    lake: Lake, tables: list[SourceTable], config: RunConfig, before: PreviousIngest
) -> AffectedFiles | None:
    """What a change of files reaches after the last look; None where all files have to be looked at."""
    every = {path: state[0] for table in tables for path, state in table.state.items() if state is not None}
    stated = frozenset(path for table in tables for path in table.files)
    changed = frozenset(path for path in every if stated_for(path, before.changed))
    # An episode is judged by the others of its spell, whose keys are not its own.
    if config.mode != "refresh" or not changed or any(table.role == "apc" for table in tables):
        return None
    # Files of a folder that Python does not list as Spark reads them.
    left = before.read - every.keys()
    if any(Path(path).exists() for path in left if stated_for(path, stated)):
        return None
    if any(every[path] and _is_seen(path, stated) for path in every.keys() - changed - before.read):
        return None
    gone = frozenset(path for path in left if stated_for(path, before.changed))

    def too_many(files: frozenset[str]) -> bool:
        return sum(every[path] for path in files) > _MOST_OF_ALL * sum(every.values())

    if too_many(changed):
        return None
    files, told = changed, _last_accounts(lake)
    years = frozenset(years_named(_over(tables, changed), config))
    # Files that share a key have keys of their own: of these, one more look.
    for last in (False, True):
        files, years = _tied(files, gone, years, before.files, frozenset(every))
        if too_many(files) or not (config.years is None or years & set(config.years)):
            return None
        accounts = _accounts(tables, told, files, files | gone, before, config.years)
        shared = _shared_keys(lake, tables, files, files | gone) if accounts is not None else None
        if accounts is None or shared is None:
            return None
        if not shared.num_rows:
            elsewhere = frozenset(year for year, of_year in before.files.items() if (of_year & every.keys()) - files)
            return AffectedFiles(_over(tables, files), frozenset(before.years) - years, elsewhere, accounts)
        if not last:
            files |= _holders(lake, tables, files, shared)
    return None


def _is_seen(path: str, stated: frozenset[str]) -> bool:
    """Whether Spark reads a file of a folder: not where it, or a folder on the way, is hidden."""
    inside = path.removeprefix(stated_for(path, stated) or "")
    return not any(part.startswith(("_", ".")) for part in inside.split("/"))


def _over(tables: list[SourceTable], files: frozenset[str]) -> list[SourceTable]:
    return [table.restrict_to_files(files & table.state.keys()) for table in tables]


def _tied(
    files: frozenset[str],
    gone: frozenset[str],
    years: frozenset[str],
    held: Mapping[str, frozenset[str]],
    every: frozenset[str],
) -> tuple[frozenset[str], frozenset[str]]:
    """The files and years that others tie to these: files that hold rows of one of the years, years that one of the files
    holds or held, and so on."""
    while True:
        more_years = years | {year for year, of_year in held.items() if of_year & (files | gone)}
        more_files = files | (frozenset().union(*(held.get(year, frozenset()) for year in more_years)) & every)
        if (more_files, more_years) == (files, years):
            return files, years
        files, years = more_files, more_years


def _spaced(system: Column, role_or_dataset: Column, key: str) -> Column:
    """A hash of a key. Keys of admitted patients and of outpatients are no keys of each other; those of APCS and APCS_Der are."""
    return F.xxhash64(system, F.substring(role_or_dataset, 1, 1), F.col(key)).alias("_shared")


def _keys(table: SourceTable, of: Column) -> DataFrame:
    with_key = keyed(table.rows.where(of))
    return with_key.withColumn("_shared", _spaced(F.lit(table.system), F.lit(table.role), "_key"))


def _shared_keys(
    lake: Lake, tables: list[SourceTable], files: frozenset[str], before: frozenset[str]
) -> pa.Table | None:
    """The keys of files, and those that stood in more than one row of files ``before`` or were set aside of them, that
    stand in others too, by hash; None when there are too many."""
    these = F.col("source_file").isin(*files)

    def stored(table: Table, role_or_dataset: str) -> DataFrame:
        rows = lake.read(table).where(F.col("source_file").isin(*before) & F.col("record_id").isNotNull())
        return rows.select(_spaced(F.col("source_system"), F.col(role_or_dataset), "record_id"))

    mine = [*(_keys(table, these).select("_shared") for table in tables), stored(REPEATED_ROW, "role")]
    mine.append(stored(QUARANTINE, "dataset"))
    few = reduce(DataFrame.unionByName, mine)
    theirs = reduce(DataFrame.unionByName, [_keys(table, ~these).select("_shared") for table in tables])
    # A table of the fewer keys in memory, a part at a time: neither side has to be sorted.
    shared = theirs.join(few.hint("shuffle_hash"), "_shared", "left_semi").distinct().limit(FEW_KEYS + 1).toArrow()
    return None if shared.num_rows > FEW_KEYS else shared


def _holders(lake: Lake, tables: list[SourceTable], files: frozenset[str], shared: pa.Table) -> frozenset[str]:
    """Of the files beside these, those that hold one of the keys."""
    few, these = F.broadcast(lake.spark.createDataFrame(shared)), F.col("source_file").isin(*files)
    holders = [
        _keys(table, ~these).join(few, "_shared", "left_semi").select("source_file").distinct() for table in tables
    ]
    return frozenset(row["source_file"] for row in reduce(DataFrame.unionByName, holders).collect())


def _last_accounts(lake: Lake) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The last account of each file, by system, role and file."""
    columns = ("run_id", "source_system", "role", "source_file", "rows_read", "rows_valid", "rows_quarantined",
               "rows_duplicate", "rows_outside_years", "reasons", "year_disagrees", "written_at")  # fmt: skip
    rows = sorted(lake.small_rows(INGEST_AUDIT, columns), key=lambda row: row["written_at"] or 0)
    return {(row["source_system"], row["role"], row["source_file"]): row for row in rows}


def _accounts(
    tables: list[SourceTable],
    told: Mapping[tuple[str, str, str], Mapping[str, Any]],
    files: frozenset[str],
    reached: frozenset[str],
    before: PreviousIngest,
    years: tuple[str, ...] | None,
) -> dict[Place, dict[str, FileCount]] | None:
    """What became of the rows of each file beside ``files``; None where one has no account, or where that of a run that was
    asked for other ``years`` would not be the same now. None too where a spell of a year that was not asked for may have
    left: its row of APCS_Der stands in another file, and no table knows the spell's key."""
    beside: frozenset[str] = frozenset()
    if years is not None:
        beside = beside.union(*(of_year for year, of_year in before.files.items() if year not in years))
        if any(
            role == "apcs" and path in reached and row["rows_outside_years"] for (_, role, path), row in told.items()
        ):
            return None

    def as_now(row: Mapping[str, Any]) -> bool:
        if row["run_id"] not in before.asked:
            return False
        same = before.asked[row["run_id"]] == years
        return same or (not row["rows_outside_years"] and row["source_file"] not in beside)

    found: dict[Place, dict[str, FileCount]] = {}
    for table in tables:
        place, stated = (table.system, table.role), set(table.files)
        others = [path for path in table.state if path not in files]
        mine = {path: told[*place, path] for path in others if (*place, path) in told}
        accounted = {stated_for(path, stated) for path in mine}
        if not all(stated_for(path, stated) in accounted for path in others) or not all(map(as_now, mine.values())):
            return None
        found[place] = {path: _counted(row) for path, row in mine.items()}
    return found


def _counted(row: Mapping[str, Any]) -> FileCount:
    count = FileCount()
    fates = {VALID: "valid", QUARANTINED: "quarantined", DUPLICATE: "duplicate", OUTSIDE: "outside_years"}
    count.rows.update({fate: row[f"rows_{name}"] for fate, name in fates.items()})
    count.reasons.update(row["reasons"] or {})
    count.year_disagrees = row["year_disagrees"] or 0
    return count
