"""What is odd about the columns of the source tables, told to a person: missing, probably renamed, new, gone.

A missing column that is required is refused where the layout is resolved; here are the optional ones and those that nothing
reads, of the files at hand and against the last ingest of the same role.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import Window
from pyspark.sql import functions as F

from ebi_spark.acquire.layouts import Layout, layouts, likeness
from ebi_spark.acquire.tables import Group, SourceTable
from ebi_spark.schemas import INGEST_AUDIT
from ebi_spark.storage import Lake

SHOWN = 10


@dataclass(frozen=True)
class Columns:
    """Of the files of one role: what all of them lack, by our names, and what nothing reads of any."""

    missing: frozenset[str]
    extra: frozenset[str]


def columns_of(groups: list[Group]) -> Columns:
    """The groups of one role as one."""
    missing = frozenset.intersection(*[frozenset(group.missing) for group in groups])
    return Columns(missing, frozenset(name.upper() for group in groups for name in group.extra))


def source_name(layout: Layout, ours: str) -> str:
    """What the tables call a column of ours; a numbered one has no other name."""
    return layout.columns[ours][0] if ours in layout.columns else ours


def probable_names(layout: Layout, missing: list[str], extra: list[str]) -> dict[str, str]:
    """Our name of a missing column → the column that nothing reads and whose name is nearest; each is given once, and
    none that is known to be another field."""
    upper = {name.upper(): name for name in extra}
    scored = [(likeness(layout, ours, name, layout.wanted(ours)), ours, name) for ours in missing for name in upper]
    found: dict[str, str] = {}
    for score, ours, name in sorted(scored, key=lambda item: (-item[0], item[1:])):
        if score and ours not in found and upper[name] not in found.values():
            found[ours] = upper[name]
    return found


def told(tables: list[SourceTable], before: Mapping[tuple[str, str], Columns]) -> list[str]:
    """A line each for what a person should know of the columns. ``before``: what the last ingest had, by system and role."""
    lines = []
    for table in tables:
        layout, last = layouts()[table.role], before.get((table.system, table.role))
        name = f"{table.system} {table.role}"
        for group in table.groups:
            where = name if len(table.groups) == 1 else f"{name}, {_files(group)}"
            lines += _missing(layout, group, where) + [f"{where}: {note}" for note in group.notes]
        lines += [f"{name}: {line}" for line in _of_several_kinds(table.groups)]
        now = columns_of(table.groups)
        if last is None:
            if now.extra:
                lines.append(f"{name}: columns that nothing reads: {_listed(now.extra)}")
            continue
        gone = {source_name(layout, ours) for ours in now.missing - last.missing} | (last.extra - now.extra)
        back = {source_name(layout, ours) for ours in last.missing - now.missing}
        for what, names in (
            ("new since the last ingest, and nothing reads them", now.extra - last.extra),
            ("there again since the last ingest", back),
            ("gone since the last ingest", gone),
        ):
            if names:
                lines.append(f"{name}: {what}: {_listed(names)}")
    return lines


def _of_several_kinds(groups: list[Group]) -> list[str]:
    """Our columns that files of one table have under names that need not mean the same."""
    lines = []
    for ours in ("person_id", "provider_code", "commissioner_code"):
        first: dict[str, Group] = {}
        for group in groups:
            if ours in group.read:
                first.setdefault(group.read[ours], group)
        if len(first) > 1:
            named = ", ".join(f"{name} in {_files(group)}" for name, group in first.items())
            lines.append(
                f"{ours} is read from columns of different names, which need not have the same codes: {named}. Map one that "
                f"all files have under `columns: {{{ours}: …}}`"
            )
    return lines


def _missing(layout: Layout, group: Group, where: str) -> list[str]:
    near = probable_names(layout, list(group.missing), list(group.extra))
    lines = [
        f"{where}: the column {source_name(layout, ours)} is missing; {theirs} is there and nothing reads it: if it is the "
        f"same, map it under `columns: {{{ours}: {theirs}}}`"
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


def last_ingested(lake: Lake, tables: Iterable[SourceTable]) -> dict[tuple[str, str], Columns]:
    """The columns that the files of the last ingest of each system and role had, and files of ``tables`` when they were last
    accounted for: an ingest goes over those alone that a change reaches. A query over the audit."""
    present = {path for table in tables for path in table.state}
    found: dict[tuple[str, str], list[Group]] = {}
    for row in _last_audit(lake, present):
        group = Group((row["source_file"],), tuple(row["columns_missing"] or ()), tuple(row["columns_extra"] or ()))
        found.setdefault((row["source_system"], row["role"]), []).append(group)
    return {place: columns_of(groups) for place, groups in found.items()}


def in_lake(lake: Lake) -> list[dict[str, Any]]:
    """For `status`: what the files of the last ingest lacked, with the probable new name, and what nothing read of them."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for row in _last_audit(lake):
        key = (
            row["source_system"],
            row["role"],
            tuple(row["columns_missing"] or ()),
            tuple(row["columns_extra"] or ()),
            tuple(row["column_notes"] or ()),
        )
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


def _last_audit(lake: Lake, besides: Collection[str] = ()) -> list[dict[str, Any]]:
    """The files of the last ingest of each system and role, and those ``besides``, each as last accounted for."""
    if not lake.exists(INGEST_AUDIT):
        return []
    audit = lake.read(INGEST_AUDIT).where("columns_missing IS NOT NULL OR columns_extra IS NOT NULL")
    if "column_notes" not in audit.columns:  # a lake that no run of this version has written to
        audit = audit.withColumn("column_notes", F.lit(None).cast("array<string>"))
    place = ["source_system", "role"]
    names = (*place, "source_file", "columns_missing", "columns_extra", "column_notes")
    newest = F.max_by("run_id", "written_at").over(Window.partitionBy(*place))
    latest = F.max("written_at").over(Window.partitionBy(*place, "source_file"))
    told = audit.select(
        *names, (F.col("run_id") == newest).alias("_last"), (F.col("written_at") == latest).alias("_latest")
    )
    rows = told.where("_last OR _latest").orderBy(*names[:3]).collect()
    return [row.asDict() for row in rows if row["_last"] or row["source_file"] in besides]
