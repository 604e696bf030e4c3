"""Stages the rows of the source tables and gives each its status.

For each system and data set, in this order:

1. Tables that complete or withdraw records are staged: APCS_Der, tables of codes, lists of withdrawn keys.
2. Rows of episodes and records are completed from these and staged.
3. Spells are built from staged episodes, and staged too.

Systems and data sets do not depend on each other: they are staged at the same time. No row is read from the source after that.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import CODE_TABLES
from ebi_spark.lake.staging_area import StagingArea
from ebi_spark.lake.storage import Lake
from ebi_spark.records import hes, sus_plus
from ebi_spark.records.cleaning import clean
from ebi_spark.records.code_tables import classify_codes, with_codes
from ebi_spark.records.column_kinds import CODE_TABLE_KINDS, DERIVED_KINDS, WITHDRAWN_KINDS
from ebi_spark.records.duplicates import RepeatedKeys, with_repeated
from ebi_spark.records.file_counts import ClassifiedTable
from ebi_spark.records.row_status import VALID, with_status
from ebi_spark.records.staging import FEW_FILES, FILES_AT_ONCE, StagedRecords, StagedRows, stage_rows
from ebi_spark.sources.layouts import layouts
from ebi_spark.sources.reader import SourceTable, TableId
from ebi_spark.spark.tuning import with_settings
from ebi_spark.threads import run_in_threads

# The tables in which a row makes a record by itself, with the function that classifies their rows.
_ROW_BY_ROW: dict[str, Callable[..., DataFrame]] = {
    "apcs": sus_plus.classify_spells,
    "opa": sus_plus.classify_attendances,
    "op": hes.classify_attendances,
}
EPISODES = "apc"
# What the columns of the other tables are. Lists of withdrawn keys are not here.
_KINDS = {"apcs_der": DERIVED_KINDS, **dict.fromkeys(CODE_TABLES, CODE_TABLE_KINDS)}


def classify_rows(
    lake: Lake,
    area: StagingArea,
    tables: Iterable[SourceTable],
    repeated_keys: Mapping[TableId, RepeatedKeys],
    config: RunConfig,
) -> list[ClassifiedTable]:
    """Every source table with the status of its rows. ``repeated_keys``: the keys of each table that may be in several rows."""
    work = _Work(lake, area, repeated_keys, config)
    tables = list(tables)
    apart: dict[tuple[str, str], list[SourceTable]] = defaultdict(list)
    for table in tables:
        apart[table.system, table.dataset].append(table)
    with with_settings(lake.spark, {FILES_AT_ONCE: str(FEW_FILES)}):
        run_in_threads([partial(work.stage, group) for group in apart.values()])
    return [work.classified(table) for table in tables]


class _Work:
    """What has been staged so far of the source tables of one ingest."""

    def __init__(
        self, lake: Lake, area: StagingArea, repeated_keys: Mapping[TableId, RepeatedKeys], config: RunConfig
    ) -> None:
        self.lake, self.area, self.repeated_keys, self.config = lake, area, repeated_keys, config
        self.staged_rows: dict[TableId, StagedRows] = {}
        self.staged_records: dict[TableId, StagedRecords] = {}

    def stage(self, tables: list[SourceTable]) -> None:
        """Stage the tables of a system and data set: first those that complete or withdraw records."""
        makers = [table for table in tables if table.role in (*_ROW_BY_ROW, EPISODES)]
        run_in_threads([partial(self.rows, table) for table in tables if table not in makers])
        run_in_threads([partial(self.records, table) for table in makers])

    def rows(self, table: SourceTable) -> None:
        """Stage the cleaned rows of a table."""
        rows, values = self._with_codes(table), hes.EPISODE_VALUES
        if table.role == EPISODES:
            rows = hes.clean_episodes(rows, self.config.window(*table.table_id), self.config.bare_year)
        else:
            kinds = _KINDS.get(table.role, WITHDRAWN_KINDS)
            # Tables of diagnoses have no date.
            rows, values = clean(rows, {name: kinds[name] for name in kinds if name in rows.columns}), tuple(kinds)
        present = {*rows.columns} - {"extract_date"}
        compared = [name for name in values if name in present]
        self.staged_rows[table.table_id] = stage_rows(
            self.area, _name(table), rows, compared, any_repeated=bool(self.repeated_keys[table.table_id])
        )

    def records(self, table: SourceTable) -> None:
        """Stage the rows of a table as records, or its episodes and the spells that they make."""
        spells = table.role == EPISODES
        name = f"{_name(table)}_spells" if spells else _name(table)
        made = StagedRecords(self.lake, self.area, name, table.system, table.dataset, self.config)
        if spells:
            self.rows(table)
            made.stage_spells(hes.build_spells(self._classified_rows(table).where(F.col("status") == VALID)))
        else:
            classify = partial(
                _ROW_BY_ROW[table.role], window=self.config.window(*table.table_id), bare_year=self.config.bare_year
            )
            rows = with_status(classify(self._with_codes(table)), self.config.years)
            made.stage(rows, self._complete(table), any_repeated=bool(self.repeated_keys[table.table_id]))
        self.staged_records[table.table_id] = made

    def classified(self, table: SourceTable) -> ClassifiedTable:
        """A staged table with the status of its rows."""
        records, rows = self.staged_records.get(table.table_id), self.staged_rows.get(table.table_id)
        if rows is None:
            assert records is not None
            return ClassifiedTable(table, records.rows, records, records)
        return ClassifiedTable(table, self._classified_rows(table), rows, records)

    def _classified_rows(self, table: SourceTable) -> DataFrame:
        """The staged rows of a table that are not records, with their status."""
        system, role = table.system, table.role
        rows = self.staged_rows[system, role].rows
        if role == EPISODES:
            classified = hes.classify_episodes(rows)
        elif role == "apcs_der":
            classified = sus_plus.classify_derived(rows, self.staged_records[system, "apcs"].keys())
        elif role in CODE_TABLES:
            classified = classify_codes(rows, self._owners(system, CODE_TABLES[role]))
        else:
            classified = sus_plus.classify_withdrawn(rows)
        return with_status(classified, self.config.years)

    def _owners(self, system: str, role: str) -> DataFrame:
        """The classified rows of the table to whose rows codes belong."""
        if role == EPISODES:
            return hes.classify_episodes(self.staged_rows[system, role].rows)
        return self.staged_records[system, role].rows

    def _with_codes(self, table: SourceTable) -> DataFrame:
        """The rows of a table as read, with the codes from its long tables, if it has any."""
        rows = with_repeated(table, self.repeated_keys[table.table_id])
        for ours, run in layouts()[table.role].numbered.items():
            staged = self.staged_rows.get((table.system, f"{table.role}_{run.long_table}"))
            rows = with_codes(rows, ours, staged.rows) if staged else rows
        return rows

    def _complete(self, table: SourceTable) -> Callable[[DataFrame], DataFrame]:
        """What adds the columns of other tables to classified rows."""
        if table.role != "apcs":
            return lambda rows: rows
        return partial(sus_plus.join_derived, derived=self.staged_rows[table.system, "apcs_der"].rows)


def _name(table: SourceTable) -> str:
    """The name under which the rows of a source table are staged."""
    return f"{table.system}_{table.role}"
