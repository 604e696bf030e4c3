"""The SQL that describes a lake in Databricks Unity Catalog: comments, tags, keys, a metric view and grants.

Everything is made from ``ebi_spark/tables/`` and the suites of checks, so it always agrees with the tables. The statements
name tables and groups, never a record. Each of them can be run again. :func:`apply_to_catalogue` runs them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pyspark.sql.types import StructType

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.shipped_files import resource
from ebi_spark.errors import InputError, spark_condition
from ebi_spark.exports.metric_view import DIMENSIONS, metric_view_sql
from ebi_spark.lake.catalogue import catalogue_name
from ebi_spark.lake.storage import Lake
from ebi_spark.quoting import sql_name, sql_text
from ebi_spark.tables.published import RELEASE
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.star import RATE_CURRENT
from ebi_spark.tables.table import IDENTIFIERS, Table
from ebi_spark.validation.native_suites import read_suite

# The key of the tags. Its values say how sensitive a schema or table is, and which columns identify a record or person or
# have a whole source row.
TAG = "ebi_data"
PATIENT_LEVEL, UNSUPPRESSED, PUBLISHED, IDENTIFIER = "patient_level", "unsuppressed", "published", "identifier"
IDENTIFYING = IDENTIFIERS | {"provider_spell_number"}
SCHEMAS = {
    "silver": ("Records as they were read and cleaned. Restricted: patients' records.", PATIENT_LEVEL),
    "gold": ("Flags, rates and the run log. Restricted: patients' records and unsuppressed counts.", PATIENT_LEVEL),
    "published": ("Figures after disclosure control, by release. Nothing about single patients.", PUBLISHED),
}

# How many refused statements an error names.
SHOWN_REFUSALS = 5


class Existing(NamedTuple):
    """What a catalogue has of a table: its comment, and its columns with their comments."""

    comment: str
    schema: StructType


def unity_catalog_sql(
    location: LakeLocation, readers: Sequence[str] = (), existing: Mapping[str, Existing] | None = None
) -> list[str]:
    """The statements for a lake in a catalogue, in the order in which they have to run.

    ``readers``: groups that may read the published schema, and no other. ``existing``: the tables that the catalogue has, by
    full name. There are no statements for other tables, nor for comments that these tables already have. Without ``existing``,
    the statements are for all tables of a lake.
    """
    tables = [table for name, table in TABLES.items() if existing is None or name in existing]
    statements: list[str] = []
    for layer, (comment, sensitivity) in SCHEMAS.items():
        schema = sql_name(str(location.catalog), location.schemas[layer])
        statements += [
            f"COMMENT ON SCHEMA {schema} IS {sql_text(comment)}",
            f"ALTER SCHEMA {schema} {_tags(sensitivity)}",
        ]
    for table in tables:
        name, there = catalogue_name(location, table), existing[table.full_name] if existing else None
        statements += [*_comments(name, table, there), *_table_tags(name, table), *_primary_key(name, table, there)]
    if {RATE_CURRENT, *DIMENSIONS.values()} <= set(tables):
        statements += [*_foreign_keys(location), metric_view_sql(location)]
    published = sql_name(str(location.catalog), location.schemas["published"])
    statements += [f"GRANT USE SCHEMA, SELECT ON SCHEMA {published} TO {sql_name(group)}" for group in readers]
    return statements


def apply_to_catalogue(lake: Lake, readers: Sequence[str], progress: Callable[[str], None]) -> list[str]:
    """Run the statements for the tables that a lake in a catalogue has, and return those that ran. All are tried. Raises an
    :class:`InputError` that names those that were refused."""
    done, refused = [], []
    names = {table.full_name: lake.identifier(table) for table in TABLES.values() if lake.exists(table)}
    existing = {
        full_name: Existing(lake.spark.catalog.getTable(name).description or "", lake.spark.table(name).schema)
        for full_name, name in names.items()
    }
    for statement in unity_catalog_sql(lake.location, readers, existing):
        try:
            lake.spark.sql(statement)
            done.append(statement)
        except Exception as error:  # each platform raises its own errors; a statement has no data in it
            condition = spark_condition(error) or type(error).__name__
            refused.append(f"{statement[:120]} ({condition})")
    progress(f"{len(done):,} statements ran")
    if refused:
        shown = "; ".join(refused[:SHOWN_REFUSALS])
        raise InputError(
            f"{len(refused):,} of {len(done) + len(refused):,} statements were refused, such as: {shown}",
            remedy="run as the owner of the schemas, or with APPLY TAG and MANAGE; without --apply the SQL is printed, for "
            "somebody with these rights",
        )
    return done


def _tags(value: str) -> str:
    return f"SET TAGS ({sql_text(TAG)} = {sql_text(value)})"


def _comments(name: str, table: Table, there: Existing | None) -> Iterator[str]:
    """The comments that a table lacks. (It is created with them, but their texts can change.)"""
    if there is None or there.comment != table.row:
        yield f"COMMENT ON TABLE {name} IS {sql_text(table.row)}"
    has = {field.name: (field.metadata or {}).get("comment", "") for field in there.schema} if there else None
    columns = [
        f"{sql_name(column)} COMMENT {sql_text(meaning)}"
        for column, _, meaning in table.fields()
        if has is None or has.get(column, meaning) != meaning
    ]
    if columns:
        yield f"ALTER TABLE {name} ALTER COLUMN {', '.join(columns)}"


def _table_tags(name: str, table: Table) -> Iterator[str]:
    restricted = PATIENT_LEVEL if table.patient_level else UNSUPPRESSED
    yield f"ALTER TABLE {name} {_tags(PUBLISHED if table.layer == 'published' else restricted)}"
    for column in table.names():
        if column in IDENTIFYING:
            yield f"ALTER TABLE {name} ALTER COLUMN {sql_name(column)} {_tags(IDENTIFIER)}"


def primary_key(table: Table) -> tuple[str, ...]:
    """The columns that identify a row of a published table, as its suite checks. Empty if one of them can be NULL. Also empty for
    silver and gold: a key needs NOT NULL columns, and the error for a NULL would print a patient's row."""
    if table == RELEASE:
        return ("release_id",)
    if table == RATE_CURRENT:
        return ("policy_key", "area_key", "period_key")
    if table in DIMENSIONS.values():
        return tuple(table.names()[:1])
    path = resource("expectations") / "published" / f"{table.name}.json"
    if table.layer != "published" or not path.is_file():
        return ()
    unique = [
        tuple(expectation["kwargs"]["column_list"])
        for expectation in read_suite(path)["expectations"]
        if expectation["type"] == "expect_compound_columns_to_be_unique"
    ]
    return next((columns for columns in unique if set(columns) <= set(table.required)), ())


def _primary_key(name: str, table: Table, there: Existing | None) -> Iterator[str]:
    columns = primary_key(table)
    if not columns:
        return
    for column in columns:
        if there is None or there.schema[column].nullable:
            yield f"ALTER TABLE {name} ALTER COLUMN {sql_name(column)} SET NOT NULL"
    yield f"ALTER TABLE {name} DROP PRIMARY KEY IF EXISTS CASCADE"
    listed = ", ".join(map(sql_name, columns))
    yield f"ALTER TABLE {name} ADD CONSTRAINT {sql_name(f'{table.name}_key')} PRIMARY KEY ({listed}) NOT ENFORCED"


def _foreign_keys(location: LakeLocation) -> Iterator[str]:
    """From the rates to the tables that describe their keys, so that tools find the joins."""
    rates = catalogue_name(location, RATE_CURRENT)
    for name, table in DIMENSIONS.items():
        (key,) = map(sql_name, primary_key(table))
        constraint = sql_name(f"{RATE_CURRENT.name}_{name}")
        yield f"ALTER TABLE {rates} DROP CONSTRAINT IF EXISTS {constraint}"
        yield (
            f"ALTER TABLE {rates} ADD CONSTRAINT {constraint} FOREIGN KEY ({key}) "
            f"REFERENCES {catalogue_name(location, table)} ({key}) NOT ENFORCED"
        )
