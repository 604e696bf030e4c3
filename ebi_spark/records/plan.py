"""What an ingest finds out before anything of silver is replaced: the source tables judged and surveyed, what the lake
holds, and from these the steps to go.

What is judged is one lazy frame a source table; the survey reads only its light columns (keys, dates), what is written later
its canonical columns or its raw text.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from pyspark.sql import DataFrame

from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import EbiError
from ebi_spark.lake.storage import Lake
from ebi_spark.records import hes, sus_plus
from ebi_spark.records.affected_files import AffectedFiles, find_affected_files
from ebi_spark.records.duplicates import (
    RepeatedKeys,
    all_rows,
    resolve_duplicates,
    scan_for_repeated_keys,
    split_by_uniqueness,
)
from ebi_spark.records.existing_records import ExistingRecords, existing_records
from ebi_spark.records.file_counts import (
    ClassifiedTable,
    FileCounts,
    Step,
    count_files,
    refuse_shrunken,
    steps,
    years_named,
    years_to_replace,
)
from ebi_spark.records.mapped_columns import refuse_mapped_nonsense
from ebi_spark.records.moved_records import refuse_in_two_years, years_left
from ebi_spark.records.quarantine_summary import REFUSED_ROWS, unusable_rows
from ebi_spark.records.row_status import OUTSIDE, QUARANTINED, VALID, keep
from ebi_spark.records.upsert import refuse_bare_keys
from ebi_spark.sources.reader import SourceTable
from ebi_spark.tables.previous_ingest import PreviousIngest
from ebi_spark.tables.schemas import RECORD_TABLES

# Source rows that one step reads at most (a single year may be more): a step is committed and noted in the run log, so
# that a backfill that is stopped goes on behind it. Smaller steps cost more starts than they save.
STEP_ROWS = 5_000_000


@dataclass
class Plan:
    """What an ingest has found out before it replaces anything: the tables judged, their survey, and the steps to go."""

    tables: list[SourceTable]
    suspects: dict[tuple[str, str], RepeatedKeys]
    judged: list[ClassifiedTable]
    found: FileCounts
    held: ExistingRecords
    years: list[str]
    steps: list[Step]
    # Years that are replaced by nothing, each with the files that held rows of them.
    left: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def standing(self) -> list[str]:
        """The years that are in no step: nothing that changed since the last look reaches them."""
        return sorted(set(self.years) - {year for step in self.steps for year in step.years})

    @property
    def datasets(self) -> list[str]:
        """``apc``, ``op`` or both."""
        return sorted({item.dataset for item in self.judged})


def plan(
    lake: Lake,
    tables: list[SourceTable],
    config: RunConfig,
    tell: Callable[[str], None],
    before: PreviousIngest | None = None,
) -> Plan:
    """Look at the source files before anything of silver is replaced: at all of them or, where nothing but a few files has
    changed since the look ``before``, at those that the change reaches. Raises when a year asked for is in none of them, or
    would lose more rows than the configuration allows."""
    if before is not None:
        lake.prepare()
        tell("looking for what the changed source files reach")
        reached = find_affected_files(lake, tables, config, before)
        found = reached and _plan_of(lake, tables, config, tell, reached)
        if found:
            return found
    refuse_mapped_nonsense(tables)
    tell("looking at the keys of the source files")
    suspects = scan_for_repeated_keys(tables)
    if config.years:
        named = years_named(tables, config)
        years_to_replace(named, config, _left_of_those_asked(lake, config, named))
    lake.prepare()
    if config.mode == "upsert" and any(table.system == "hes" for table in tables):
        refuse_bare_keys(lake, RECORD_TABLES["op"])
    resolve_duplicates(lake, tables, suspects, config)
    judged = judge(lake, tables, suspects, config)
    tell("counting what becomes of each row")
    return _planned(lake, tables, suspects, judged, count_files(judged, config), config)


def _plan_of(
    lake: Lake, tables: list[SourceTable], config: RunConfig, tell: Callable[[str], None], reached: AffectedFiles
) -> Plan | None:
    """The same of the files alone that a change reaches; None where they turn out to hold rows of years of others."""
    named = years_named(reached.tables, config)
    if not reached.covers(named):
        return None
    refuse_mapped_nonsense(reached.tables)
    if config.years:
        there = named | reached.standing
        years_to_replace(there, config, _left_of_those_asked(lake, config, there))
    every, some = (sum(len(table.state) for table in those) for those in (tables, reached.tables))
    tell(
        f"looking at the keys of {some:,} of {every:,} source files: the others share no year and no key with what changed"
    )
    suspects = scan_for_repeated_keys(reached.tables)
    unchanged = {path for files in reached.accounts.values() for path in files}
    resolve_duplicates(lake, reached.tables, suspects, config, besides=unchanged)
    judged = judge(lake, reached.tables, suspects, config)
    tell("counting what becomes of each row")
    found = replace(count_files(judged, config), unchanged=reached.accounts)
    if not reached.covers(
        year for files in found.files.values() for count in files.values() for year in count.years if year
    ):
        return None
    made = _planned(lake, reached.tables, suspects, judged, found, config, reached.standing, reached.elsewhere)
    return made if made.steps else None


def _planned(
    lake: Lake,
    tables: list[SourceTable],
    suspects: dict[tuple[str, str], RepeatedKeys],
    judged: list[ClassifiedTable],
    found: FileCounts,
    config: RunConfig,
    standing: frozenset[str] = frozenset(),
    elsewhere: frozenset[str] = frozenset(),
) -> Plan:
    """The plan that follows from what was found; years that are ``standing`` are in no step. ``elsewhere``: years that other
    files hold, which had no need to be looked at."""
    with _unusable_rows_noted(found) as unusable:
        present = {*standing, *(year for counts in found.years.values() for year in counts)}
        refresh = config.mode == "refresh"
        left = years_left(lake, config, present, config.years) if refresh else {}
        years = years_to_replace(present, config, left, unusable)
        ahead = sorted({year for year in years if year not in standing} | left.keys())
        if refresh:
            stated = {year for files in found.files.values() for count in files.values() for year, _ in count.verdicts}
            replaced, there = {*years, *left}, {*standing, *elsewhere, *(year for year in stated if year)}
            refuse_in_two_years(lake, judged, found, config, replaced, there)
        datasets = sorted({item.dataset for item in judged})
        held = existing_records(lake, {dataset: RECORD_TABLES[dataset] for dataset in datasets}, ahead)
        if refresh and not config.accept_shrunken:
            for dataset in datasets:
                counts = found.years.get(dataset, {})
                refuse_shrunken(RECORD_TABLES[dataset].full_name, held.rows_by_year(dataset), counts, config, ahead)
    made = steps(found, ahead, STEP_ROWS, left) if ahead else []
    return Plan(tables, suspects, judged, found, held, years, made, left)


def _left_of_those_asked(lake: Lake, config: RunConfig, present: Collection[str]) -> dict[str, frozenset[str]]:
    """The years that were asked for and are in no file any more, though the lake holds them of one."""
    return years_left(lake, config, present, config.years or ()) if config.mode == "refresh" else {}


@contextmanager
def _unusable_rows_noted(found: FileCounts) -> Iterator[str]:
    """How many rows cannot be used, by reason, for a message. Where the ingest is refused here, nothing is written to
    ``silver/quarantine``: the run log keeps the reasons, for `ebi-spark status`."""
    rows = unusable_rows(found)
    try:
        yield ", ".join(f"{row['role']} {row['reason']} {row['rows']:,}" for row in rows)
    except EbiError as error:
        error.details[REFUSED_ROWS] = json.dumps(rows)
        raise


def judge(
    lake: Lake, tables: Iterable[SourceTable], suspects: dict[tuple[str, str], RepeatedKeys], config: RunConfig
) -> list[ClassifiedTable]:
    """Every source table judged; APCS_Der joins the spells of its own system. ``suspects``: the keys of each table that
    may stand in more than one row."""
    by_role = {(table.system, table.role): table for table in tables}
    apart = {place: split_by_uniqueness(lake, table, suspects[place]) for place, table in by_role.items()}
    judged: list[ClassifiedTable] = []

    def one_by_one(table: SourceTable, dataset: str, of_rows: Callable[[DataFrame], DataFrame]) -> ClassifiedTable:
        """A table of which each row is judged without a look at any other, so that they may come in parts."""
        parts = [of_rows(part) for part in apart[table.system, table.role] if part is not None]
        return whole(table, dataset, of_rows(all_rows(*apart[table.system, table.role])), parts)

    def whole(
        table: SourceTable, dataset: str, rows: DataFrame, parts: list[DataFrame] | None = None
    ) -> ClassifiedTable:
        judged.append(ClassifiedTable(table, dataset, rows, None, parts or [rows]))
        return judged[-1]

    for (system, role), table in by_role.items():
        window = config.window(system, role)
        if role == "apcs":
            spells = one_by_one(
                table, "apc", partial(sus_plus.classify_spells, window=window, bare_year=config.bare_year)
            )
            derived = by_role[system, "apcs_der"]
            valid = keep(spells.rows, VALID, config.years)
            spells.records = sus_plus.join_derived(valid, all_rows(*apart[system, "apcs_der"]))
            years = sus_plus.spell_years(*apart[system, role], window, config.bare_year)
            whole(derived, "apc", sus_plus.classify_derived(all_rows(*apart[system, "apcs_der"]), years))
        elif role == "opa":
            attendances = one_by_one(
                table, "op", partial(sus_plus.classify_attendances, window=window, bare_year=config.bare_year)
            )
            attendances.records = keep(attendances.rows, VALID, config.years)
        elif role == "apc":
            # An episode is judged by the others of its spell, whose keys may be repeated where its own is not.
            episodes = whole(
                table, "apc", hes.classify_episodes(all_rows(*apart[system, role]), window, config.bare_year)
            )
            episodes.records = hes.build_spells(keep(episodes.rows, VALID, config.years))
        elif role == "op":
            attendances = one_by_one(
                table, "op", partial(hes.classify_attendances, window=window, bare_year=config.bare_year)
            )
            attendances.records = keep(attendances.rows, VALID, config.years)
        elif role.endswith("_withdrawn"):
            one_by_one(table, _dataset_of(role), sus_plus.classify_withdrawn)
    return judged


def _dataset_of(role: str) -> str:
    return "apc" if role.startswith("ap") else "op"


def of_step(
    lake: Lake, whole: Plan, step: Step, config: RunConfig
) -> tuple[list[ClassifiedTable], list[ClassifiedTable]]:
    """The judged tables over the files alone that have something for the step to write: (for its records, for what is set
    aside). Every spell of the step's years has all its rows in their files; what is set aside of files that hold other years
    too can be told only beside all of these years' files."""
    files = whole.found.files
    held = {
        place: {path for path, count in counts.items() if any(count.rows.values())} for place, counts in files.items()
    }
    of_years: dict[tuple[str, str], set[str]] = {}
    aside: dict[tuple[str, str], set[str]] = {}
    alone = True
    for place, counts in files.items():
        of_years[place] = {path for path, count in counts.items() if count.years.keys() & set(step.years)}
        aside[place] = {path for path, count in counts.items() if path in step.files and count.rows[QUARANTINED]}
        alone &= not any(counts[path].rows[OUTSIDE] for path in aside[place])

    def over(wanted: dict[tuple[str, str], set[str]]) -> list[ClassifiedTable]:
        if all(wanted[place] >= held[place] for place in files):
            return whole.judged
        tables = [table.restrict_to_files(frozenset(wanted[table.system, table.role])) for table in whole.tables]
        return judge(lake, tables, whole.suspects, config)

    records = over(of_years)
    if all(aside[place] <= of_years[place] for place in files) and alone:
        return records, records
    return records, over({place: of_years[place] | aside[place] for place in files}) if alone else whole.judged
