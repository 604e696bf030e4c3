"""Warnings about the columns of source tables: missing, probably renamed, new, or gone since the last ingest.

This module covers optional columns and columns that are not used. A missing required column is refused earlier, when
the layout is matched to the file.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.sources.last_audits import last_audits
from ebi_spark.sources.layouts import Layout, layouts, likeness
from ebi_spark.sources.reader import Group, SourceTable

# How many column names a warning lists.
SHOWN = 10
# What the audit has of a file's columns: our missing ones, its own that are not used, and notes.
_AUDITED = ("columns_missing", "columns_extra", "column_notes")


@dataclass(frozen=True)
class Columns:
    """The files of one source table: columns that all files lack (our names), and columns of any file that are not
    used."""

    missing: frozenset[str]
    extra: frozenset[str]


def merge_columns(groups: list[Group]) -> Columns:
    """The columns of all groups of files of one source table together."""
    missing = frozenset.intersection(*[frozenset(group.missing) for group in groups])
    return Columns(missing, frozenset(name.upper() for group in groups for name in group.extra))


def source_name(layout: Layout, ours: str) -> str:
    """The name that source tables use for our column; a numbered column has no other name."""
    return layout.columns[ours][0] if ours in layout.columns else ours


def probable_names(layout: Layout, missing: list[str], extra: list[str]) -> dict[str, str]:
    """Our name of a missing column → the unused column with the most similar name.

    Each unused column is suggested once, and never if it is known to be another field.
    """
    upper = {name.upper(): name for name in extra}
    scored = [(likeness(layout, ours, name, layout.wanted(ours)), ours, name) for ours in missing for name in upper]
    found: dict[str, str] = {}
    for score, ours, name in sorted(scored, key=lambda item: (-item[0], item[1:])):
        if score and ours not in found and upper[name] not in found.values():
            found[ours] = upper[name]
    return found


def column_warnings(tables: list[SourceTable], before: Mapping[tuple[str, str], Columns]) -> list[str]:
    """Warnings about columns, a line each. ``before``: the columns at the last ingest, by (system, role)."""
    lines = []
    for table in tables:
        layout, last = layouts()[table.role], before.get(table.table_id)
        name = f"{table.system} {table.role}"
        for group in table.groups:
            where = name if len(table.groups) == 1 else f"{name}, {_files(group)}"
            lines += _missing(layout, group, where) + [f"{where}: {note}" for note in group.notes]
        lines += [f"{name}: {line}" for line in _differing_names(table.groups)]
        now = merge_columns(table.groups)
        if last is None:
            if now.extra:
                lines.append(f"{name}: columns that are not used: {_listed(now.extra)}")
            continue
        gone = {source_name(layout, ours) for ours in now.missing - last.missing} | (last.extra - now.extra)
        back = {source_name(layout, ours) for ours in last.missing - now.missing}
        for what, names in (
            ("new since the last ingest and not used", now.extra - last.extra),
            ("back since the last ingest", back),
            ("gone since the last ingest", gone),
        ):
            if names:
                lines.append(f"{name}: {what}: {_listed(names)}")
    return lines


def _differing_names(groups: list[Group]) -> list[str]:
    """Warnings about columns that files of one table have under different names, which may not have the same codes."""
    lines = []
    for ours in ("person_id", "provider_code", "commissioner_code"):
        first: dict[str, Group] = {}
        for group in groups:
            if ours in group.read:
                first.setdefault(group.read[ours], group)
        if len(first) > 1:
            named = ", ".join(f"{name} in {_files(group)}" for name, group in first.items())
            lines.append(
                f"{ours} is read from columns with different names, which may not have the same codes: {named}. Map a column "
                f"that all files have under `columns: {{{ours}: …}}`"
            )
    return lines


def _missing(layout: Layout, group: Group, where: str) -> list[str]:
    near = probable_names(layout, list(group.missing), list(group.extra))
    lines = [
        f"{where}: the column {source_name(layout, ours)} is missing, and {theirs} is not used: if they are the same, map "
        f"it under `columns: {{{ours}: {theirs}}}`"
        for ours, theirs in near.items()
    ]
    others = [source_name(layout, ours) for ours in group.missing if ours not in near]
    if others:
        lines.append(f"{where}: optional columns are missing: {_listed(others)}")
    return lines


def _files(group: Group) -> str:
    first = Path(group.files[0]).name
    return first if len(group.files) == 1 else f"{first} and {len(group.files) - 1} more"


def _listed(names: Any) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - SHOWN:,} more (silver/ingest_audit has all)" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more


def last_ingested(lake: LocalLake, tables: Iterable[SourceTable]) -> dict[tuple[str, str], Columns]:
    """The columns at the last ingest, by (system, role), from the ingest audit.

    An ingest reads only the files that a change affects. So the files of ``tables`` that the last ingest did not read
    are included as they were when last read.
    """
    present = {path for table in tables for path in table.state}
    found: dict[tuple[str, str], list[Group]] = {}
    for row in _last_ingest(lake, present):
        found.setdefault((row["source_system"], row["role"]), []).append(_group(row))
    return {place: merge_columns(groups) for place, groups in found.items()}


def columns_in_lake(lake: LocalLake) -> list[dict[str, Any]]:
    """For `status`: the optional columns that the files of the last ingest lack, with probable new names, and their
    columns that are not used. A dictionary for each group of files with the same columns."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for row in _last_ingest(lake):
        group = _group(row)
        key = (row["source_system"], row["role"], group.missing, group.extra, group.notes)
        groups.setdefault(key, []).append(row["source_file"])
    found = []
    for (system, role, missing, extra, notes), files in sorted(groups.items()):
        layout = layouts()[role]
        near = probable_names(layout, list(missing), list(extra))
        lacking = [source_name(layout, ours) + (f" ({near[ours]}?)" if ours in near else "") for ours in missing]
        if lacking or extra or notes:
            found.append(
                {
                    "table": f"{system} {role}",
                    "files": _files(Group(tuple(files), (), ())),
                    "optional columns missing": ", ".join(lacking),
                    "columns that nothing reads": _listed(extra),
                    "columns that mean the same, and gaps": "; ".join(notes),
                }
            )
    return found


def _group(row: Mapping[str, Any]) -> Group:
    """The file of an audit row."""
    missing, extra, notes = (tuple(row[name] or ()) for name in _AUDITED)
    return Group((row["source_file"],), missing, extra, notes)


def _last_ingest(lake: LocalLake, besides: Collection[str] = ()) -> list[dict[str, Any]]:
    """The newest audit row of each file of the last ingest of each system and role, and of the files ``besides``."""
    newest = last_audits(lake, ("run_id", *_AUDITED))
    audits = {
        file: row
        for file, row in newest.items()
        if row["columns_missing"] is not None or row["columns_extra"] is not None
    }
    last_run: dict[tuple[str, str], str] = {}
    for (system, role, _), row in audits.items():
        last_run.setdefault((system, role), row["run_id"])
    return [
        row
        for (system, role, path), row in sorted(audits.items())
        if row["run_id"] == last_run[system, role] or path in besides
    ]
