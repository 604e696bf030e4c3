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
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.acquire.files import within
from ebi_spark.acquire.tables import SourceTable
from ebi_spark.canonical.copies import FEW_KEYS, keyed
from ebi_spark.canonical.judging import DUPLICATE, OUTSIDE, QUARANTINED, VALID
from ebi_spark.canonical.survey import FileCount, years_named
from ebi_spark.recompute import LastLook
from ebi_spark.schemas import INGEST_AUDIT, QUARANTINE, REPEATED_ROW
from ebi_spark.settings import RunConfig
from ebi_spark.storage import Lake

# Looks at the keys of the other files: each may bring in files that share a key, and these have keys of their own.
_MOST_LOOKS = 2
# Of more than this share of the bytes, looking at all of them costs no more.
_MOST_OF_ALL = 0.5

Place = tuple[str, str]  # system and role


@dataclass(frozen=True)
class Reach:
    """``tables``: the source tables over the files to look at alone; ``standing``: years of the last look that these neither
    hold nor held; ``elsewhere``: years that other files hold rows of; ``accounts`` of these files."""

    tables: list[SourceTable]
    standing: frozenset[str]
    elsewhere: frozenset[str]
    accounts: dict[Place, dict[str, FileCount]]

    def covers(self, years: Iterable[str]) -> bool:
        """Whether no other file holds rows of the years that were found in these."""
        return not self.elsewhere & set(years)


def reach(lake: Lake, tables: list[SourceTable], config: RunConfig, before: LastLook) -> Reach | None:
    """What a change of files reaches after the last look; None where all files have to be looked at."""
    every = {path: size for table in tables for path, (size, *_) in _there(table).items()}
    changed = frozenset(path for path in every if any(within(path, stated) for stated in before.changed))
    # An episode is judged by the others of its spell, whose keys are not its own.
    if config.mode != "refresh" or not changed or any(table.role == "apc" for table in tables):
        return None
    left = frozenset().union(*before.files.values()) - every.keys()
    gone = frozenset(path for path in left if any(within(path, stated) for stated in before.changed))
    # Of a folder that stands as it was: it left earlier, or is not what it is called. (One that was stated by itself left with
    # a look at all files.)
    if any(within(path, stated) for path in left - gone for table in tables for stated in table.files):
        return None
    files = changed
    years = frozenset(years_named(_over(tables, changed), config.bare_year))
    for _ in range(_MOST_LOOKS):
        files, years = _tied(files, gone, years, before.files, frozenset(every))
        if sum(every[path] for path in files) > _MOST_OF_ALL * sum(every.values()):
            return None
        others = frozenset(every) - files
        sharing = _sharing_keys(lake, _over(tables, files), _over(tables, others), files | gone)
        if sharing is None:
            return None
        if not sharing:
            accounts = _accounts(lake, _over(tables, others), before, config.years)
            if accounts is None:
                return None
            elsewhere = frozenset(year for year, of_year in before.files.items() if of_year & others)
            return Reach(_over(tables, files), frozenset(before.years) - years, elsewhere, accounts)
        files |= sharing
    return None


def _there(table: SourceTable) -> Mapping[str, tuple[int, int, int]]:
    return {path: state for path, state in table.state.items() if state is not None}


def _over(tables: list[SourceTable], files: frozenset[str]) -> list[SourceTable]:
    return [table.of_files(files & table.state.keys()) for table in tables]


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


def _sharing_keys(
    lake: Lake, tables: list[SourceTable], others: list[SourceTable], before: frozenset[str]
) -> frozenset[str] | None:
    """Of the files of ``others`` those that hold a key of ``tables``, or one that stood in more than one row of the files
    ``before`` or was set aside of them; None when there are too many such keys."""

    def spaced(system: Column, role_or_dataset: Column, key: str) -> Column:
        # Keys of admitted patients and of outpatients are no keys of each other; those of APCS and APCS_Der are.
        return F.xxhash64(system, F.substring(role_or_dataset, 1, 1), F.col(key)).alias("_shared")

    def of_source(table: SourceTable) -> DataFrame:
        return keyed(table.rows).withColumn("_shared", spaced(F.lit(table.system), F.lit(table.role), "_key"))

    def stored(table: Any, role_or_dataset: str) -> DataFrame:
        rows = lake.read(table).where(F.col("source_file").isin(*before) & F.col("record_id").isNotNull())
        return rows.select(spaced(F.col("source_system"), F.col(role_or_dataset), "record_id"))

    keys = [of_source(table).select("_shared") for table in tables]
    keys += [stored(REPEATED_ROW, "role"), stored(QUARANTINE, "dataset")]
    mine = reduce(DataFrame.unionByName, keys)
    theirs = reduce(DataFrame.unionByName, [of_source(table).select("_shared") for table in others])
    # A table of the fewer keys in memory, a part at a time: neither side has to be sorted.
    shared = theirs.join(mine.hint("shuffle_hash"), "_shared", "left_semi").distinct().limit(FEW_KEYS + 1).toArrow()
    if shared.num_rows > FEW_KEYS:
        return None
    if not shared.num_rows:
        return frozenset()
    few = F.broadcast(lake.spark.createDataFrame(shared))
    holders = [of_source(table).join(few, "_shared", "left_semi").select("source_file").distinct() for table in others]
    return frozenset(row["source_file"] for row in reduce(DataFrame.unionByName, holders).collect())


def _accounts(
    lake: Lake, others: list[SourceTable], before: LastLook, years: tuple[str, ...] | None
) -> dict[Place, dict[str, FileCount]] | None:
    """What became of the rows of each file that is not looked at, by its last account; None where a file has none, and where
    that of a run that was asked for other ``years`` would not be the same now."""
    beside: frozenset[str] = frozenset()
    if years is not None:
        beside = beside.union(*(of_year for year, of_year in before.files.items() if year not in years))

    def as_now(row: Mapping[str, Any]) -> bool:
        same = before.asked.get(row["run_id"], ()) == years
        return same or (not row["rows_outside_years"] and row["source_file"] not in beside)

    columns = ("run_id", "source_system", "role", "source_file", "rows_read", "rows_valid", "rows_quarantined", "rows_duplicate",
               "rows_outside_years", "reasons", "year_disagrees", "written_at")  # fmt: skip
    latest: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in sorted(lake.small_rows(INGEST_AUDIT, columns), key=lambda row: row["written_at"] or 0):
        latest[row["source_system"], row["role"], row["source_file"]] = row
    found: dict[Place, dict[str, FileCount]] = {}
    for table in others:
        mine = {
            path: row
            for (system, role, path), row in latest.items()
            if (system, role) == (table.system, table.role) and path in table.state
        }
        told = all(any(within(path, stated) for path in mine) for stated in table.files)
        if not told or not all(as_now(row) for row in mine.values()):
            return None
        found[table.system, table.role] = {path: _counted(row) for path, row in mine.items()}
    return found


def _counted(row: Mapping[str, Any]) -> FileCount:
    count = FileCount()
    fates = {VALID: "valid", QUARANTINED: "quarantined", DUPLICATE: "duplicate", OUTSIDE: "outside_years"}
    count.rows.update({fate: row[f"rows_{name}"] for fate, name in fates.items()})
    count.reasons.update(row["reasons"] or {})
    count.year_disagrees = row["year_disagrees"] or 0
    return count
