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
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, NamedTuple

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
from ebi_spark.sources.last_audits import last_audits
from ebi_spark.sources.reader import SourceTable, TableId
from ebi_spark.tables.previous_ingest import PreviousIngest
from ebi_spark.tables.silver import QUARANTINE, REPEATED_ROW
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
    search = _Search(lake, tables, config, previous)
    if search.needs_all_files():
        return None
    found = search.attempt(search.changed, frozenset(years_named(search.tables_of(search.changed), config)))
    if found and found.shared.num_rows:
        # A file added for a shared key may share other keys, so this is done twice.
        found = search.attempt(found.files | search.files_with_keys(found.files, found.shared), found.years)
    if not found or found.shared.num_rows:
        return None
    others = search.size_of.keys() - found.files
    return AffectedFiles(
        search.tables_of(found.files),
        frozenset(previous.years) - found.years,
        frozenset(year for year, files in previous.files.items() if files & others),
        found.counts,
    )


class _Attempt(NamedTuple):
    """Files to read again, the ``years`` that they have or had rows of, the row ``counts`` of all other files, and the hashes of
    the keys ``shared`` with these."""

    files: frozenset[str]
    years: frozenset[str]
    counts: dict[TableId, dict[str, FileCount]]
    shared: pa.Table


class _Search:
    """Looks for the affected files of one ingest.

    ``size_of``: the bytes of each file that is there. ``changed``: those of them that have changed. ``left``: files of the
    previous ingest that are in no list now. ``gone``: those of them that have changed, too.
    """

    def __init__(self, lake: Lake, tables: list[SourceTable], config: RunConfig, previous: PreviousIngest) -> None:
        self.lake, self.tables, self.config, self.previous = lake, tables, config, previous
        self.size_of = {path: state[0] for table in tables for path, state in table.state.items() if state is not None}
        self.changed = self._with_change(self.size_of)
        self.left = previous.read - self.size_of.keys()
        self.gone = self._with_change(self.left)

    def _with_change(self, files: Iterable[str]) -> frozenset[str]:
        return frozenset(path for path in files if stated_for(path, self.previous.changed))

    def needs_all_files(self) -> bool:
        """Whether it is clear from the start that all files have to be read."""
        # The status of an episode depends on the other episodes of its spell, and these have other keys. The same
        # is true of the codes of a long table.
        if self.config.mode != "refresh" or any(table.role in ("apc", *CODE_TABLES) for table in self.tables):
            return True
        configured = frozenset(path for table in self.tables for path in table.files)
        unread = self.size_of.keys() - self.changed - self.previous.read
        return (
            not self.changed
            # Files in a folder that Spark reads though Python does not list them.
            or any(Path(path).exists() for path in self.left if stated_for(path, configured))
            or any(self.size_of[path] and _is_read_by_spark(path, configured) for path in unread)
            or self._are_too_many(self.changed)
        )

    def _are_too_many(self, files: frozenset[str]) -> bool:
        return sum(self.size_of[path] for path in files) > _READ_ALL_ABOVE * sum(self.size_of.values())

    def tables_of(self, files: frozenset[str]) -> list[SourceTable]:
        """The source tables, restricted to these files."""
        return [table.restrict_to_files(files & table.state.keys()) for table in self.tables]

    def attempt(self, files: frozenset[str], years: frozenset[str]) -> _Attempt | None:
        """These files and years with all that are connected to them; None where all files have to be read."""
        files, years = self._connected(files, years)
        if self._are_too_many(files) or not (self.config.years is None or years & set(self.config.years)):
            return None
        counts = self._counts_from_audit(files)
        shared = self._shared_keys(files) if counts is not None else None
        return None if counts is None or shared is None else _Attempt(files, years, counts, shared)

    def _connected(self, files: frozenset[str], years: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Add the files and years that are connected to these: files that have rows of one of the years, years that one
        of the files has or had rows of, and so on until nothing is added."""
        files_of = self.previous.files
        while True:
            more_years = years | {year for year, year_files in files_of.items() if year_files & (files | self.gone)}
            of_years = frozenset().union(*(files_of.get(year, frozenset()) for year in more_years))
            more_files = files | (of_years & self.size_of.keys())
            if (more_files, more_years) == (files, years):
                return files, years
            files, years = more_files, more_years

    def _shared_keys(self, files: frozenset[str]) -> pa.Table | None:
        """The hashes of keys that also occur in files other than ``files``; None when there are too many.

        The keys compared are those in ``files`` now, and those that these and ``gone`` files had in more than one row or in
        quarantine.
        """
        these, these_before = F.col("source_file").isin(*files), F.col("source_file").isin(*files, *self.gone)

        def stored(table: Table, role_or_dataset: str) -> DataFrame:
            rows = self.lake.read(table).where(these_before & F.col("record_id").isNotNull())
            return rows.select(_key_hash(F.col("source_system"), F.col(role_or_dataset), "record_id"))

        own = [*(_keys(table, these).select("_shared") for table in self.tables), stored(REPEATED_ROW, "role")]
        own.append(stored(QUARANTINE, "dataset"))
        few_hashes = reduce(DataFrame.unionByName, own)
        others_keys = reduce(DataFrame.unionByName, [_keys(table, ~these).select("_shared") for table in self.tables])
        # A hash table of the smaller set of keys, one partition at a time: neither side has to be sorted.
        shared = (
            others_keys.join(few_hashes.hint("shuffle_hash"), "_shared", "left_semi")
            .distinct()
            .limit(FEW_KEYS + 1)
            .toArrow()
        )
        return None if shared.num_rows > FEW_KEYS else shared

    def files_with_keys(self, files: frozenset[str], shared: pa.Table) -> frozenset[str]:
        """The files, other than these, that have one of the keys."""
        few_hashes, these = F.broadcast(arrow_frame(self.lake.spark, shared)), F.col("source_file").isin(*files)
        found = [
            _keys(table, ~these).join(few_hashes, "_shared", "left_semi").select("source_file").distinct()
            for table in self.tables
        ]
        return frozenset(row["source_file"] for row in reduce(DataFrame.unionByName, found).collect())

    @cached_property
    def _audits(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        columns = ("run_id", "rows_valid", "rows_quarantined", "rows_duplicate", "rows_outside_years", "reasons",
                   "year_disagrees")  # fmt: skip
        return last_audits(self.lake, columns)

    def _counts_from_audit(self, files: frozenset[str]) -> dict[TableId, dict[str, FileCount]] | None:
        """The row counts of each file that is not in ``files``, from its last audit.

        None where a file has no audit row, or where its audit is from a run that asked for other years and the
        counts would differ now. Also None where a spell of a year that was not asked for may have gone: its row of
        APCS_Der is in another file, and no table has the spell's key.
        """
        if self.config.years is not None and any(
            role == "apcs" and (path in files or path in self.gone) and row["rows_outside_years"]
            for (_, role, path), row in self._audits.items()
        ):
            return None
        found: dict[TableId, dict[str, FileCount]] = {}
        for table in self.tables:
            table_id, configured = table.table_id, set(table.files)
            others = [path for path in table.state if path not in files]
            own = {path: self._audits[*table_id, path] for path in others if (*table_id, path) in self._audits}
            audited = {stated_for(path, configured) for path in own}
            if not all(stated_for(path, configured) in audited for path in others):
                return None
            if not all(map(self._is_current, own.values())):
                return None
            found[table_id] = {path: _file_count(row) for path, row in own.items()}
        return found

    def _is_current(self, audit: Mapping[str, Any]) -> bool:
        """Whether the counts of an audit row would be the same under the years that are asked for now."""
        if audit["run_id"] not in self.previous.asked:
            return False
        same = self.previous.asked[audit["run_id"]] == self.config.years
        return same or (not audit["rows_outside_years"] and audit["source_file"] not in self._with_other_years)

    @cached_property
    def _with_other_years(self) -> frozenset[str]:
        """The files that had rows of years that are not asked for."""
        asked = self.config.years
        others = (files for year, files in self.previous.files.items() if asked is not None and year not in asked)
        return frozenset().union(*others)


def _is_read_by_spark(path: str, configured: frozenset[str]) -> bool:
    """Whether Spark reads this file of a folder. It does not if the file, or a folder in its path, is hidden."""
    inside = path.removeprefix(stated_for(path, configured) or "")
    return not any(part.startswith(("_", ".")) for part in inside.split("/"))


def _key_hash(system: Column, role_or_dataset: Column, key: str) -> Column:
    """A hash of a key. Keys of admitted patients and of outpatients never mean the same record; keys of APCS and
    APCS_Der do."""
    return F.xxhash64(system, F.substring(role_or_dataset, 1, 1), F.col(key)).alias("_shared")


def _keys(table: SourceTable, of: Column) -> DataFrame:
    with_key = keyed(table.rows.where(of))
    return with_key.withColumn("_shared", _key_hash(F.lit(table.system), F.lit(table.role), "_key"))


def _file_count(row: Mapping[str, Any]) -> FileCount:
    count = FileCount()
    count.rows.update({status: row[f"rows_{status}"] for status in (VALID, QUARANTINED, DUPLICATE, OUTSIDE)})
    count.reasons.update(row["reasons"] or {})
    count.year_disagrees = row["year_disagrees"] or 0
    return count
