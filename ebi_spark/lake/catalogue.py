"""A lake in a catalogue: the names of its tables, and which catalogues it can be in."""

import contextlib

from pyspark.sql import SparkSession

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.errors import InputError, spark_condition
from ebi_spark.quoting import sql_name
from ebi_spark.tables.table import Table


def catalogue_name(location: LakeLocation, table: Table) -> str:
    """The name of a table in SQL, for a lake in a catalogue."""
    return sql_name(str(location.catalog), location.schemas[table.layer], table.name)


def create_schemas(spark: SparkSession, location: LakeLocation) -> None:
    """Create the schemas of the lake that the catalogue does not have."""
    for schema in location.schemas.values():
        name = sql_name(str(location.catalog), schema)
        # A user of existing schemas may not have the right to create one, so this is asked first.
        if not spark.catalog.databaseExists(name):
            spark.sql(f"CREATE SCHEMA IF NOT EXISTS {name}")


def refuse_without_catalogue(spark: SparkSession, location: LakeLocation) -> None:
    """Raise an :class:`InputError` if the session does not have the lake's catalogue, or the catalogue ends with the
    session."""
    if not location.catalog:
        return
    if not outlasts_session(spark, location.catalog):
        raise InputError(
            f"the catalogue {location.catalog} exists only in this session and ends with it "
            "(spark.sql.catalogImplementation is in-memory); nothing was written",
            remedy="start Spark with a metastore or a catalogue of your platform, or name a folder as the lake",
        )
    try:
        spark.sql(f"SHOW SCHEMAS IN {sql_name(location.catalog)}").head(1)
    except Exception as error:  # each platform raises its own errors here
        condition = spark_condition(error) or type(error).__name__
        raise InputError(
            f"the session has no catalogue {location.catalog!r} that this user may read ({condition}); nothing was written",
            remedy="correct its name in `lake`, ask for permission to use it, or name a folder as the lake",
        ) from None


def outlasts_session(spark: SparkSession, catalog: str) -> bool:
    """Whether tables of a catalogue still exist after the session."""
    kind = None
    with contextlib.suppress(Exception):  # no default is given: it would be returned if nothing is set
        kind = spark.conf.get("spark.sql.catalogImplementation")
    return catalog != "spark_catalog" or kind != "in-memory"
