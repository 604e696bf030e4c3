"""Finds out what an ingest has to do before any of silver is replaced.

The source tables are classified and counted, and so is what the lake has. The batches are planned from these counts.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import EbiError
from ebi_spark.lake.storage import Lake
from ebi_spark.records.affected_files import AffectedFiles, find_affected_files
from ebi_spark.records.classify_rows import classify_rows, resolves_itself
from ebi_spark.records.duplicates import (
    RepeatedKeys,
    resolve_duplicates,
    scan_for_repeated_keys,
    write_repeated_rows,
)
from ebi_spark.records.existing_records import ExistingRecords, existing_records
from ebi_spark.records.file_counts import (
    Batch,
    ClassifiedTable,
    FileCounts,
    batches,
    count_files,
    refuse_shrunken,
    years_named,
    years_to_replace,
)
from ebi_spark.records.mapped_columns import refuse_mapped_nonsense
from ebi_spark.records.moved_records import emptied_years, refuse_in_two_years
from ebi_spark.records.quarantine_summary import REFUSED_ROWS, unusable_rows
from ebi_spark.records.row_status import OUTSIDE, QUARANTINED, VALID
from ebi_spark.records.staging import stage_repeated_rows, staging_folder
from ebi_spark.records.upsert import refuse_bare_keys
from ebi_spark.sources.reader import SourceTable
from ebi_spark.tables.previous_ingest import PreviousIngest
from ebi_spark.tables.silver import RECORD_TABLES, REPEATED_ROW

# The number of source rows that one batch reads at most (a single year may be more). Each batch is committed and noted
# in the run log, so an interrupted backfill resumes after its last completed batch. Smaller batches would cost more in
# start-up than they save.
BATCH_ROWS = 5_000_000
# Source files of several years are staged together (:mod:`ebi_spark.records.staging`) if they have at most this many bytes. An
# interrupted run has to stage them all again.
STAGED_BYTES = 4 << 30


@dataclass
class Plan:
    """What an ingest found out before it replaces anything: the classified tables, their row counts, what the lake
    has, and the batches to write."""

    tables: list[SourceTable]
    repeated_keys: dict[tuple[str, str], RepeatedKeys]
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


def plan_ingest(
    lake: Lake,
    tables: list[SourceTable],
    config: RunConfig,
    progress: Callable[[str], None],
    previous: PreviousIngest | None = None,
    checks: Mapping[str, Collection[str]] | None = None,
) -> Plan:
    """Read the source files before any of silver is replaced, and plan the ingest.

    Reads all files, or only the affected ones if few have changed since the ``previous`` ingest. ``checks``: see
    :func:`ebi_spark.records.file_counts.count_files`. Raises when a year asked for is in no file, or would lose more rows than the
    configuration allows.
    """
    if previous is not None:
        lake.prepare()
        progress("finding the source files affected by the changes")
        affected = find_affected_files(lake, tables, config, previous)
        made = affected and _plan_affected(lake, tables, config, progress, affected, checks)
        if made:
            return made
    refuse_mapped_nonsense(tables)
    progress("reading the keys of the source files")
    repeated_keys = scan_for_repeated_keys(tables)
    if config.years:
        named = years_named(tables, config)
        years_to_replace(named, config, _emptied_years_asked_for(lake, config, named))
    lake.prepare()
    if config.mode == "upsert" and any(table.system == "hes" for table in tables):
        refuse_bare_keys(lake, RECORD_TABLES["op"])
    classified, found = _classify_and_count(lake, tables, repeated_keys, config, progress, checks)
    return _make_plan(lake, tables, repeated_keys, classified, found, config)


def _plan_affected(
    lake: Lake,
    tables: list[SourceTable],
    config: RunConfig,
    progress: Callable[[str], None],
    affected: AffectedFiles,
    checks: Mapping[str, Collection[str]] | None,
) -> Plan | None:
    """The plan for the affected files alone; None where they turn out to have rows of years that other files have too."""
    named = years_named(affected.tables, config)
    if not affected.covers(named):
        return None
    refuse_mapped_nonsense(affected.tables)
    if config.years:
        present = named | affected.unchanged_years
        years_to_replace(present, config, _emptied_years_asked_for(lake, config, present))
    all_files, affected_files = (sum(len(table.state) for table in those) for those in (tables, affected.tables))
    progress(
        f"reading the keys of {affected_files:,} of {all_files:,} source files: the others share no year and no key "
        "with the changed files"
    )
    repeated_keys = scan_for_repeated_keys(affected.tables)
    unchanged = {path for files in affected.counts.values() for path in files}
    classified, found = _classify_and_count(lake, affected.tables, repeated_keys, config, progress, checks, unchanged)
    found = replace(found, unchanged=affected.counts)
    if not affected.covers(
        year for files in found.files.values() for count in files.values() for year in count.years if year
    ):
        return None
    made = _make_plan(
        lake, affected.tables, repeated_keys, classified, found, config, affected.unchanged_years, affected.other_years
    )
    return made if made.batches else None


def _make_plan(
    lake: Lake,
    tables: list[SourceTable],
    repeated_keys: dict[tuple[str, str], RepeatedKeys],
    classified: list[ClassifiedTable],
    found: FileCounts,
    config: RunConfig,
    unchanged_years: frozenset[str] = frozenset(),
    other_years: frozenset[str] = frozenset(),
) -> Plan:
    """The plan that follows from the row counts. Years in ``unchanged_years`` are in no batch. ``other_years``: years
    of other files, which did not have to be read."""
    with _unusable_rows_noted(found) as unusable:
        present = {*unchanged_years, *(year for counts in found.years.values() for year in counts)}
        refresh = config.mode == "refresh"
        emptied = emptied_years(lake, config, present, config.years) if refresh else {}
        if not present and config.mode == "upsert" and _withdrawn_rows(found):
            # A submission that only withdraws records may take them out of any year.
            present = {
                year for dataset in {c.dataset for c in classified} for year in lake.years(RECORD_TABLES[dataset])
            }
        years = years_to_replace(present, config, emptied, unusable)
        years_to_write = sorted({year for year in years if year not in unchanged_years} | emptied.keys())
        if refresh:
            stated = {
                year
                for files in found.files.values()
                for count in files.values()
                for year, reasons in count.outcome_checksums
                if not reasons
            }
            replaced, in_files = (
                {*years, *emptied},
                {*unchanged_years, *other_years, *(year for year in stated if year)},
            )
            refuse_in_two_years(lake, classified, found, config, replaced, in_files)
        datasets = sorted({item.dataset for item in classified})
        existing = existing_records(lake, {dataset: RECORD_TABLES[dataset] for dataset in datasets}, years_to_write)
        if refresh and not config.accept_shrunken:
            for dataset in datasets:
                counts = found.years.get(dataset, {})
                refuse_shrunken(
                    RECORD_TABLES[dataset].full_name, existing.rows_by_year(dataset), counts, config, years_to_write
                )
    made = batches(found, years_to_write, BATCH_ROWS, emptied) if years_to_write else []
    return Plan(tables, repeated_keys, classified, found, existing, years, made, emptied)


def _withdrawn_rows(found: FileCounts) -> int:
    """The number of usable rows of the lists of withdrawn keys."""
    lists = [counts for (_, role), counts in found.files.items() if role.endswith("_withdrawn")]
    return sum(count.rows[VALID] for counts in lists for count in counts.values())


def _emptied_years_asked_for(lake: Lake, config: RunConfig, present: Collection[str]) -> dict[str, frozenset[str]]:
    """The years that were asked for and that no file has any more, though the lake has them from a source file."""
    return emptied_years(lake, config, present, config.years or ()) if config.mode == "refresh" else {}


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


def years_that_meet_checks(plan: Plan, batch: Batch, dataset: str) -> list[str]:
    """The years of a batch whose records, all of them staged, meet the checks of their table."""
    makers = [item for item in plan.classified if item.dataset == dataset and item.records is not None]
    if not all(item.staged_records for item in makers):
        return []
    return [
        year for year in batch.years if all(plan.file_counts.meet_checks(item.table_id, batch, year) for item in makers)
    ]


def rows_of_batch(
    lake: Lake, plan: Plan, batch: Batch, config: RunConfig
) -> tuple[list[ClassifiedTable], list[ClassifiedTable]]:
    """The classified tables over only the files that the batch needs: (for its records, for its quarantined rows).
    Tables that are staged are not changed.

    All rows of a spell of the batch's years are in the files of these years. Quarantined rows are different: where
    their files have rows of other years too, their status can only be found together with all files of those years.
    """
    staged = [item for item in plan.classified if item.staged_records]
    if not any(item.records is not None and not item.staged_records for item in plan.classified):
        return plan.classified, plan.classified
    files = plan.file_counts.files
    with_rows = {
        table_id: {path for path, count in counts.items() if any(count.rows.values())}
        for table_id, counts in files.items()
    }
    with_batch_years: dict[tuple[str, str], set[str]] = {}
    with_quarantine: dict[tuple[str, str], set[str]] = {}
    no_rows_outside = True
    for table_id, counts in files.items():
        with_batch_years[table_id] = {path for path, count in counts.items() if count.years.keys() & set(batch.years)}
        with_quarantine[table_id] = {
            path for path, count in counts.items() if path in batch.files and count.rows[QUARANTINED]
        }
        no_rows_outside &= not any(counts[path].rows[OUTSIDE] for path in with_quarantine[table_id])

    def over(wanted: dict[tuple[str, str], set[str]]) -> list[ClassifiedTable]:
        if all(wanted[table_id] >= with_rows[table_id] for table_id in files):
            return plan.classified
        tables = [table.restrict_to_files(frozenset(wanted[table.system, table.role])) for table in plan.tables]
        return classify_rows(lake, tables, plan.repeated_keys, lake.read(REPEATED_ROW), config, staged=staged)

    records = over(with_batch_years)
    if all(item.staged for item in plan.classified):
        return records, plan.classified
    if all(with_quarantine[table_id] <= with_batch_years[table_id] for table_id in files) and no_rows_outside:
        return records, records
    return records, over(
        {table_id: with_batch_years[table_id] | with_quarantine[table_id] for table_id in files}
    ) if no_rows_outside else plan.classified


def _classify_and_count(
    lake: Lake,
    tables: list[SourceTable],
    repeated_keys: dict[tuple[str, str], RepeatedKeys],
    config: RunConfig,
    progress: Callable[[str], None],
    checks: Mapping[str, Collection[str]] | None,
    unchanged: Collection[str] | None = None,
) -> tuple[list[ClassifiedTable], FileCounts]:
    """Every source table with the status of its rows, staged if that is possible, and the counts of the rows. ``unchanged``: files
    that were not read; ``silver/repeated_row`` keeps their rows."""
    staging = _staging(lake, tables, config)
    progress("reading the rows of the source files" if staging else "counting rows by file, year and status")
    if staging is None:
        write_repeated_rows(lake, resolve_duplicates(tables, repeated_keys, config), unchanged)
        classified = classify_rows(lake, tables, repeated_keys, lake.read(REPEATED_ROW), config)
        return classified, count_files(classified, checks)
    others = resolve_duplicates([table for table in tables if not resolves_itself(table)], repeated_keys, config)
    repeated = [stage_repeated_rows(lake, staging, others)] if others else []
    classified = classify_rows(lake, tables, repeated_keys, repeated[0] if repeated else None, config, staging=staging)
    repeated += [
        item.staged_records.repeated_rows(*item.table_id)
        for item in classified
        if item.staged_records and repeated_keys[item.table_id]
    ]
    write_repeated_rows(lake, repeated, unchanged)
    return classified, count_files(classified, checks)


def _several_years(tables: list[SourceTable], config: RunConfig) -> bool:
    named = years_named(tables, config)
    return len(named.intersection(config.years) if config.years else named) > 1


def _staging(lake: Lake, tables: list[SourceTable], config: RunConfig) -> Path | None:
    """The folder in which to stage rows. None if the rows are read several times instead: in a catalogue, in an upsert, and for
    large files of several years. These are written in batches, so that an interrupted run need not repeat the finished ones."""
    if config.mode != "refresh":
        return None
    known = sum(state[0] for table in tables for state in table.state.values() if state is not None)
    if known > STAGED_BYTES and _several_years(tables, config):
        return None
    return staging_folder(lake)
