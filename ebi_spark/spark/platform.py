"""Whether a platform brings the session, and what a local session cannot do."""

import os
from collections.abc import Collection

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.errors import InputError


def platform_session() -> bool:
    """Whether the session comes from Databricks, spark-submit or Spark Connect."""
    return any(os.environ.get(name) for name in ("DATABRICKS_RUNTIME_VERSION", "PYSPARK_GATEWAY_PORT", "SPARK_REMOTE"))


def refuse_local_catalogue(lake: LakeLocation) -> None:
    """Raise an :class:`InputError` for a lake in a catalogue if the session is a local one: its catalogue, and with it
    the tables, would be lost when the session ends."""
    if lake.catalog and not platform_session():
        raise InputError(
            f"the lake is in the catalogue {lake.catalog!r}, but a local session has no permanent catalogue; nothing was "
            "written",
            remedy="name a folder (such as ./lake) as the lake, or run on a platform with a catalogue: Databricks, "
            "spark-submit or Spark Connect",
        )


def refuse_local_stores(stores: Collection[str]) -> None:
    """Raise an :class:`InputError` for an object store that a local session cannot reach."""
    other = sorted({*stores} - {"s3a"})
    if other and not platform_session():
        raise InputError(
            f"a local session cannot read or write {other[0]}://",
            remedy="run by spark-submit with the package for that store (docs/deployment.md), or on a platform that has it",
        )
