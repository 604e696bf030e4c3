"""Finds out what an ingest has to do before any of silver is replaced.

The source tables are classified and counted, and so is what the lake has. The batches are planned from these counts.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import EbiError
from ebi_spark.lake.staging_area import StagingArea
from ebi_spark.lake.storage import Lake
from ebi_spark.records.affected_files import AffectedFiles, find_affected_files
from ebi_spark.records.classify_rows import classify_rows
from ebi_spark.records.duplicates import scan_for_repeated_keys, write_repeated_rows
from ebi_spark.records.existing_records import ExistingRecords, existing_records
from ebi_spark.records.file_counts import Batch, ClassifiedTable, FileCounts, count_files
from ebi_spark.records.mapped_columns import refuse_mapped_nonsense
from ebi_spark.records.moved_records import emptied_years, refuse_in_two_years
from ebi_spark.records.quarantine_summary import REFUSED_ROWS, unusable_rows
from ebi_spark.records.row_status import VALID
from ebi_spark.records.upsert import refuse_bare_keys
from ebi_spark.records.years_to_replace import batches, refuse_shrunken, years_named, years_to_replace
from ebi_spark.sources.reader import SourceTable
from ebi_spark.tables.previous_ingest import PreviousIngest
from ebi_spark.tables.silver import RECORD_TABLES

# The number of source rows of one batch at most (a single year may have more). Each batch is committed and noted in the run log, so
# an interrupted backfill resumes after its last completed batch.
BATCH_ROWS = 5_000_000


@dataclass
class Plan:
    """What an ingest found out before it replaces anything: the classified tables, their row counts, what the lake
    has, and the batches to write."""

    mode: str
    classified: list[ClassifiedTable]
    file_counts: FileCounts
    existing: ExistingRecords
    years: list[str]
    batches: list[Batch]
    # Years that lose all their rows, each with the files that had its rows.
    emptied: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def unchanged_years(self) -> list[str]:
        """The years that are in no batch: nothing that changed since the previous ingest affects them."""
        return sorted(set(self.years) - {year for batch in self.batches for year in batch.years})

    @property
    def datasets(self) -> list[str]:
        """``apc``, ``op`` or both."""
        return sorted({item.dataset for item in self.classified})

    def makers(self, dataset: str) -> list[ClassifiedTable]:
        """The tables from which the records of a dataset are made."""
        return [item for item in self.classified if item.dataset == dataset and item.records is not None]


def plan_ingest(
    lake: Lake,
    area: StagingArea,
    tables: list[SourceTable],
    config: RunConfig,
    progress: Callable[[str], None],
    previous: PreviousIngest | None,
    checks: Mapping[str, Collection[str]],
) -> Plan:
    """Read and stage the rows of the source files, and plan the ingest. Once nothing is refused any more, the rows of repeated keys
    are written to ``silver/repeated_row``; nothing else of the lake is changed.

    Reads all files, or only the affected ones if few have changed since the ``previous`` ingest. ``checks``: see
    :func:`ebi_spark.records.file_counts.count_files`. Raises when a year asked for is in no file, or would lose more rows than the
    configuration allows.
    """
    planner = _Planner(lake, area, tables, config, progress, checks)
    if previous is not None:
        lake.prepare()
        progress("finding the source files affected by the changes")
        affected = find_affected_files(lake, tables, config, previous)
        made = affected and planner.plan(affected)
        if made:
            return made
    made = planner.plan(AffectedFiles(tables))
    assert made is not None  # there are no other files
    return made


@dataclass(frozen=True)
class _Planner:
    """Plans one ingest, with all files of its source ``tables`` or with some."""

    lake: Lake
    area: StagingArea
    tables: list[SourceTable]
    config: RunConfig
    progress: Callable[[str], None]
    checks: Mapping[str, Collection[str]]

    @property
    def is_refresh(self) -> bool:
        return self.config.mode == "refresh"

    def plan(self, files: AffectedFiles) -> Plan | None:
        """The plan for these files; None where they turn out to have rows of years that other files have too, or
        nothing to write."""
        refuse_mapped_nonsense(files.tables)
        self.progress(self._what_is_read(files))
        repeated_keys = scan_for_repeated_keys(files.tables)
        if files.tables is self.tables:
            self._refuse_absent_years()
            self.lake.prepare()
        if not self.is_refresh and any(table.system == "hes" for table in self.tables):
            refuse_bare_keys(self.lake)
        self.progress("reading the rows of the source files")
        self.area.remove()
        classified = classify_rows(self.lake, self.area, files.tables, repeated_keys, self.config)
        found = replace(count_files(classified, self.checks), unchanged=files.counts)
        by_file = [count for counts in found.files.values() for count in counts.values()]
        if not files.covers(year for count in by_file for year in count.years if year):
            return None
        made = self._plan_counted(classified, found, files)
        if not made.batches:
            return None
        repeated = [item.staged.repeated_rows(*item.table_id) for item in classified if repeated_keys[item.table_id]]
        write_repeated_rows(self.lake, repeated, {path for counts in files.counts.values() for path in counts})
        return made

    def _what_is_read(self, files: AffectedFiles) -> str:
        if files.tables is self.tables:
            return "reading the keys of the source files"
        all_files, to_read = (sum(len(table.state) for table in those) for those in (self.tables, files.tables))
        return (
            f"reading the keys of {to_read:,} of {all_files:,} source files: the others share no year and no key with the "
            "changed files"
        )

    def _refuse_absent_years(self) -> None:
        """Raise where a year asked for is in no file. This reads the dates of all files, so that nobody waits for all their rows first.
        Where only some files are read again, their rows show it soon enough."""
        if self.config.years:
            present = years_named(self.tables, self.config)
            years_to_replace(present, self.config, self._emptied(present))

    def _emptied(self, present: set[str]) -> dict[str, frozenset[str]]:
        """The years that a refresh empties, where the files have rows of the years ``present``."""
        return emptied_years(self.lake, self.config, present, self.config.years) if self.is_refresh else {}

    def _plan_counted(self, classified: list[ClassifiedTable], found: FileCounts, read: AffectedFiles) -> Plan:
        """The plan that follows from the row counts of the files that were ``read``."""
        datasets = sorted({item.dataset for item in classified})
        with _unusable_rows_noted(found) as unusable:
            present = {*read.unchanged_years, *(year for counts in found.years.values() for year in counts)}
            emptied = self._emptied(present)
            if not present and not self.is_refresh and _withdrawn_rows(found):
                # A submission that only withdraws records may take them out of any year.
                present = {year for dataset in datasets for year in self.lake.years(RECORD_TABLES[dataset])}
            years = years_to_replace(present, self.config, emptied, unusable)
            years_to_write = sorted((set(years) - read.unchanged_years) | emptied.keys())
            if self.is_refresh:
                in_files = read.unchanged_years | read.other_years | found.usable_years()
                refuse_in_two_years(self.lake, classified, found, self.config, {*years, *emptied}, in_files)
            existing = existing_records(self.lake, datasets, years_to_write)
            if self.is_refresh and not self.config.accept_shrunken:
                for dataset in datasets:
                    before, now = existing.rows_by_year(dataset), found.years.get(dataset, {})
                    refuse_shrunken(RECORD_TABLES[dataset].full_name, before, now, self.config, years_to_write)
        made = batches(found, years_to_write, BATCH_ROWS, emptied) if years_to_write else []
        return Plan(self.config.mode, classified, found, existing, years, made, emptied)


def _withdrawn_rows(found: FileCounts) -> int:
    """The number of usable rows of the lists of withdrawn keys."""
    lists = [counts for (_, role), counts in found.files.items() if role.endswith("_withdrawn")]
    return sum(count.rows[VALID] for counts in lists for count in counts.values())


@contextmanager
def _unusable_rows_noted(found: FileCounts) -> Iterator[str]:
    """The number of rows that cannot be used, by reason, as text for a message.

    Where the ingest is refused here, nothing is written to ``silver/quarantine``. The run log keeps the reasons
    instead, for `ebi-spark status`.
    """
    rows = unusable_rows(found)
    try:
        yield ", ".join(f"{row['role']} {row['reason']} {row['rows']:,}" for row in rows)
    except EbiError as error:
        error.details[REFUSED_ROWS] = json.dumps(rows)
        raise


def years_that_meet_checks(lake: Lake, plan: Plan, batch: Batch, dataset: str) -> list[str]:
    """The years of a batch whose records meet the checks of their table. No years if not all of their records were counted:
    after an upsert, or in a catalogue, where another run may commit at the same time."""
    if plan.mode == "upsert" or lake.location.catalog:
        return []
    files = [plan.file_counts.files[item.table_id] for item in plan.makers(dataset)]
    counts = [count for by_path in files for path, count in by_path.items() if path in batch.files]
    return [year for year in batch.years if not any(count.violations[year] for count in counts)]
