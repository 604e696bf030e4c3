"""The files that an ingest has to read again after some source files have changed.

The status of a row depends on its own file and on the rows that share its key: duplicates and conflicts in the same
table, and for APCS_Der the spell. An unchanged file is therefore read again in two cases:

- It has rows of a year that a changed file has, or had. Such years are replaced together.
- It has a key that a changed file has now, or that the file previously had in more than one row or in quarantine.

From all other files only the keys are read, and their row counts come from the last audit. The result is None, and all
files are read, if this is not enough or would save little.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import CODE_TABLES
from ebi_spark.lake.storage import Lake
from ebi_spark.records.duplicates import FEW_KEYS, keyed
from ebi_spark.records.file_counts import FileCount
from ebi_spark.records.row_status import DUPLICATE, OUTSIDE, QUARANTINED, VALID
from ebi_spark.records.years_to_replace import years_named
from ebi_spark.small_frames import arrow_frame
from ebi_spark.sources.file_inventory import stated_for
from ebi_spark.sources.reader import SourceTable, TableId
from ebi_spark.tables.previous_ingest import PreviousIngest
from ebi_spark.tables.silver import INGEST_AUDIT, QUARANTINE, REPEATED_ROW
from ebi_spark.tables.table import Table

# If the affected files make up more than this share of all bytes, reading every file costs no more.
_READ_ALL_ABOVE = 0.5


@dataclass(frozen=True)
class AffectedFiles:
    """What a change of source files affects.

    ``tables``: the source tables, restricted to the files to read again. ``unchanged_years``: years of the previous
    ingest that none of these files has rows of, now or before. ``other_years``: years that other files have rows
    of. ``counts``: the row counts of those other files, from the audit. With ``tables`` alone, all files are read.
    """

    tables: list[SourceTable]
    unchanged_years: frozenset[str] = frozenset()
    other_years: frozenset[str] = frozenset()
    counts: dict[TableId, dict[str, FileCount]] = field(default_factory=dict)

    def covers(self, years: Iterable[str]) -> bool:
        """Whether no other file has rows of ``years``, the years found in the affected files."""
        return not self.other_years & set(years)


def find_affected_files(
    lake: Lake, tables: list[SourceTable], config: RunConfig, previous: PreviousIngest
) -> AffectedFiles | None:
    """The files affected by what has changed since the ``previous`` ingest; None where all files have to be read.

    | file | has changed | years of its rows | keys | → read again                |
    |------|-------------|-------------------|------|-----------------------------|
    | a    | yes         | 2021-22           | 1, 2 | yes                         |
    | b    | no          | 2021-22           | 3    | yes: it has rows of 2021-22 |
    | c    | no          | 2020-21           | 2, 4 | yes: its key 2 is in a too  |
    | d    | no          | 2019-20           | 5    | no                          |
    """
    size_of = {path: state[0] for table in tables for path, state in table.state.items() if state is not None}
    configured = frozenset(path for table in tables for path in table.files)
    changed = frozenset(path for path in size_of if stated_for(path, previous.changed))
    # The status of an episode depends on the other episodes of its spell, and these have other keys. The same
    # is true of the codes of a long table.
    if config.mode != "refresh" or not changed or any(table.role in ("apc", *CODE_TABLES) for table in tables):
        return None
    # Files in a folder that Spark reads though Python does not list them.
    left = previous.read - size_of.keys()
    if any(Path(path).exists() for path in left if stated_for(path, configured)):
        return None
    if any(size_of[path] and _is_read_by_spark(path, configured) for path in size_of.keys() - changed - previous.read):
        return None
    gone = frozenset(path for path in left if stated_for(path, previous.changed))

    def too_many(files: frozenset[str]) -> bool:
        return sum(size_of[path] for path in files) > _READ_ALL_ABOVE * sum(size_of.values())

    if too_many(changed):
        return None
    files, last_audits = changed, _last_audits(lake)
    years = frozenset(years_named(_restricted_to(tables, changed), config))
    # A file added for a shared key may share other keys, so this is done twice.
    for last in (False, True):
        files, years = _connected(files, gone, years, previous.files, frozenset(size_of))
        if too_many(files) or not (config.years is None or years & set(config.years)):
            return None
        counts = _counts_from_audit(tables, last_audits, files, files | gone, previous, config.years)
        shared = _shared_keys(lake, tables, files, files | gone) if counts is not None else None
        if counts is None or shared is None:
            return None
        if not shared.num_rows:
            other_years = frozenset(
                year for year, year_files in previous.files.items() if (year_files & size_of.keys()) - files
            )
            return AffectedFiles(_restricted_to(tables, files), frozenset(previous.years) - years, other_years, counts)
        if not last:
            files |= _files_with_keys(lake, tables, files, shared)
    return None


def _is_read_by_spark(path: str, configured: frozenset[str]) -> bool:
    """Whether Spark reads this file of a folder. It does not if the file, or a folder in its path, is hidden."""
    inside = path.removeprefix(stated_for(path, configured) or "")
    return not any(part.startswith(("_", ".")) for part in inside.split("/"))


def _restricted_to(tables: list[SourceTable], files: frozenset[str]) -> list[SourceTable]:
    return [table.restrict_to_files(files & table.state.keys()) for table in tables]


def _connected(
    files: frozenset[str],
    gone: frozenset[str],
    years: frozenset[str],
    files_by_year: Mapping[str, frozenset[str]],
    present: frozenset[str],
) -> tuple[frozenset[str], frozenset[str]]:
    """Add the files and years that are connected to these: files that have rows of one of the years, years that one of
    the files has or had rows of, and so on until nothing is added."""
    while True:
        more_years = years | {year for year, year_files in files_by_year.items() if year_files & (files | gone)}
        more_files = files | (
            frozenset().union(*(files_by_year.get(year, frozenset()) for year in more_years)) & present
        )
        if (more_files, more_years) == (files, years):
            return files, years
        files, years = more_files, more_years


def _key_hash(system: Column, role_or_dataset: Column, key: str) -> Column:
    """A hash of a key. Keys of admitted patients and of outpatients never mean the same record; keys of APCS and
    APCS_Der do."""
    return F.xxhash64(system, F.substring(role_or_dataset, 1, 1), F.col(key)).alias("_shared")


def _keys(table: SourceTable, of: Column) -> DataFrame:
    with_key = keyed(table.rows.where(of))
    return with_key.withColumn("_shared", _key_hash(F.lit(table.system), F.lit(table.role), "_key"))


def _shared_keys(
    lake: Lake, tables: list[SourceTable], files: frozenset[str], files_before: frozenset[str]
) -> pa.Table | None:
    """The hashes of keys that also occur in files other than ``files``; None when there are too many.

    The keys compared are those in ``files`` now, and those that ``files_before`` had in more than one row or in
    quarantine.
    """
    these = F.col("source_file").isin(*files)

    def stored(table: Table, role_or_dataset: str) -> DataFrame:
        rows = lake.read(table).where(F.col("source_file").isin(*files_before) & F.col("record_id").isNotNull())
        return rows.select(_key_hash(F.col("source_system"), F.col(role_or_dataset), "record_id"))

    own = [*(_keys(table, these).select("_shared") for table in tables), stored(REPEATED_ROW, "role")]
    own.append(stored(QUARANTINE, "dataset"))
    few_hashes = reduce(DataFrame.unionByName, own)
    others_keys = reduce(DataFrame.unionByName, [_keys(table, ~these).select("_shared") for table in tables])
    # A hash table of the smaller set of keys, one partition at a time: neither side has to be sorted.
    shared = (
        others_keys.join(few_hashes.hint("shuffle_hash"), "_shared", "left_semi")
        .distinct()
        .limit(FEW_KEYS + 1)
        .toArrow()
    )
    return None if shared.num_rows > FEW_KEYS else shared


def _files_with_keys(lake: Lake, tables: list[SourceTable], files: frozenset[str], shared: pa.Table) -> frozenset[str]:
    """The files, other than these, that have one of the keys."""
    few_hashes, these = F.broadcast(arrow_frame(lake.spark, shared)), F.col("source_file").isin(*files)
    found = [
        _keys(table, ~these).join(few_hashes, "_shared", "left_semi").select("source_file").distinct()
        for table in tables
    ]
    return frozenset(row["source_file"] for row in reduce(DataFrame.unionByName, found).collect())


def _last_audits(lake: Lake) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The latest audit row of each file, by system, role and file."""
    columns = ("run_id", "source_system", "role", "source_file", "rows_read", "rows_valid", "rows_quarantined",
               "rows_duplicate", "rows_outside_years", "reasons", "year_disagrees", "written_at")  # fmt: skip
    rows = sorted(lake.small_rows(INGEST_AUDIT, columns), key=lambda row: row["written_at"] or 0)
    return {(row["source_system"], row["role"], row["source_file"]): row for row in rows}


def _counts_from_audit(
    tables: list[SourceTable],
    last_audits: Mapping[tuple[str, str, str], Mapping[str, Any]],
    files: frozenset[str],
    read_or_gone: frozenset[str],
    previous: PreviousIngest,
    years: tuple[str, ...] | None,
) -> dict[TableId, dict[str, FileCount]] | None:
    """The row counts of each file that is not in ``files``, from its last audit.

    None where a file has no audit row, or where its audit is from a run that asked for other ``years`` and the
    counts would differ now. Also None where a spell of a year that was not asked for may have gone: its row of
    APCS_Der is in another file, and no table has the spell's key.
    """
    with_other_years: frozenset[str] = frozenset()
    if years is not None:
        with_other_years = with_other_years.union(
            *(year_files for year, year_files in previous.files.items() if year not in years)
        )
        if any(
            role == "apcs" and path in read_or_gone and row["rows_outside_years"]
            for (_, role, path), row in last_audits.items()
        ):
            return None

    def counts_are_current(row: Mapping[str, Any]) -> bool:
        if row["run_id"] not in previous.asked:
            return False
        same = previous.asked[row["run_id"]] == years
        return same or (not row["rows_outside_years"] and row["source_file"] not in with_other_years)

    found: dict[TableId, dict[str, FileCount]] = {}
    for table in tables:
        table_id, configured = table.table_id, set(table.files)
        others = [path for path in table.state if path not in files]
        own = {path: last_audits[*table_id, path] for path in others if (*table_id, path) in last_audits}
        audited = {stated_for(path, configured) for path in own}
        if not all(stated_for(path, configured) in audited for path in others) or not all(
            map(counts_are_current, own.values())
        ):
            return None
        found[table_id] = {path: _file_count(row) for path, row in own.items()}
    return found


def _file_count(row: Mapping[str, Any]) -> FileCount:
    count = FileCount()
    count.rows.update({status: row[f"rows_{status}"] for status in (VALID, QUARANTINED, DUPLICATE, OUTSIDE)})
    count.reasons.update(row["reasons"] or {})
    count.year_disagrees = row["year_disagrees"] or 0
    return count
