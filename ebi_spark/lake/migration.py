"""Brings the tables of an older version of the product up to date: new columns, and the version that each table has. Figures that
releases of schema 1 disclosed are removed (:mod:`ebi_spark.lake.earlier_releases`)."""

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql.types import ArrayType, DataType, StructType

from ebi_spark.errors import InputError
from ebi_spark.lake import local_tables
from ebi_spark.lake.earlier_releases import CORRECTED_IN, empty_earlier_releases
from ebi_spark.lake.local_tables import UnreadableTableError
from ebi_spark.lake.new_tables import VERSION_PROPERTY, declared, sql_properties
from ebi_spark.quoting import sql_name
from ebi_spark.tables.table import SCHEMA_VERSION, Table
from ebi_spark.threads import run_in_threads

if TYPE_CHECKING:
    from ebi_spark.lake.storage import Lake


def migrate(lake: "Lake", tables: Sequence[Table]) -> list[str]:
    """Migrate existing tables; :meth:`ebi_spark.lake.storage.Lake.migrate` says how. Returns what was done, a line for each table."""
    found = dict(zip(tables, run_in_threads([partial(_described, lake, table) for table in tables]), strict=True))
    added_columns, properties, done = [], [], []
    for table, (schema, version) in found.items():
        name = table.full_name
        if version > SCHEMA_VERSION:
            raise InputError(
                f"{name} was written by a newer version of ebi-spark (schema {version}; this version has schema "
                f"{SCHEMA_VERSION})",
                remedy="install that version; nothing was changed",
            )
        # Spark parses types in Java: for a hundred columns that takes as long as a query. So types are compared as
        # text first.
        existing = {field.name: field.dataType.simpleString() for field in schema.fields}
        same = all(existing.get(column) == kind.replace(" ", "") for column, kind, _ in table.fields())
        added, differing = ({}, []) if same else _differences(table.schema, schema)
        if differing:
            raise InputError(
                f"{name} has columns of another type than this version writes: {', '.join(differing)}",
                remedy="use the version of ebi-spark that wrote the lake, or start a new lake; nothing was changed",
            )
        if added:
            meanings = {sql_name(column): meaning for column, _, meaning in table.fields()}
            listed = ", ".join(declared(column, kind, meanings.get(column, "")) for column, kind in added.items())
            added_columns.append(f"ALTER TABLE {lake.identifier(table)} ADD COLUMNS ({listed})")
        if version < SCHEMA_VERSION:
            properties.append(f"ALTER TABLE {lake.identifier(table)} SET TBLPROPERTIES ({sql_properties(table)})")
        if added or version < SCHEMA_VERSION:
            what = f"added {', '.join(added).replace('`', '')}" if added else "no column changed"
            done.append(f"{name}: schema {version} to {SCHEMA_VERSION}, {what}")
    for statement in added_columns:
        lake.spark.sql(statement)
    earlier = [t for t, (_, version) in found.items() if t.layer == "published" and version < CORRECTED_IN]
    done += empty_earlier_releases(lake, [table for table in earlier if lake.version(table) > 0])
    # The version is set last, so that an interrupted migration is repeated.
    for statement in properties:
        lake.spark.sql(statement)
    return done


def _described(lake: "Lake", table: Table) -> tuple[StructType, int]:
    """(the columns that the table has, the schema version that it was written with; 0 if it has none)."""
    with contextlib.suppress(UnreadableTableError):
        if lake.location.folder:
            fields, properties = local_tables.described(Path(lake.path(table)))
            return StructType.fromJson(fields), _schema_version(properties)
    row = lake.spark.sql(f"DESCRIBE DETAIL {lake.identifier(table)}").select("properties").first()
    properties = dict(row["properties"] or {}) if row else {}
    return lake.spark.table(lake.identifier(table)).schema, _schema_version(properties)


def _schema_version(properties: Mapping[str, str]) -> int:
    """The schema version that a table was written with; 0 if it has none."""
    version = properties.get(VERSION_PROPERTY, "0")
    return int(version) if version.isdigit() else 0


def _differences(declared: DataType, existing: DataType, prefix: str = "") -> tuple[dict[str, str], list[str]]:
    """(missing columns and fields: name in SQL → type; columns and fields that have another type) of ``existing``."""
    added: dict[str, str] = {}
    differing: list[str] = []
    if isinstance(declared, StructType) and isinstance(existing, StructType):
        there = {field.name: field.dataType for field in existing.fields}
        for field in declared.fields:
            name = f"{prefix}{sql_name(field.name)}"
            if field.name not in there:
                added[name] = field.dataType.simpleString()
                continue
            more, other = _differences(field.dataType, there[field.name], f"{name}.")
            added |= more
            differing += other
    elif isinstance(declared, ArrayType) and isinstance(existing, ArrayType):
        added, differing = _differences(declared.elementType, existing.elementType, f"{prefix}element.")
    elif declared.simpleString() != existing.simpleString():
        differing.append(prefix.replace("`", "").rstrip("."))
    return added, differing
