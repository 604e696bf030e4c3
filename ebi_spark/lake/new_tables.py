"""Creates the tables of a lake: empty, with their whole schema and their properties.

They have reader protocol 1 and no deletion vectors, so that other engines can read them.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ebi_spark.lake import local_tables, small_writes
from ebi_spark.quoting import sql_name, sql_text
from ebi_spark.tables.table import SCHEMA_VERSION, Table

if TYPE_CHECKING:
    from ebi_spark.lake.storage import Lake

VERSION_PROPERTY = "ebi_spark.schema_version"
# `deltalake` sets these versions by itself.
_PROTOCOL = {"delta.minReaderVersion": "1", "delta.minWriterVersion": "2"}
_PROPERTIES = {
    "delta.enableDeletionVectors": "false",
    "delta.checkpointPolicy": "classic",
    # `maintain` decides how long old versions are kept, since it knows which releases need them. By default, Delta
    # forgets the files of old versions after a week and the versions themselves after a month.
    "delta.deletedFileRetentionDuration": "interval 1000 days",
    "delta.logRetentionDuration": "interval 1000 days",
}


def create_table(lake: "Lake", table: Table) -> None:
    """Create a table, unless the lake has it."""
    if lake.location.folder and not local_tables.is_misread(Path(lake.path(table))):
        small_writes.create(Path(lake.path(table)), table, _properties(table))
        return
    columns = ", ".join(declared(sql_name(name), kind, meaning) for name, kind, meaning in table.fields())
    partition = f" PARTITIONED BY ({', '.join(table.partition_by)})" if table.partition_by else ""
    lake.spark.sql(
        f"CREATE TABLE IF NOT EXISTS {lake.identifier(table)} ({columns}) USING DELTA{partition} "
        f"COMMENT {sql_text(table.row)} TBLPROPERTIES ({sql_properties(table)})"
    )


def declared(column: str, kind: str, meaning: str) -> str:
    """A column as SQL declares it, with its meaning as comment."""
    return f"{column} {kind}" + (f" COMMENT {sql_text(meaning)}" if meaning else "")


def sql_properties(table: Table) -> str:
    """The properties of a table, as SQL lists them."""
    properties = _PROTOCOL | _properties(table)
    return ", ".join(f"{sql_text(key)} = {sql_text(value)}" for key, value in properties.items())


def _properties(table: Table) -> dict[str, str]:
    properties = {**_PROPERTIES, VERSION_PROPERTY: str(SCHEMA_VERSION)}
    if table.statistics:
        properties["delta.dataSkippingStatsColumns"] = ",".join(table.statistics)
    return properties
