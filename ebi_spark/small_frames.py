"""Turn small tables that are made in Python (lookups, logs, policies) into Arrow tables and DataFrames.

``createDataFrame`` with a list starts Python worker processes in classic Spark. With an Arrow table it does not, and an
Arrow table works the same on Spark Connect.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import StructType

from ebi_spark.spark_types import parse_schema

# A row made in Python: values in the schema's order, or by column name.
Row = Sequence[Any] | Mapping[str, Any]


def small_frame(spark: SparkSession, rows: Sequence[Row], schema: str | StructType) -> DataFrame:
    """A DataFrame with exactly ``schema``, from ``rows`` as in :func:`small_table`."""
    wanted = schema if isinstance(schema, StructType) else parse_schema(schema)
    return spark.createDataFrame(small_table(rows, wanted), schema=wanted)


def small_table(rows: Sequence[Row], schema: StructType) -> pa.Table:
    """An Arrow table with exactly ``schema``, from ``rows``: tuples in the schema's order, or mappings by column name.

    A column that a mapping does not name is NULL. A time without a zone is taken as local time.
    """
    records = [
        {
            name: _value(value)
            for name, value in (row.items() if isinstance(row, Mapping) else zip(schema.names, row, strict=True))
        }
        for row in rows
    ]
    arrow = to_arrow_schema(schema)
    columns = [pa.array([record.get(field.name) for record in records], type=field.type) for field in arrow]
    return pa.Table.from_arrays(columns, schema=arrow)


def conform_table(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """``rows`` with exactly the columns of ``schema``, in their order and types. A column that ``rows`` lack is NULL."""
    there = set(rows.column_names)
    return pa.Table.from_arrays(
        [
            rows.column(field.name).cast(field.type) if field.name in there else pa.nulls(rows.num_rows, field.type)
            for field in schema
        ],
        schema=schema,
    )


@contextmanager
def kept(frame: DataFrame) -> Iterator[DataFrame]:
    """A frame of few rows that several queries read: the first query computes it, and the others read what Spark has kept. Where
    Spark refuses to keep frames (serverless compute), each query computes it."""
    refused = False
    try:
        frame.persist()
    except PySparkException:
        refused = True
    try:
        yield frame
    finally:
        if not refused:
            frame.unpersist()


def arrow_frame(spark: SparkSession, table: pa.Table) -> DataFrame:
    """A DataFrame from an Arrow table, with the table's types. They are given explicitly, because Spark Connect refuses a table without
    rows otherwise."""
    return spark.createDataFrame(table, schema=from_arrow_schema(table.schema))


def _value(value: Any) -> Any:
    if isinstance(value, dict):  # Arrow takes a map as a list of pairs
        return list(value.items())
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.astimezone(UTC)
    return value
