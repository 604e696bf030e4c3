"""Gives every row of the source tables its status.

A query is built for each table. If its rows are staged, the query runs here. Otherwise the classified table is a lazy frame, and
each step that uses it reads the source again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pyspark.sql import DataFrame

from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import CODE_TABLES
from ebi_spark.lake.storage import Lake, run_in_threads
from ebi_spark.records import hes, sus_plus
from ebi_spark.records.code_tables import classify_codes, code_tables_of, with_codes
from ebi_spark.records.duplicates import RepeatedKeys, all_rows, split_by_uniqueness, with_repeated
from ebi_spark.records.file_counts import ClassifiedTable
from ebi_spark.records.row_status import VALID, keep, with_status
from ebi_spark.records.staging import FEW_FILES, FILES_AT_ONCE, as_records, stage, stage_records
from ebi_spark.sources.reader import SourceTable, TableId
from ebi_spark.spark.session import with_settings
from ebi_spark.tables.silver import RECORD_TABLES

# The tables in which a row makes a record by itself, with the function that classifies their rows.
_ROW_BY_ROW: dict[str, Callable[..., DataFrame]] = {
    "apcs": sus_plus.classify_spells,
    "opa": sus_plus.classify_attendances,
    "op": hes.classify_attendances,
}


def resolves_itself(table: SourceTable) -> bool:
    """Whether the rows of repeated keys are resolved from the staged rows, if the table is staged."""
    return table.role in _ROW_BY_ROW


def dataset_of(role: str) -> str:
    """``apc`` or ``op``."""
    return "apc" if role.startswith("ap") else "op"


def classify_rows(
    lake: Lake,
    tables: Iterable[SourceTable],
    repeated_keys: dict[TableId, RepeatedKeys],
    resolved: DataFrame | None,
    config: RunConfig,
    *,
    staging: Path | None = None,
    staged: Sequence[ClassifiedTable] = (),
) -> list[ClassifiedTable]:
    """Every source table with the status of its rows; APCS_Der joins the spells of its own system.

    ``repeated_keys``: the keys of each table that may be in more than one row. ``resolved``: the rows of these keys, as
    ``silver/repeated_row`` has them, without those of tables that are staged. ``staging``: a folder in which to stage rows;
    None: nothing is staged. ``staged``: tables that have been staged already.
    """
    by_id = {(table.system, table.role): table for table in tables}
    parts = {
        table_id: split_by_uniqueness(resolved, table, repeated_keys[table_id])
        for table_id, table in by_id.items()
        if not (staging and resolves_itself(table))
    }
    done = {item.table_id: item for item in staged}

    def dated(classify: Callable[..., DataFrame], table_id: TableId) -> Callable[[DataFrame], DataFrame]:
        return partial(classify, window=config.window(*table_id), bare_year=config.bare_year)

    def coded(table: SourceTable, rows: DataFrame) -> DataFrame:
        """``rows`` of a HES table with the codes from its long tables, if it has any."""
        beside = {ours: (table.system, name) for ours, name in code_tables_of(table.role).items()}
        return with_codes(rows, {ours: all_rows(*parts[name]) for ours, name in beside.items() if name in parts})

    def lazy(table: SourceTable, classify: Callable[[DataFrame], DataFrame], in_parts: bool) -> ClassifiedTable:
        """``in_parts``: the status of a row does not depend on other rows, so the rows may come in parts."""
        unique, repeated = parts[table.system, table.role]
        rows = with_status(classify(coded(table, all_rows(unique, repeated))), config.years)
        each = [rows]
        if in_parts and repeated is not None:
            each = [with_status(classify(coded(table, part)), config.years) for part in (unique, repeated)]
        return ClassifiedTable(table, dataset_of(table.role), rows, None, each)

    def other(table: SourceTable, classify: Callable[[DataFrame], DataFrame]) -> ClassifiedTable:
        """A table in which a row is not a record by itself."""
        item = lazy(table, classify, in_parts=False)
        return item if staging is None else replace(item, staged=stage(lake, folder(staging, table), item.rows))

    def with_derived(system: str, rows: DataFrame) -> DataFrame:
        return sus_plus.join_derived(rows, all_rows(*parts[system, "apcs_der"]))

    def row_by_row(table: SourceTable) -> ClassifiedTable:
        table_id, dataset = (table.system, table.role), dataset_of(table.role)
        classify, silver = dated(_ROW_BY_ROW[table.role], table_id), RECORD_TABLES[dataset]
        complete = partial(with_derived, table.system) if table.role == "apcs" else _unchanged
        if staging is None:
            item = lazy(table, classify, in_parts=True)
            item.records = as_records(complete(keep(item.rows, VALID)), silver, table.system, dataset, lake.run_id)
            return item
        rows = with_status(classify(coded(table, with_repeated(table, repeated_keys[table_id]))), config.years)
        made = stage_records(
            lake, folder(staging, table), rows, table.system, dataset, years=config.years, complete=complete
        )
        if repeated_keys[table_id]:
            made.resolve(config.years)
        return ClassifiedTable(table, dataset, made.rows, made.records(), [made.rows], made)

    own = [table for table_id, table in by_id.items() if table.role in _ROW_BY_ROW and table_id not in done]
    with with_settings(lake.spark, {FILES_AT_ONCE: str(FEW_FILES)}):
        items = run_in_threads([partial(row_by_row, table) for table in own]) if staging else map(row_by_row, own)
        done |= {item.table_id: item for item in items}
    for table_id, table in by_id.items():
        system, role = table_id
        if role == "apcs_der":
            made = done[system, "apcs"].staged
            spells = (
                made.keys()
                if made
                else sus_plus.spell_years(*parts[system, "apcs"], config.window(system, "apcs"), config.bare_year)
            )
            done[table_id] = other(table, partial(sus_plus.classify_derived, known=spells))
        elif role == "apc":
            # The status of an episode depends on the other episodes of its spell, whose keys may be repeated even
            # where its own is not.
            done[table_id] = item = other(table, dated(hes.classify_episodes, table_id))
            item.records = as_records(
                hes.build_spells(keep(item.rows, VALID)), RECORD_TABLES["apc"], system, "apc", lake.run_id
            )
        elif role.endswith("_withdrawn"):
            done[table_id] = lazy(table, sus_plus.classify_withdrawn, in_parts=True)
    for (system, role), table in by_id.items():
        if role in CODE_TABLES:
            owners = done[system, CODE_TABLES[role]].rows
            done[system, role] = other(table, partial(classify_codes, owners=owners))
    return list(done.values())


def folder(staging: Path, table: SourceTable) -> Path:
    """The folder of one source table in that of the run."""
    return staging / f"{table.system}_{table.role}"


def _unchanged(rows: DataFrame) -> DataFrame:
    return rows
